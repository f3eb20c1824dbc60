"""`rng denoise IN OUT`: a picture or a folder in, a picture or a folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .completion import formats, models

PROCESS, MODEL, OUTPUT, REPORT = "How far it goes", "Model and machine", "Input and output", "What it tells"


def denoise(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="IN… OUT",
            help="Pictures, folders (with all below them) or globs; then a folder, which mirrors them, or the name of "
            "a single picture. A - is stdin or stdout.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="OUT", help="OUT, so that all arguments are inputs.", rich_help_panel=OUTPUT)
    ] = None,
    files_from: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|-", help="More inputs, one a line; each keeps its path below OUT.", rich_help_panel=OUTPUT
        ),
    ] = None,
    null: Annotated[
        bool, typer.Option("-0", "--null", help="The list's names end in NUL: find -print0.", rich_help_panel=OUTPUT)
    ] = False,
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
        str,
        typer.Option(
            metavar="NAME|FILE", help="See `rng models list`.", autocompletion=models, rich_help_panel=MODEL
        ),
    ] = "rng-s",
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="One of the model's methods; else its first: `rng models show`.", rich_help_panel=MODEL
        ),
    ] = None,
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
    suffix: Annotated[
        str, typer.Option(metavar="TEXT", help="Put before the dot of each output's name.", rich_help_panel=OUTPUT)
    ] = "",
    format: Annotated[
        str | None,
        typer.Option(
            metavar="jpeg|png|tiff|webp|avif",
            help="Instead of each source's own.",
            autocompletion=formats,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(metavar="1..100", min=1, max=100, help="Instead of each source's own.", rich_help_panel=OUTPUT),
    ] = None,
    strip_metadata: Annotated[
        bool, typer.Option("--strip-metadata", help="Keep the colour profile only.", rich_help_panel=OUTPUT)
    ] = False,
    max_pixels: Annotated[
        int, typer.Option(metavar="PIXELS", min=1, help="Refuse larger pictures unread.", rich_help_panel=OUTPUT)
    ] = 400_000_000,
    raw_bright: Annotated[
        bool, typer.Option("--raw-bright", help="Camera RAW: automatic exposure, by LibRaw.", rich_help_panel=OUTPUT)
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Do all again; replace files of others, too.", rich_help_panel=OUTPUT),
    ] = False,
    fail_fast: Annotated[
        bool,
        typer.Option(
            "--fail-fast",
            help="End at the first failure: begin no other picture, drop those half done, finish writing.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    step_map: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="How much detail each tile got: DIR/NAME.steps.png.", rich_help_panel=OUTPUT),
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
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append every line to it, as text.", rich_help_panel=REPORT)
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a picture on stdout.", rich_help_panel=REPORT)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only failures.", rich_help_panel=REPORT)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.", rich_help_panel=REPORT)] = False,
) -> None:
    """Denoise pictures, and every picture below a folder.

    Example: rng denoise photos/ clean/ --detail 0.7

    What is done with these settings is left alone: the same command goes on.
    A file that rng did not make is never replaced unasked.
    A broken one never stops the others: it is named at the end, the exit code is 1.

    Also: find photos -name '*.jpg' -print0 | rng denoise --files-from - -0 --out clean/ --json
    """
    from .batch import run
    from .options import Settings

    settings = Settings(
        paths=tuple(paths or ()), out=out, files_from=files_from, null=null, max_steps=max_steps, steps=steps,
        detail=detail, seed=seed, model=model, method=method, device=device, precision=precision,
        batch_size=batch_size, suffix=suffix, format=format, quality=quality, strip_metadata=strip_metadata,
        max_pixels=max_pixels, raw_bright=raw_bright, overwrite=overwrite, fail_fast=fail_fast, step_map=step_map,
        dry_run=dry_run, reference=reference, report=report, log=log, json=json, quiet=quiet,
    )  # fmt: skip
    raise typer.Exit(run(settings))
