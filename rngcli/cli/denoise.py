"""`rng denoise IN OUT`: a picture or a folder in, a picture or a folder out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..defaults import DEFAULT_MODEL, MOST_STEPS
from ..errors import Exit
from . import completion
from .options import (
    MODEL,
    OUTPUT,
    PROCESS,
    REPORT,
    BatchSize,
    Debug,
    Devices,
    MethodName,
    Model,
    Precision,
    Quiet,
    Seed,
    finite,
)
from .presets import ORDER
from .restoration import Restoration


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
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            max=MOST_STEPS,
            help="At most N evaluations of the generator a tile; by default what suits the method, for rng 2.",
            rich_help_panel=PROCESS,
        ),
    ] = None,
    steps: Annotated[
        str,
        typer.Option(
            metavar="auto|N",
            help="Evaluations of every tile, as far as --max-steps allows; auto: the controller decides.",
            autocompletion=completion.words("auto"),
            rich_help_panel=PROCESS,
        ),
    ] = "auto",
    detail: Annotated[
        float,
        typer.Option(
            metavar="0..1",
            min=0,
            max=1,
            callback=finite,
            help="Share of the generated detail; 0: none.",
            rich_help_panel=PROCESS,
        ),
    ] = 1.0,
    strength: Annotated[
        float,
        typer.Option(
            metavar="0..1",
            min=0,
            max=1,
            callback=finite,
            help="Share of the noise to take away: 1 takes all of it, 0 none.",
            rich_help_panel=PROCESS,
        ),
    ] = 1.0,
    luma: Annotated[
        float,
        typer.Option(
            metavar="0..1",
            min=0,
            max=1,
            callback=finite,
            help="Share of the noise in brightness to take away: 0.7 leaves some grain, without colour.",
            rich_help_panel=PROCESS,
        ),
    ] = 1.0,
    chroma: Annotated[
        float,
        typer.Option(
            metavar="0..1",
            min=0,
            max=1,
            callback=finite,
            help="Share of the noise in colour to take away.",
            rich_help_panel=PROCESS,
        ),
    ] = 1.0,
    noise_scale: Annotated[
        float,
        typer.Option(
            metavar="0.25..4",
            min=0.25,
            max=4,
            callback=finite,
            help="Take the noise for so many times as strong as it looks: above 1 for the grain of film.",
            rich_help_panel=PROCESS,
        ),
    ] = 1.0,
    keep_banding: Annotated[
        bool,
        typer.Option(
            "--keep-banding",
            help="Leave offsets of whole rows and columns: for pictures that are made of lines.",
            rich_help_panel=PROCESS,
        ),
    ] = False,
    seed: Seed = 0,
    sigma: Annotated[
        str,
        typer.Option(
            metavar="auto|S",
            help="The noise's standard deviation, 0..255, for methods that need it; auto: estimated.",
            autocompletion=completion.words("auto"),
            rich_help_panel=PROCESS,
        ),
    ] = "auto",
    model: Model = DEFAULT_MODEL,
    method: MethodName = None,
    device: Devices = "auto",
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS|local",
            help="Share the pictures among the machines of a Ray cluster, which see the same files.",
            autocompletion=completion.clusters,
            rich_help_panel=MODEL,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=100_000,
            help="Workers of the cluster; else one a GPU, or a CPU.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    precision: Precision = "auto",
    batch_size: BatchSize = 0,
    suffix: Annotated[
        str, typer.Option(metavar="TEXT", help="Put before the dot of each output's name.", rich_help_panel=OUTPUT)
    ] = "",
    format: Annotated[
        str | None,
        typer.Option(
            metavar="jpeg|png|tiff|webp|avif|heic|jxl|dng",
            help="Instead of each source's own; dng: linear, of camera RAW only.",
            autocompletion=completion.formats,
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
    raw_space: Annotated[
        str,
        typer.Option(
            metavar="srgb|p3|prophoto",
            help="Camera RAW: colour space.",
            autocompletion=completion.words("srgb", "p3", "prophoto"),
            rich_help_panel=OUTPUT,
        ),
    ] = "srgb",
    keep_hot_pixels: Annotated[
        bool, typer.Option("--keep-hot-pixels", help="Camera RAW: replace none of them.", rich_help_panel=OUTPUT)
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
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="i/n",
            help="Only part i of n, from 1, by the names' hash: for Slurm arrays and GNU parallel.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"The settings of [preset.NAME] in rng.toml. {ORDER}",
            autocompletion=completion.presets,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Instead of ./rng.toml, or else the one in your folder of settings.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Say what would be done, and how long it takes; touch nothing.", rich_help_panel=OUTPUT
        ),
    ] = False,
    preview: Annotated[
        tuple[str, Path] | None,
        typer.Option(
            metavar="PX[@X,Y] FILE",
            help="No output but FILE, .png or .html: a part of PX by PX, the noisiest with texture or that at X,Y, as "
            "it is and with --detail 0, 0.5 and 1; and how long all will take.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Clean pictures, by folder and stem: adds scores.", rich_help_panel=REPORT),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json|.csv|.html",
            help="One row a picture; .html: a page with each before and after, worst first.",
            rich_help_panel=REPORT,
        ),
    ] = None,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append every line to it, as text.", rich_help_panel=REPORT)
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a picture on stdout.", rich_help_panel=REPORT)
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Denoise pictures, and every picture below a folder.

    Example: rng denoise photos/ clean/ --detail 0.7

    What is done with these settings is left alone: the same command goes on.
    A file that rng did not make is never replaced unasked.
    A broken one never stops the others: it is named at the end, the exit code is 1.

    First, perhaps: rng denoise photos/ --preview 512 preview.png

    Also: find photos -name '*.jpg' -print0 | rng denoise --files-from - -0 --out clean/ --json
    """
    raise typer.Exit(run_command(locals()))


def run_command(given: Mapping[str, Any], restoration: Callable[[], Restoration] = Restoration) -> Exit:
    """Do what the options of `denoise` say, `given` by their names; other commands have a `restoration` to do."""
    from .progress import waiting

    with waiting("loading …", given["quiet"]):
        from .processing import run_command  # late: help needs no codec
    return run_command(given, restoration)
