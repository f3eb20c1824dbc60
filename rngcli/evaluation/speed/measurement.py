"""One run of the bench: from disk to disk, by stage, against plainer loops and the machine's roof."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ... import images
from ...batch.inputs import plan
from ...batch.worker import FileOptions, run
from ...device import describe
from ...inference.engine import Job, denoise
from ...inference.pipeline import Pipeline
from ...inference.scheduler import TileState
from ...methods.contract import Request
from .loops import PlainLoop, fixed_batches
from .peers import peer_speeds
from .roof import operations, roof, seconds
from .stages import StagedPipeline, counted_waits

STAGES = ("decode", "upload", "reconstruct", "control", "step", "blend", "encode")
RAMP = (0, 1, 2, 4, 8)  # evaluations a tile, for the line of cost by budget


@dataclass
class Figures:
    """What was measured: by the wall clock; shares in [0, 1]; None where there was nothing to measure."""

    device: str
    precision: str
    capacity: int
    megapixels: float
    tiles: int = 0
    end_to_end: float = 0.0  # [Mpx/s], files read and written, by the worker
    engine: float = 0.0  # [Mpx/s], pixels to pixels, each stage waited for
    seconds: dict[str, float] = field(default_factory=dict)  # by stage
    start_ms: float = 0.0  # a tile
    step_ms: float | None = None  # a tile
    evaluations: float = 0.0  # a tile
    occupancy: float = 1.0
    waits: int | None = None
    host_bytes: int = 0  # the most that was resident
    device_bytes: int | None = None
    roof: float = 0.0  # [FLOP/s] of a product of matrices in this precision
    start_share: float = 0.0  # of the roof
    step_share: float | None = None
    plain: float | None = None  # [Mpx/s]
    fixed: float | None = None  # [Mpx/s]
    fixed_occupancy: float | None = None
    budget_line: tuple[float, float, float] | None = None  # seconds a tile of 0 evaluations, of each more, and R²
    peers: dict[str, float | None] = field(default_factory=dict)  # [Mpx/s]

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"seconds_for_24_megapixels": 24 / self.end_to_end if self.end_to_end else None}


@dataclass(frozen=True)
class Subject:
    """What is measured: how a pipeline is opened, what is asked of it, and the pictures."""

    open: Callable[[type[Pipeline]], Pipeline]
    request: Request
    paths: Sequence[Path]


def measure(subject: Subject, tell: Callable[[str], None], *, loops: bool = True, peers: bool = True) -> Figures:
    """Every figure; `tell` hears what is being measured."""
    tell("decoding")
    begun = time.perf_counter()
    pictures = [images.read(path) for path in subject.paths]
    decoding = time.perf_counter() - begun
    pixels = [picture.pixels for picture in pictures]
    pipeline = subject.open(Pipeline)
    pipeline.require(subject.request)
    megapixels = sum(part.size for part in pixels) / 3e6
    precision = str(pipeline.dtype).removeprefix("torch.")
    figures = Figures(describe(pipeline.device), precision, pipeline.capacity, megapixels)
    tell("calls")
    _calls(figures, pipeline, subject.request)
    tell("from disk to disk")
    _end_to_end(figures, pipeline, subject)
    tell("stages")
    restored = _stages(figures, subject, pixels)
    begun = time.perf_counter()
    for picture, result in zip(pictures, restored, strict=True):
        scale = result.shape[0] // picture.pixels.shape[0]
        images.encode(picture.with_pixels(result) if scale == 1 else images.Image(result), picture.format)
    figures.seconds |= {"decode": decoding, "encode": time.perf_counter() - begun}
    if loops:
        tell("the plain loop, and batches that wait")
        _loops(figures, pipeline, subject.request, pixels)
    if peers:
        tell("peers")
        figures.peers = peer_speeds(max(pixels, key=np.size))
    return figures


def _calls(figures: Figures, pipeline: Pipeline, request: Request) -> None:
    """A full start and a full step, against the roof, and what evaluations cost."""
    device = pipeline.device
    picture = pipeline.upload(np.random.default_rng(0).random((*pipeline.frame.tile, 3), np.float32))
    tiles = [TileState(0, 0, slot=slot) for slot in range(pipeline.capacity)]
    seen = [picture] * len(tiles)
    pipeline.start(tiles, seen, request)  # warms up

    def start() -> None:
        pipeline.start(tiles, seen, request)

    figures.roof = roof(device, pipeline.dtype)
    best = min(seconds(start, device) for _ in range(3))
    figures.start_ms = 1e3 * best / len(tiles)
    figures.start_share = operations(start) / best / figures.roof
    if not (request.generates and any(tile.plan for tile in tiles)):
        return
    longest = max((tile.plan for tile in tiles), key=len)
    for tile in tiles:
        tile.plan = longest

    def step() -> None:
        pipeline.step(tiles, request.seed)

    step()
    best = min(seconds(step, device) for _ in range(3))
    figures.step_ms = 1e3 * best / len(tiles)
    figures.step_share = operations(step) / best / figures.roof


def _end_to_end(figures: Figures, pipeline: Pipeline, subject: Subject) -> None:
    with tempfile.TemporaryDirectory(prefix="rng-bench-") as folder:
        tasks = plan(subject.paths, Path(folder)).tasks
        begun = time.perf_counter()
        outcomes = list(run(tasks, pipeline, subject.request, FileOptions()))
        took = time.perf_counter() - begun
    if failed := next((outcome.error for outcome in outcomes if outcome.error), None):
        raise failed
    figures.end_to_end = figures.megapixels / took


def _stages(figures: Figures, subject: Subject, pixels: Sequence[np.ndarray]) -> list[np.ndarray]:
    pipeline = subject.open(StagedPipeline)
    assert isinstance(pipeline, StagedPipeline)
    if pipeline.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(pipeline.device)
    jobs = [Job(str(i), part) for i, part in enumerate(pixels)]
    begun = time.perf_counter()
    with counted_waits(pipeline.device) as waits:
        results = {result.key: result for result in denoise(jobs, pipeline, subject.request)}
    figures.engine = figures.megapixels / (time.perf_counter() - begun)
    if failed := next((result.error for result in results.values() if result.error), None):
        raise failed
    figures.seconds = {stage: pipeline.seconds[stage] for stage in STAGES if pipeline.seconds[stage]}
    figures.tiles = pipeline.tiles["blend"]
    figures.evaluations = sum(float(result.steps.sum()) for result in results.values()) / figures.tiles
    figures.occupancy, figures.waits = pipeline.occupancy, next(iter(waits), None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures.host_bytes = peak if sys.platform == "darwin" else 1024 * peak
    if pipeline.device.type == "cuda":
        figures.device_bytes = torch.cuda.max_memory_allocated(pipeline.device)
    return [results[job.key].pixels for job in jobs]


def _loops(figures: Figures, pipeline: Pipeline, request: Request, pixels: Sequence[np.ndarray]) -> None:
    """The smallest picture by the plain loop, all by batches that wait, and the line of cost by budget."""
    smallest = min(pixels, key=np.size)
    loop = PlainLoop(pipeline)
    took = seconds(lambda: loop.restore(smallest, request), pipeline.device)
    figures.plain = smallest.size / 3e6 / took
    rows: list[tuple[int, int]] = []
    took = seconds(lambda: rows.append(fixed_batches(pipeline, pixels, request)), pipeline.device)
    figures.fixed = figures.megapixels / took
    needed, stepped = rows[0]
    figures.fixed_occupancy = needed / stepped if stepped else 1.0
    if request.generates:
        figures.budget_line = budget_line(pipeline, smallest, request.seed)


def budget_line(pipeline: Pipeline, pixels: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Seconds a tile without an evaluation, of each evaluation more, and R² of that line, over runs of RAMP.

    On a CPU seconds of its own time, which other programs do not lengthen.
    """
    clock = time.process_time if pipeline.device.type == "cpu" else time.perf_counter
    costs = []
    for steps in (RAMP[0], *RAMP):  # the first run warms up
        request = Request(steps=steps, seed=seed)
        begun = clock()
        (result,) = denoise([Job("x", pixels)], pipeline, request)
        costs.append((clock() - begun) / result.steps.size)
    slope, first = np.polyfit(RAMP, costs[1:], 1)
    left = np.array(costs[1:]) - (first + slope * np.array(RAMP))
    return float(first), float(slope), 1 - float(left.var() / np.var(costs[1:]))
