"""Pictures in, results out: a generator that tiles, schedules and blends, and asks for a picture when it has room."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import PictureError
from ..methods.contract import Frame, Request
from .noise_level import noise_level
from .pipeline import Crop, Pipeline
from .scheduler import Scheduler, TileState
from .tiling import Canvas, Grid


@dataclass(frozen=True)
class Job:
    """A picture to restore: `key` is the caller's; pixels (H, W, 3) float32 in [0, 1].

    Where some pixels are holes, valid (H, W) bool is false there; sigma: σ_n on the [0, 1] scale, NaN: to be estimated.
    """

    key: str
    pixels: np.ndarray
    valid: np.ndarray | None = None
    sigma: float = float("nan")


@dataclass(frozen=True)
class Result:
    """A picture restored: pixels (H, W, 3) float32 in [0, 1], at the method's scale.

    steps (rows, cols): the evaluations of each tile; starts (rows, cols) in [0, 1]: how far in the noise it started, as
    a share of the fullest start; `grid` says where these tiles lie, and is None where there were none. Where `error` is
    set, the picture failed and the pixels are the input's.
    """

    key: str
    pixels: np.ndarray
    steps: np.ndarray
    seconds: float  # from the picture's first tile to its last; pictures overlap
    error: PictureError | None = None
    starts: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    grid: Grid | None = None


@dataclass
class _Picture:
    """A picture in flight: the tiles of its grid are cut from its pixels, and blended on the canvas."""

    job: Job
    frame: Frame
    grid: Grid
    canvas: Canvas
    steps: np.ndarray
    starts: np.ndarray
    begun: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, job: Job, frame: Frame) -> _Picture:
        grid = Grid.of(job.pixels.shape[0], job.pixels.shape[1], frame)
        canvas, shape = Canvas(grid.magnified(frame.scale)), (grid.rows, grid.cols)
        return cls(job, frame, grid, canvas, np.zeros(shape, np.int32), np.zeros(shape, np.float32))

    def crop(self, i: int) -> Crop:
        """What tile i sees."""
        margin = self.frame.context
        valid = self.grid.inside(i, margin)
        if self.job.valid is not None:
            valid &= self.grid.crop(self.job.valid, i, margin)
        return Crop(self.grid.crop(self.job.pixels, i, margin), valid, self.job.sigma)

    def add(self, tile: TileState, pixels: np.ndarray, start: float) -> None:
        self.steps.flat[tile.index] = len(tile.plan)
        self.starts.flat[tile.index] = start
        self.canvas.add(tile.index, pixels)

    def result(self, error: PictureError | None = None) -> Result:
        pixels, grid = (self.job.pixels, self.grid) if error else (self.canvas.finish().clip(0, 1), self.canvas.grid)
        seconds = time.monotonic() - self.begun
        return Result(self.job.key, pixels, self.steps, seconds, error, self.starts, grid)


def denoise(
    jobs: Iterable[Job], pipeline: Pipeline, request: Request, on_step: Callable[[int], None] | None = None
) -> Iterator[Result]:
    """Denoise `jobs`, drawing the next one only when slots would stay empty; results come as they are finished.

    on_step(n) is told of the n tiles that each network call has worked on. Raises ModelError where the bundle lacks
    what the request needs, UsageError where the method has no such option; a picture whose result is not finite comes
    back as a Result with its error.
    """
    pipeline.require(request)
    return _run(iter(jobs), pipeline, request, on_step or (lambda tiles: None))


def _run(jobs: Iterator[Job], pipeline: Pipeline, request: Request, on_step: Callable[[int], None]) -> Iterator[Result]:
    scheduler = Scheduler(pipeline.capacity, pipeline.slots)
    pictures: dict[int, _Picture] = {}
    drawn = 0
    while True:
        while scheduler.hungry and (job := next(jobs, None)) is not None:
            if "sigma" in pipeline.method.understands:
                job = _with_noise_level(job, request)
            pictures[drawn] = _Picture.of(job, pipeline.frame)
            scheduler.add(_tiles(drawn, pictures[drawn].grid))
            drawn += 1
        if scheduler.idle:
            return
        if admitted := scheduler.admit():
            pipeline.start(admitted, [_seen_by(tile, pictures, pipeline.frame) for tile in admitted], request)
            on_step(len(admitted))
        if batch := scheduler.batch():
            pipeline.step(batch, request.seed)
            scheduler.advance(batch)
            on_step(len(batch))
        for tile in scheduler.retire():
            if tile.image in pictures:
                pixels = pipeline.finish(tile, request.detail, pictures[tile.image].canvas.grid)
                yield from _collect(tile, pictures, pixels, pipeline.start_of(tile))


def _with_noise_level(job: Job, request: Request) -> Job:
    """The job with σ_n as it was asked for, as the caller knows it, or estimated over the whole picture."""
    if request.sigma is not None:
        return replace(job, sigma=request.sigma)
    return replace(job, sigma=noise_level(job.pixels, job.valid)) if math.isnan(job.sigma) else job


def _tiles(number: int, grid: Grid) -> list[TileState]:
    return [TileState(number, i, grid.origin(i)) for i in range(len(grid))]


def _seen_by(tile: TileState, pictures: dict[int, _Picture], frame: Frame) -> Crop:
    """The tile's pixels with their context; black where the picture has failed already."""
    if tile.image not in pictures:
        shape = frame.wide, frame.wide
        return Crop(np.zeros((*shape, 3), np.float32), np.zeros(shape, bool), float("nan"))
    return pictures[tile.image].crop(tile.index)


def _collect(tile: TileState, pictures: dict[int, _Picture], pixels: np.ndarray, start: float) -> Iterator[Result]:
    """Blend a finished tile in; yields the picture with its last tile, or at once when it fails."""
    picture = pictures[tile.image]
    try:
        picture.add(tile, pixels, start)
        if not picture.canvas.missing:
            yield pictures.pop(tile.image).result()
    except PictureError as error:
        yield pictures.pop(tile.image).result(error)
