"""What `rng eval` does once its options are read: opens sets, metrics and methods, runs them, tells and reports."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .. import __version__
from ..data import Benchmark, clean_folder, named, paired, with_noise, write_submission
from ..errors import EnvironmentFault, Exit, Interrupted, PictureError, UsageError
from ..evaluation import Evaluation, Plan, Sweep, methods
from ..evaluation.report import Report, Row, form_of, terminal, write
from ..evaluation.report.tables import as_json
from ..images import read
from ..inference.engine import Result
from ..inference.pipeline import Pipeline
from ..metrics.niqe import fit
from ..metrics.suite import Judge, Options
from ..models.bundle import load


@dataclass(frozen=True)
class Settings:
    """The options of `rng eval`, as they were given."""

    dataset: str | None = None
    root: Path | None = None
    pairs: tuple[Path, Path] | None = None
    clean: Path | None = None
    sigma: str = ""
    noise: str = ""
    limit: int | None = None
    crop: int | None = None
    method: str = "rng"
    detail: str = "1"
    max_steps: str = "100"
    seed: int = 0
    metric: str | None = None
    lpips_weights: Path | None = None
    lpips_download: bool = False
    niqe_model: Path | None = None
    model: str = "rng-s"
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 0
    reports: tuple[Path, ...] = ()
    examples: int = 3
    submission: Path | None = None
    json: bool = False
    quiet: bool = False


def run(settings: Settings) -> Exit:
    """Measure, tell, report. Problems with single pictures are named at the end and make the exit code 1."""
    for path in (*settings.reports, *([settings.submission] if settings.submission else [])):
        _check_writable(path)
    for path in settings.reports:
        form_of(path)
    plan = _plan(settings)
    submission = _Submission(plan.benchmarks[0]) if settings.submission else None
    evaluation = Evaluation(plan, _journal(settings), on_output=submission)
    try:
        with _progress(settings, plan.total) as on_row:
            evaluation.on_row = on_row
            report = evaluation.run("rng eval: " + ", ".join(b.name for b in plan.benchmarks))
    except KeyboardInterrupt:
        remedy = "the same command goes on from there" if evaluation.journal else "with --report it could go on"
        raise Interrupted(f"interrupted after {len(evaluation.rows)} of {plan.total} rows", remedy) from None
    _tell(settings, report)
    for path in settings.reports:
        write(report, path)
    if settings.submission and submission:
        submission.write(settings.submission, report)
    evaluation.finish()
    return _settle(report)


def _journal(settings: Settings) -> Path | None:
    # A submission needs the pixels of every block, which no journal keeps.
    if not settings.reports or settings.submission:
        return None
    return settings.reports[0].with_name(settings.reports[0].name + ".partial")


def fit_scene_model(folder: Path, out: Path) -> str:
    """Fit NIQE's scene model on the pictures below `folder`; returns what to say about it."""
    _check_writable(out)
    files = clean_folder(folder)
    used: list[Path] = []

    def pictures() -> Iterator[torch.Tensor]:
        for path in files:
            try:
                pixels = read(path).pixels
            except PictureError as error:
                print(f"left out {path}: {error}", file=sys.stderr)
                continue
            if min(pixels.shape[:2]) >= 96:
                used.append(path)
                yield torch.from_numpy(pixels).permute(2, 0, 1)

    model = fit(pictures(), f"fitted on photographs of {folder.resolve().name}")
    model.save(out)
    return f"{out}: fitted on {len(used)} of {len(files)} pictures"


# --- opening ---------------------------------------------------------------------------------------------------


def _plan(settings: Settings) -> Plan:
    benchmarks = [b.limited(settings.limit).cropped(settings.crop) for b in _benchmarks(settings)]
    if settings.submission and settings.dataset != "sidd-benchmark":
        raise UsageError("a submission is made from --dataset sidd-benchmark", "leave out --submission")
    sweep = Sweep(
        _numbers("--detail", settings.detail, float), _numbers("--max-steps", settings.max_steps, int), settings.seed
    )
    if not all(0 <= detail <= 1 for detail in sweep.details):
        raise UsageError(f"--detail {settings.detail} leaves [0, 1]", "0 is the reconstruction alone, 1 all detail")
    opened: list[Pipeline] = []

    def pipeline() -> Pipeline:
        bundle = load(settings.model)
        opened.append(Pipeline(bundle, settings.device, settings.precision, settings.batch_size or None))
        return opened[0]

    columns = methods(_words(settings.method), sweep, pipeline)
    device = opened[0].device if opened else torch.device("cpu")
    judge = Judge(
        Options(
            _words(settings.metric) if settings.metric else None,
            settings.lpips_weights,
            settings.lpips_download,
            settings.niqe_model,
            # Metal has no float64, in which the metrics count.
            str(device) if device.type == "cuda" else "cpu",
        )
    )
    return Plan(benchmarks, columns, judge, settings.examples, _provenance(settings, opened))


def _benchmarks(settings: Settings) -> list[Benchmark]:
    sources = [settings.dataset, settings.pairs, settings.clean]
    if sum(source is not None for source in sources) != 1:
        raise UsageError("say what to measure on, once", "--dataset NAME, --pairs NOISY CLEAN or --clean DIR --sigma S")
    sigmas = _numbers("--sigma", settings.sigma, float) if settings.sigma else ()
    if settings.dataset is not None:
        return named(settings.dataset, settings.root, sigmas, _words(settings.noise))
    if settings.pairs is not None:
        if sigmas or settings.noise:
            raise UsageError("--pairs have noise of their own", "leave out --sigma and --noise")
        return [paired(*settings.pairs)]
    assert settings.clean is not None
    return with_noise(settings.clean, sigmas, _words(settings.noise) or ("awgn",))


def _provenance(settings: Settings, opened: list[Pipeline]) -> dict[str, str]:
    facts = {"rng": __version__, "torch": torch.__version__, "numpy": np.__version__}
    for pipeline in opened:
        name = torch.cuda.get_device_name(pipeline.device) if pipeline.device.type == "cuda" else str(pipeline.device)
        facts |= {
            "model": f"{Path(settings.model).stem} ({pipeline.bundle.hash or 'no file'})",
            "device": name,
            "precision": str(pipeline.dtype).removeprefix("torch."),
            "tiles in a batch": str(pipeline.capacity),
            "detail": settings.detail,
            "max steps": settings.max_steps,
            "seed": str(settings.seed),
        }
    return facts


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(option: str, text: str, kind: type) -> tuple:
    try:
        found = tuple(kind(word) for word in _words(text))
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is no list of numbers", "separate them by commas") from error
    if not found or min(found) < 0:
        raise UsageError(f"{option} {text!r} holds no numbers of 0 and more", "separate them by commas")
    return found


def _check_writable(path: Path) -> None:
    """An hour's run must not end at a report that cannot be written."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder", "name a file")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise EnvironmentFault(f"{path} cannot be written", f"{folder} takes no files; choose another place")


# --- telling ---------------------------------------------------------------------------------------------------


@contextmanager
def _progress(settings: Settings, total: int) -> Iterator[Callable[[Row], None]]:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if settings.quiet or not console.is_terminal:
        seen = iter(range(1, total + 1))

        def line(row: Row) -> None:
            scores = "  ".join(f"{key} {value:.4f}" for key, value in row.scores.items() if value is not None)
            console.print(f"{next(seen)}/{total}  {row.case}  {row.method}  {row.key}  {scores}", markup=False)

        yield (lambda row: None) if settings.quiet else line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task("measuring", total=total)
        yield lambda row: bar.update(task, advance=1, description=f"{row.case}  {row.method}")


def _tell(settings: Settings, report: Report) -> None:
    if settings.json:
        print(as_json(report), end="")
        return
    # Pipes have no width: rich would fold the table into 80 columns.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    console.print(terminal(report))


def _settle(report: Report) -> Exit:
    for problem in report.problems:
        print(f"failed: {problem}", file=sys.stderr)
    if not report.rows:
        print("rng: no picture could be measured", file=sys.stderr)
        return Exit.NO_INPUT
    return Exit.SOME_FAILED if report.problems else Exit.OK


class _Submission:
    """Collects the denoised blocks of SIDD's benchmark, as bytes, for its server."""

    def __init__(self, benchmark: Benchmark) -> None:
        images, blocks = (max(int(key.split("-")[part]) for key in benchmark.keys) + 1 for part in (0, 1))
        self._shape = images, blocks
        self._blocks: np.ndarray | None = None
        self._method = ""

    def __call__(self, method: str, result: Result) -> None:
        if self._method and method != self._method:
            raise UsageError("a submission is of one method", "name one with --method")
        self._method = method
        if self._blocks is None:
            self._blocks = np.zeros((*self._shape, *result.pixels.shape), np.uint8)
        image, block = (int(part) for part in result.key.split("-"))
        self._blocks[image, block] = np.rint(result.pixels.clip(0, 1) * 255)

    def write(self, path: Path, report: Report) -> None:
        """The .mat file, with the seconds a megapixel that its table asks for."""
        if self._blocks is not None:
            seconds = sum(row.seconds for row in report.rows) / sum(row.megapixels for row in report.rows)
            write_submission(path, self._blocks, seconds, f"rng {__version__} {self._method}")
