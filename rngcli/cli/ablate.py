"""`rng ablate`: the paper's ablations in kind, on one's own photographs; what `make ablation` calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import __version__
from ..errors import Interrupted, ModelError, UsageError
from . import completion
from .train import Compile, Device, Size

if TYPE_CHECKING:
    from ..metrics.lpips import LPIPS


def ablate(
    data: Annotated[Path, typer.Option(metavar="DIR", help="A folder of clean photographs.")],
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="Where trainings and results are kept.")],
    minutes: Annotated[float, typer.Option(metavar="MIN", help="Of training, for all variants together.")] = 60,
    steps: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Instead: optimiser steps of every training.")
    ] = None,
    size: Size = "xs",
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART", help="strategy, condition, prediction, perceptual, parts, controller or start; repeatable."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="For `start`: this bundle; nothing is trained.",
            autocompletion=completion.models,
        ),
    ] = None,
    patches: Annotated[int, typer.Option(metavar="N", min=2, help="Held-out patches to measure on, for each σ.")] = 32,
    labels: Annotated[int, typer.Option(metavar="N", min=10, help="Patches that the controller learns from.")] = 200,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="At most so many pictures to train on, and as many held out.")
    ] = None,
    batch: Annotated[int, typer.Option(metavar="CROPS", min=1, help="Crops a batch.")] = 8,
    crop: Annotated[int, typer.Option(metavar="PX", min=32, help="Side of a crop, a multiple of 32.")] = 96,
    lpips_weights: Annotated[Path | None, typer.Option(metavar="DIR", help="Where LPIPS's weights lie.")] = None,
    report: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Also written there: .md or .json; repeatable.")
    ] = None,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(metavar="N", help="Of weights, crops and noise.")] = 0,
    compile: Compile = True,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.")] = False,
) -> None:
    """Train the method's variants, each for its share of the time, and say which of the paper's findings they repeat.

    The same command goes on where it was stopped; what is trained and measured is not done again.
    """
    import torch

    from ..data.degrade import SHARP, DegradeSpec
    from ..data.training_data import TrainingData
    from ..device import find_device
    from ..evaluation.ablation.ablation import Ablation
    from ..evaluation.ablation.findings import as_data, as_markdown
    from ..evaluation.ablation.rows import PARTS
    from ..evaluation.ablation.trainings import Effort
    from ..models.bundle import load
    from ..training.host import Host
    from .progress import Narrator

    keys = only or [part.key for part in PARTS]
    for key in set(keys) - {part.key for part in PARTS}:
        raise UsageError(f"no part is called {key!r}", f"choose from {', '.join(part.key for part in PARTS)}")
    for path in report or ():
        if path.suffix not in (".md", ".json"):
            raise UsageError(f"--report {path} is neither .md nor .json", "name it so")
    effort = Effort(steps, None if steps else minutes, size, seed, patches, labels, compile)
    white = DegradeSpec(gaussian_share=1.0, blur_share=SHARP)
    source = TrainingData(data, crop, batch, noise=white, limit=limit)
    place, host = find_device(device), Host(listener=Narrator())
    try:
        with host.interruption.heard():
            batches = source.load(place, host.listener.track, host.listener.say)
            lpips, own = _lpips(lpips_weights, str(place)), load(model) if model else None
            ablation = Ablation(run, batches, effort, lpips, own, host)
            parts = list(ablation.results(keys))
    except KeyboardInterrupt:
        raise Interrupted("interrupted", "the same command goes on from what is trained and measured") from None
    trained = any(result.steps for _, results in parts for result in results.values())
    facts = (ablation.settings if trained else {"crop": crop}) | {"patches": patches}
    facts |= {"model": ablation.model and ablation.model.hash, "device": str(place)}
    facts |= {"torch": torch.__version__, "rng": __version__}
    text = as_markdown(parts, facts)
    for path in report or ():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(as_data(parts, facts), indent=1) if path.suffix == ".json" else text)
    typer.echo(text, nl=False)


def _lpips(folder: Path | None, device: str) -> LPIPS | None:
    """LPIPS (squeeze); where its weights are absent and nobody named a folder for them, tables go without it."""
    from ..metrics.lpips import LPIPS

    try:
        return LPIPS.load("squeeze", folder, device)
    except ModelError as error:
        if folder:
            raise
        typer.echo(f"LPIPS n/a: {error}", err=True)
        return None
