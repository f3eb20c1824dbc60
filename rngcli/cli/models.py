"""`rng models list|show|verify`: which weights there are, where they come from, whether they are whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .options import DEFAULT_MODEL, ModelArgument

models = typer.Typer(help="List, show and verify model bundles.", no_args_is_help=True)


@models.command("list")
def list_models() -> None:
    """The shipped models: name, size in MB, SHA-256."""
    from ..models.bundle import DEFAULT, file_hash
    from ..models.model_zoo import available

    for path in available().values():
        mark = "  (default)" if path.stem == DEFAULT else ""
        typer.echo(f"{path.stem}  {path.stat().st_size / 1e6:.1f} MB  {file_hash(path)[:12]}{mark}")


@models.command()
def show(name: ModelArgument = DEFAULT_MODEL) -> None:
    """Networks, process, budgets and provenance of a model, as JSON."""
    from dataclasses import asdict

    from ..models.bundle import load

    bundle = load(name)
    facts = {
        "file": str(bundle.path),
        "sha256": bundle.hash,
        "parameters": {key: sum(p.numel() for p in net.parameters()) for key, net in bundle.networks().items()},
        "specs": {key: asdict(net.spec) for key, net in bundle.networks().items()},  # type: ignore[call-overload]
        "process": asdict(bundle.process),
        "budgets": [asdict(budget) for budget in bundle.budgets],
        "provenance": dict(bundle.provenance),
    }
    typer.echo(json.dumps(facts, indent=2))


@models.command()
def verify(name: ModelArgument = DEFAULT_MODEL) -> None:
    """Load every weight, compare the file with its published SHA-256 (the .sha256 beside it), and run one tile."""
    from ..errors import ModelError
    from ..inference.pipeline import Pipeline, Request
    from ..models.bundle import file_hash, load

    bundle = load(name)
    path = bundle.path or Path(name)
    found, published = file_hash(path), path.with_suffix(".sha256")
    if published.is_file() and published.read_text().split()[0] != found:
        raise ModelError(f"{path} is not what was published (SHA-256 {found[:12]} …)", "install it again")
    _run_one_tile(Pipeline(bundle, "cpu"), Request(steps=1 if bundle.generator else 0))
    known = "as published" if published.is_file() else "no published hash beside it"
    typer.echo(f"{path.stem}: whole, runs; SHA-256 {found[:12]} {known}")


@models.command("import")
def import_nafnet(
    source: Annotated[Path, typer.Argument(metavar="FILE.pth", help="A NAFNet checkpoint of its authors.")],
    out: Annotated[Path, typer.Argument(metavar="FILE.safetensors", help="The bundle to write.")],
) -> None:
    """Make a bundle of a published NAFNet; use it with --detail 0, or train a generator on top."""
    from ..errors import UsageError
    from ..models.bundle import Bundle, from_authors, save

    if out.suffix != ".safetensors":
        raise UsageError(f"{out} does not end in .safetensors", "name it so")
    net = from_authors(source)
    save(Bundle(net, provenance={"reconstruct": {"imported": source.name}}), out)
    typer.echo(
        f"{out}: NAFNet of width {net.spec.width}, {sum(p.numel() for p in net.parameters()) / 1e6:.2f} M parameters"
    )


def _run_one_tile(pipeline, request) -> None:  # type: ignore[no-untyped-def]
    import numpy as np

    from ..errors import ModelError
    from ..inference.engine import Job, denoise

    grey = np.full((64, 64, 3), 0.5, np.float32)
    (result,) = denoise([Job("grey", grey)], pipeline, request)
    if result.error or abs(float(result.pixels.mean()) - 0.5) > 0.1:
        raise ModelError("the model does not leave a grey picture grey", "install it again")
