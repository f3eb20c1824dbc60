"""Pictures in, results out: a generator that tiles, schedules and blends, and asks for a picture when it has room."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ..errors import PictureError
from .pipeline import CONTEXT, TILE, WIDE, Pipeline, Request
from .scheduler import Scheduler, TileState
from .tiling import Canvas, Grid


@dataclass(frozen=True)
class Job:
    """A picture to denoise: `key` is the caller's; pixels (H, W, 3) float32 in [0, 1]."""

    key: str
    pixels: np.ndarray


@dataclass(frozen=True)
class Result:
    """A picture denoised: pixels (H, W, 3) float32 in [0, 1].

    steps (rows, cols): the evaluations of each tile; starts (rows, cols) in [0, 1]: how far in the noise it started, as
    a share of the fullest budget's start. Where `error` is set, the picture failed and the pixels are the input's.
    """

    key: str
    pixels: np.ndarray
    steps: np.ndarray
    seconds: float  # from the picture's first tile to its last; pictures overlap
    error: PictureError | None = None
    starts: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))


@dataclass
class _Picture:
    """A picture in flight."""

    job: Job
    grid: Grid
    canvas: Canvas
    steps: np.ndarray
    starts: np.ndarray
    begun: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, job: Job) -> _Picture:
        grid = Grid(job.pixels.shape[0], job.pixels.shape[1], TILE)
        shape = grid.rows, grid.cols
        return cls(job, grid, Canvas(grid), np.zeros(shape, np.int32), np.zeros(shape, np.float32))

    def add(self, tile: TileState, pixels: np.ndarray, start: float) -> None:
        self.steps.flat[tile.index] = len(tile.plan)
        self.starts.flat[tile.index] = start
        self.canvas.add(tile.index, pixels)

    def result(self, error: PictureError | None = None) -> Result:
        pixels = self.job.pixels if error else self.canvas.finish().clip(0, 1)
        return Result(self.job.key, pixels, self.steps, time.monotonic() - self.begun, error, self.starts)


def denoise(
    jobs: Iterable[Job], pipeline: Pipeline, request: Request, on_step: Callable[[int], None] | None = None
) -> Iterator[Result]:
    """Denoise `jobs`, drawing the next one only when slots would stay empty; results come as they are finished.

    on_step(n) is told of the n tiles that each network call has worked on. Raises ModelError where the bundle lacks
    what the request needs; a picture whose result is not finite comes back as a Result with its error.
    """
    pipeline.require(request)
    return _run(iter(jobs), pipeline, request, on_step or (lambda tiles: None))


def _run(jobs: Iterator[Job], pipeline: Pipeline, request: Request, on_step: Callable[[int], None]) -> Iterator[Result]:
    scheduler = Scheduler(pipeline.capacity, pipeline.slots)
    pictures: dict[int, _Picture] = {}
    drawn = 0
    while True:
        while scheduler.hungry and (job := next(jobs, None)) is not None:
            pictures[drawn] = _Picture.of(job)
            scheduler.add(_tiles(drawn, pictures[drawn].grid))
            drawn += 1
        if scheduler.idle:
            return
        if admitted := scheduler.admit():
            pipeline.start(admitted, [_seen_by(tile, pictures) for tile in admitted], request)
            on_step(len(admitted))
        if batch := scheduler.batch():
            pipeline.step(batch, request.seed)
            scheduler.advance(batch)
            on_step(len(batch))
        for tile in scheduler.retire():
            if tile.image in pictures:
                pixels = pipeline.finish(tile, request.detail, pictures[tile.image].grid)
                yield from _collect(tile, pictures, pixels, pipeline.start_of(tile))


def _tiles(number: int, grid: Grid) -> list[TileState]:
    return [TileState(number, i, grid.origin(i)) for i in range(len(grid))]


def _seen_by(tile: TileState, pictures: dict[int, _Picture]) -> np.ndarray:
    """The tile's pixels with their context; black where the picture has failed already."""
    if tile.image not in pictures:
        return np.zeros((WIDE, WIDE, 3), np.float32)
    picture = pictures[tile.image]
    return picture.grid.crop(picture.job.pixels, tile.index, CONTEXT)


def _collect(tile: TileState, pictures: dict[int, _Picture], pixels: np.ndarray, start: float) -> Iterator[Result]:
    """Blend a finished tile in; yields the picture with its last tile, or at once when it fails."""
    picture = pictures[tile.image]
    try:
        picture.add(tile, pixels, start)
        if not picture.canvas.missing:
            yield pictures.pop(tile.image).result()
    except PictureError as error:
        yield pictures.pop(tile.image).result(error)
