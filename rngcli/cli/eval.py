"""`rng eval`: score methods on benchmarks or on one's own pictures; compare two reports; fit NIQE's scene model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .completion import datasets, models

PICTURES, METHODS, METRICS, MODEL, REPORT = "Pictures", "Methods", "Metrics", "Model and machine", "What it tells"

evaluate = typer.Typer(
    help="Score methods on the field's benchmarks or on your own pictures, by protocols that are named.",
    invoke_without_command=True,
)


@evaluate.callback()
def measure(
    context: typer.Context,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="sidd | sidd-benchmark | div2k | cbsd68 | kodak24 | mcmaster | urban100 | polyu | cc",
            autocompletion=datasets,
            rich_help_panel=PICTURES,
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the datasets lie.", envvar="RNG_DATA", rich_help_panel=PICTURES),
    ] = None,
    pairs: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="NOISY CLEAN", help="Two folders, matched by name.", rich_help_panel=PICTURES),
    ] = None,
    clean: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Clean pictures; needs --sigma or --noise.", rich_help_panel=PICTURES),
    ] = None,
    sigma: Annotated[
        str,
        typer.Option(metavar="S,S,…", help="White noise, on the 0-255 scale: 15,25,50.", rich_help_panel=PICTURES),
    ] = "",
    noise: Annotated[
        str,
        typer.Option(
            metavar="N,N,…",
            help="awgn | awgn8 (as 8-bit files), both with --sigma | night | film | coarse | jpeg | bands.",
            rich_help_panel=PICTURES,
        ),
    ] = "",
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Only the first N of a set.", rich_help_panel=PICTURES)
    ] = None,
    crop: Annotated[
        int | None, typer.Option(metavar="PX", min=16, help="Centre crops of PX×PX.", rich_help_panel=PICTURES)
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="M,M,…",
            help="rng | reconstruct | fixed:N | budget:K | grain:S | input | nlm | wavelet | bm3d, side by side.",
            rich_help_panel=METHODS,
        ),
    ] = "rng",
    detail: Annotated[
        str, typer.Option(metavar="D,D,…", help="Shares of generated detail in [0, 1].", rich_help_panel=METHODS)
    ] = "1",
    max_steps: Annotated[
        str, typer.Option(metavar="N,N,…", help="At most N evaluations a tile.", rich_help_panel=METHODS)
    ] = "100",
    seed: Annotated[int, typer.Option(metavar="N", help="Of the generated detail.", rich_help_panel=METHODS)] = 0,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="M,M,…",
            help="psnr | ssim | lpips | lpips-alex | lpips-vgg | lpips-squeeze | niqe; all that can be had by default.",
            rich_help_panel=METRICS,
        ),
    ] = None,
    lpips_weights: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Holds the LPIPS files.", envvar="RNG_LPIPS", rich_help_panel=METRICS),
    ] = None,
    lpips_download: Annotated[
        bool, typer.Option("--lpips-download", help="Fetch the LPIPS files if absent.", rich_help_panel=METRICS)
    ] = False,
    niqe_model: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz|.mat", help="Another scene model for NIQE.", rich_help_panel=METRICS),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE", help="See `rng models list`.", autocompletion=models, rich_help_panel=MODEL
        ),
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
    report: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help=".json, .csv, .md or .html; may be given again.", rich_help_panel=REPORT
        ),
    ] = None,
    examples: Annotated[
        int, typer.Option(metavar="N", min=0, help="Pictures of each case in the HTML.", rich_help_panel=REPORT)
    ] = 3,
    submission: Annotated[
        Path | None,
        typer.Option(metavar="FILE.mat", help="sidd-benchmark: what SIDD's server takes.", rich_help_panel=REPORT),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The report as JSON on stdout.", rich_help_panel=REPORT)] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.", rich_help_panel=REPORT)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.", rich_help_panel=REPORT)] = False,
) -> None:
    """Score methods on the field's benchmarks or on your own pictures, by protocols that are named.

    Example: rng eval --clean photos/ --sigma 25,50 --method reconstruct,rng,bm3d --report scores.html

    With --report, a run that was stopped goes on where it was when the same command is given again.
    """
    if context.invoked_subcommand:
        return
    from .measuring import Settings, run

    settings = Settings(
        dataset=dataset, root=root, pairs=pairs, clean=clean, sigma=sigma, noise=noise, limit=limit, crop=crop,
        method=method, detail=detail, max_steps=max_steps, seed=seed, metric=metric, lpips_weights=lpips_weights,
        lpips_download=lpips_download, niqe_model=niqe_model, model=model, device=device, precision=precision,
        batch_size=batch_size, reports=tuple(report or ()), examples=examples, submission=submission, json=json,
        quiet=quiet,
    )  # fmt: skip
    raise typer.Exit(run(settings))


@evaluate.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A.json", help="A report.")],
    b: Annotated[Path, typer.Argument(metavar="B.json", help="Another one over the same set.")],
) -> None:
    """The paired difference B − A of every score, with its 95 % interval."""
    from rich.console import Console

    from ..evaluation.report import read
    from ..evaluation.report.comparison import compare, terminal

    Console().print(terminal(compare(read(a), read(b)), (a.stem, b.stem)))


@evaluate.command("fit-niqe")
def fit_niqe(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Clean photographs.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.npz", help="For --niqe-model.")],
) -> None:
    """Fit the natural-scene model that NIQE measures against."""
    from .measuring import fit_scene_model

    typer.echo(fit_scene_model(folder, out))
