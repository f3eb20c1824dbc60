"""`rng denoise IN OUT`: a picture or a folder in, a picture or a folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PROCESS, MODEL, OUTPUT, REPORT = "How far it goes", "Model and machine", "Output", "What it tells"


def denoise(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A picture, or a folder (with all below it).")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder, which mirrors IN; or a picture's name.")],
    max_steps: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="At most N evaluations of the generator a tile.", rich_help_panel=PROCESS
        ),
    ] = 100,
    steps: Annotated[
        str, typer.Option(metavar="auto|N", help="auto: the controller decides, tile by tile.", rich_help_panel=PROCESS)
    ] = "auto",
    detail: Annotated[
        float,
        typer.Option(
            metavar="0..1", min=0, max=1, help="Share of the generated detail; 0: none.", rich_help_panel=PROCESS
        ),
    ] = 1.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the generated detail.", rich_help_panel=PROCESS)] = 0,
    model: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="See `rng models list`.", rich_help_panel=MODEL)
    ] = "rng-s",
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda[:i]|mps", help="Where to compute.", rich_help_panel=MODEL)
    ] = "auto",
    precision: Annotated[
        str, typer.Option(metavar="auto|fp32|bf16|fp16", help="auto: bf16 where it is fast.", rich_help_panel=MODEL)
    ] = "auto",
    batch_size: Annotated[
        int,
        typer.Option(metavar="TILES", min=0, help="Tiles in a batch; 0: what suits the device.", rich_help_panel=MODEL),
    ] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Do again what is done already.", rich_help_panel=OUTPUT)
    ] = False,
    step_map: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw where the steps went, a PNG each.", rich_help_panel=OUTPUT)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; touch nothing.", rich_help_panel=OUTPUT)
    ] = False,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Clean pictures of the same names: adds scores.", rich_help_panel=REPORT),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.json|.csv", help="One row a picture.", rich_help_panel=REPORT)
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a picture on stdout.", rich_help_panel=REPORT)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only failures.", rich_help_panel=REPORT)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.", rich_help_panel=REPORT)] = False,
) -> None:
    """Denoise a picture, or every picture below a folder.

    Example: rng denoise photos/ clean/ --detail 0.7

    What is done already is left alone, so an interrupted run is taken up by the same command. One broken file never
    stops the others: it is named at the end, and the exit code is 1.
    """
    from .batch import Settings, run

    settings = Settings(
        source=source, out=out, max_steps=max_steps, steps=steps, detail=detail, seed=seed, model=model, device=device,
        precision=precision, batch_size=batch_size, overwrite=overwrite, step_map=step_map, dry_run=dry_run,
        reference=reference, report=report, json=json, quiet=quiet,
    )  # fmt: skip
    raise typer.Exit(run(settings))
