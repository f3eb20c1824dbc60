"""What `rng denoise` does once it is parsed: plan, load, run, tell."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import numpy as np

from ..errors import Exit, Interrupted, RngError, UsageError
from ..tree import Task, plan
from .telling import Teller, reported

if TYPE_CHECKING:
    from ..pipeline import Pipeline, Request
    from ..worker import Outcome


@dataclass(frozen=True)
class Settings:
    """The options of `rng denoise`, as given."""

    source: Path
    out: Path
    max_steps: int
    steps: str
    detail: float
    seed: int
    model: str
    device: str
    precision: str
    batch_size: int
    overwrite: bool
    step_map: Path | None
    dry_run: bool
    reference: Path | None
    report: Path | None
    json: bool
    quiet: bool


def run(settings: Settings) -> Exit:
    """Denoise as the settings say; the exit code."""
    tell = Teller(settings.json, settings.quiet)
    request = _request(settings)
    _check(settings)
    tasks = plan(settings.source, settings.out)
    todo = tasks if settings.overwrite else [task for task in tasks if not task.is_done()]
    if settings.dry_run:
        for task in todo:
            tell.say(f"{task.source} -> {task.target}")
        tell.say(f"{len(todo)} to do, {len(tasks) - len(todo)} done already")
        return Exit.OK
    outcomes: list[Outcome] = []
    if todo:
        outcomes = _denoise(todo, settings, request, tell)
    tell.summary(outcomes, skipped=len(tasks) - len(todo))
    return Exit.SOME_FAILED if any(outcome.error for outcome in outcomes) else Exit.OK


def _check(settings: Settings) -> None:
    """What can be refused before anything is loaded."""
    if settings.report and settings.report.suffix not in (".json", ".csv"):
        raise UsageError(f"--report {settings.report} is neither .json nor .csv", "name it so")
    if settings.reference and not settings.reference.is_dir():
        raise UsageError(f"--reference {settings.reference} is no folder", "give the folder of the clean pictures")


def _request(settings: Settings) -> Request:
    from ..pipeline import Request

    if settings.steps == "auto":
        return Request(settings.max_steps, None, settings.detail, settings.seed)
    if not settings.steps.isdecimal():
        raise UsageError(f"--steps {settings.steps!r} is neither auto nor a number", "give auto, or a number from 0 on")
    return Request(settings.max_steps, int(settings.steps), settings.detail, settings.seed)


def _denoise(todo: list[Task], settings: Settings, request: Request, tell: Teller) -> list[Outcome]:
    from .. import worker

    pipeline = load_pipeline(settings.model, settings.device, settings.precision, settings.batch_size)
    score = scorer() if settings.reference else None
    files = worker.Files(reference=settings.reference, score=score, step_maps=settings.step_map)
    outcomes: list[Outcome] = []
    with terminable(), tell.progress(len(todo)) as on_step, reported(settings.report, outcomes):
        try:
            for outcome in worker.run(todo, pipeline, request, files, on_step):
                outcomes.append(outcome)
                tell.outcome(outcome)
        except KeyboardInterrupt:
            remedy = "what is written is whole; the same command goes on from there"
            raise Interrupted(f"interrupted after {len(outcomes)} of {len(todo)} pictures", remedy) from None
    return outcomes


def load_pipeline(model: str, device: str, precision: str, batch_size: int) -> Pipeline:
    """The networks of `model` on `device`; batch_size 0 is the device's own."""
    from ..checkpoint import load
    from ..pipeline import Pipeline

    return Pipeline(load(model), device, precision, batch_size or None)


def scorer() -> Callable[[np.ndarray, np.ndarray], Mapping[str, float]]:
    """(denoised, clean), (H, W, 3) in [0, 1] each -> PSNR [dB], SSIM, and LPIPS where its weights are at hand."""
    import torch

    from ..metrics.fidelity import psnr, ssim
    from ..metrics.lpips import LPIPS

    try:
        perceptual = LPIPS.load("squeeze")
    except RngError:
        perceptual = None

    def score(denoised: np.ndarray, clean: np.ndarray) -> Mapping[str, float]:
        x, y = (torch.from_numpy(np.ascontiguousarray(p)).permute(2, 0, 1)[None] for p in (denoised, clean))
        scores = {"psnr": float(psnr(x, y, data_range=1.0)), "ssim": float(ssim(x, y, data_range=1.0))}
        if perceptual:
            scores["lpips"] = float(perceptual(x, y))
        return scores

    return score


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends the work as Ctrl-C does: nothing half-written."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
