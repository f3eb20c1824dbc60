"""`rng eval`: score methods on benchmarks or on one's own pictures; compare two reports; fit NIQE's scene model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..defaults import DEFAULT_MODEL, MOST_STEPS
from ..errors import Exit, Interrupted, UsageError
from ..signals import interruptible
from . import completion
from .eval_output import row_progress, settle, tell
from .options import REPORT, BatchSize, Debug, Device, Model, Precision, Quiet, Seed

if TYPE_CHECKING:
    from ..evaluation import EvaluationPlan

PICTURES, METHODS, METRICS = "Pictures", "Methods", "Metrics"

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
            autocompletion=completion.datasets,
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
            autocompletion=completion.noises,
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
            help="rng | reconstruct | fixed:N | budget:K | blend:W | grain:S | input | nlm | wavelet | bm3d, "
            "side by side. blend: the reconstruction with a share W of the noisy picture left in; grain: under white "
            "noise of σ S. Without W and S: as much as costs the PSNR of rng, picture by picture.",
            autocompletion=completion.compared,
            rich_help_panel=METHODS,
        ),
    ] = "rng",
    detail: Annotated[
        str, typer.Option(metavar="D,D,…", help="Shares of generated detail in [0, 1].", rich_help_panel=METHODS)
    ] = "1",
    max_steps: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,…", help="At most N evaluations a tile; else as `rng denoise`.", rich_help_panel=METHODS
        ),
    ] = None,
    seed: Seed = 0,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="M,M,…",
            help="psnr | ssim | haarpsi | lpips | lpips-alex | lpips-vgg | lpips-squeeze | niqe | placement | flat | "
            "spectrum | brightest; by default psnr, ssim, lpips and niqe, those that can be had.",
            autocompletion=completion.metrics,
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
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
    precision: Precision = "auto",
    batch_size: BatchSize = 0,
    report: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help=".json, .csv, .md or .html; may be given again.", rich_help_panel=REPORT),
    ] = None,
    examples: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Pictures of each case in the HTML, beside the worst; 0: none at all.",
            rich_help_panel=REPORT,
        ),
    ] = 3,
    submission: Annotated[
        Path | None,
        typer.Option(metavar="FILE.mat", help="sidd-benchmark: what SIDD's server takes.", rich_help_panel=REPORT),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The report as JSON on stdout.", rich_help_panel=REPORT)] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Score methods on the field's benchmarks or on your own pictures, by protocols that are named.

    Example: rng eval --clean photos/ --sigma 25,50 --method reconstruct,rng,bm3d --report scores.html

    With --report, a run that was stopped goes on where it was when the same command is given again.
    """
    if context.invoked_subcommand:
        return
    from ..batch.ownership import check_place
    from ..device import heed_cpu_quota
    from ..evaluation import ModelOptions, SetOptions, Sweep, open_plan
    from ..evaluation.report import form_of
    from ..metrics.suite import Options

    heed_cpu_quota()
    for path in report or ():
        check_place(path, "the report")
        form_of(path)
    if report:
        check_place(_journal_of(report[0]), "the journal")
    if submission:
        check_place(submission, "the submission")
    if submission and dataset != "sidd-benchmark":
        raise UsageError("a submission is made from --dataset sidd-benchmark", "leave out --submission")
    sigmas = _numbers("--sigma", sigma, float) if sigma else ()
    details = _numbers("--detail", detail, float)
    most = (None,) if max_steps is None else _numbers("--max-steps", max_steps, int)
    if not all(0 <= share <= 1 for share in details):
        raise UsageError(f"--detail {detail} leaves [0, 1]", "0 is the reconstruction alone, 1 all detail")
    plan = open_plan(
        SetOptions(dataset, root, pairs, clean, sigmas, _words(noise), limit, crop),
        _words(method),
        Sweep(details, most, seed),
        ModelOptions(model, device, precision, batch_size or None),
        Options(_words(metric) if metric else None, lpips_weights, lpips_download, niqe_model),
        examples,
    )
    raise typer.Exit(_run(plan, report or [], submission, json, quiet))


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
    from ..batch.ownership import check_place
    from ..evaluation.outputs import fit_scene_model
    from . import progress

    check_place(out, "the model")
    used, count, problems = fit_scene_model(folder, out)
    for problem in problems:
        progress.write(f"left out {problem}")
    typer.echo(f"{out}: fitted on {used} of {progress.counted(count, 'pictures')}")


def _run(plan: EvaluationPlan, reports: Sequence[Path], submission: Path | None, json: bool, quiet: bool) -> Exit:
    """Measure, tell, report. Problems with single pictures are named at the end and make the exit code 1."""
    from ..evaluation import Evaluation
    from ..evaluation.outputs import Submission
    from ..evaluation.report import write

    blocks = Submission(plan.benchmarks[0]) if submission else None
    # A submission needs the pixels of every block, which no journal keeps.
    journal = _journal_of(reports[0]) if reports and not submission else None
    evaluation = Evaluation(plan, journal, on_output=blocks)
    try:
        with interruptible(), row_progress(plan.total, quiet) as evaluation.on_row:
            report = evaluation.run("rng eval: " + ", ".join(b.name for b in plan.benchmarks))
    except KeyboardInterrupt:
        remedy = "the same command goes on from there" if journal else "with --report it could go on"
        raise Interrupted(f"interrupted after {len(evaluation.rows)} of {plan.total} rows", remedy) from None
    # On disk first: what is printed may find nobody who takes it.
    for path in reports:
        write(report, path)
    if submission and blocks:
        blocks.write(submission, report)
    evaluation.finish()
    tell(report, json)
    return settle(report)


def _journal_of(report: Path) -> Path:
    return report.with_name(report.name + ".partial")


# --- reading ---------------------------------------------------------------------------------------------------


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(option: str, text: str, kind: type) -> tuple:
    try:
        found = tuple(kind(word) for word in _words(text))
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is no list of numbers", "separate them by commas") from error
    if not found or not all(0 <= number <= MOST_STEPS for number in found):
        raise UsageError(f"{option} {text!r} holds no numbers 0..{MOST_STEPS}", "separate them by commas")
    return found
