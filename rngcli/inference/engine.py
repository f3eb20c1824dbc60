"""Pictures in, results out: a generator that tiles, schedules and blends, and asks for a picture when it has room."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from torch import Tensor

from ..errors import PictureError
from ..methods.contract import Request
from .banding import UNKNOWN, Banding, find_banding
from .blending import Finished
from .canvas import Canvas, no_colours
from .job import Job, Result
from .noise_level import noise_level
from .pipeline import Pipeline
from .recovery import within_memory
from .scheduler import Scheduler, TileState
from .transfer import Fetch
from .uploaded import Uploaded


@dataclass
class _Picture:
    """A picture in flight: its tiles are cut from what was uploaded of it, and blended on the canvas."""

    job: Job
    uploaded: Uploaded
    canvas: Canvas
    steps: np.ndarray
    starts: np.ndarray
    banding: Banding | None
    begun: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, job: Job, pipeline: Pipeline, request: Request) -> _Picture:
        sigma = _sigma(job, request) if "sigma" in pipeline.method.understands else job.sigma
        banding = _banding(job, request)
        uploaded = pipeline.upload(job.pixels, job.valid, sigma, banding)
        shape = uploaded.grid.rows, uploaded.grid.cols
        canvas = pipeline.canvas(uploaded, job.rows() if job.rows else None)
        return cls(job, uploaded, canvas, np.zeros(shape, np.int32), np.zeros(shape, np.float32), banding)

    def add(self, tile: TileState, share: Tensor, start: float) -> None:
        self.steps.flat[tile.index] = len(tile.plan)
        self.starts.flat[tile.index] = start
        self.canvas.put(tile.index, share)

    def result(self, error: PictureError | None = None) -> Result:
        pixels, grid = (self.job.pixels, self.uploaded.grid) if error else (self.canvas.finish(), self.canvas.grid)
        seconds = time.monotonic() - self.begun
        notes = (self.banding.note,) if self.banding and not error else ()
        return Result(self.job.key, pixels, self.steps, seconds, error, self.starts, grid, notes)


def denoise(
    jobs: Iterable[Job], pipeline: Pipeline, request: Request, on_step: Callable[[int], None] | None = None
) -> Iterator[Result]:
    """Denoise `jobs`, drawing the next one only when slots would stay empty; results come as they are finished.

    on_step(n) is told of the n tiles that each network call has worked on. Raises ModelError where the bundle lacks
    what the request needs, UsageError where the method has no such option; a picture whose result is not finite, or
    that is too large for the memory, comes back as a Result with its error. Where memory runs out, what was begun is
    taken up again in smaller batches; EnvironmentFault where not even one tile fits. A picture's size
    decides how large its tiles are: pictures of another size of tiles wait until those before them are done.
    """
    pipeline.require(request)

    def attempt(jobs: Iterator[Job], pipeline: Pipeline) -> Iterator[Result]:
        groups = groupby(jobs, key=lambda job: pipeline.fitting(*job.pixels.shape[:2]))
        for fitting, alike in groups:
            yield from _Run(alike, fitting, request, on_step or (lambda tiles: None)).results()

    return within_memory(iter(jobs), pipeline, attempt)


class _Run:
    """One run of the engine: what is in flight, and what has been told to finish but not been waited for.

    On a device that works by itself, tiles are waited for one round after they were finished, when the next round's
    work is queued already: the device never waits for the host to blend.
    """

    def __init__(
        self, jobs: Iterator[Job], pipeline: Pipeline, request: Request, on_step: Callable[[int], None]
    ) -> None:
        self.jobs, self.pipeline, self.request, self.on_step = jobs, pipeline, request, on_step
        self.scheduler = Scheduler(pipeline.capacity, pipeline.slot_count)
        self.pictures: dict[int, _Picture] = {}
        self.drawn = 0
        self.pending: list[tuple[Finished, list[Canvas]]] = []  # with the canvases whose rows were asked for as well

    def results(self) -> Iterator[Result]:
        while True:
            self._draw()
            if self.scheduler.idle:
                break
            self._compute()
            before, self.pending = self.pending, self._finish()
            if self.pipeline.device.type != "cuda":
                before, self.pending = before + self.pending, []
            for finished, canvases in before:
                yield from self._collect(finished, canvases)
        for finished, canvases in self.pending:
            yield from self._collect(finished, canvases)
        rows, canvases = self._leaving()
        yield from self._arrived(canvases, Fetch(rows, self.pipeline.device).wait())

    def _draw(self) -> None:
        while self.scheduler.hungry and (job := next(self.jobs, None)) is not None:
            picture = self.pictures[self.drawn] = _Picture.of(job, self.pipeline, self.request)
            grid = picture.uploaded.grid
            self.scheduler.add(TileState(self.drawn, i, grid.origin(i)) for i in range(len(grid)))
            self.drawn += 1

    def _compute(self) -> None:
        """Start tiles that have got slots, and take one step of those that have steps left."""
        if admitted := self.scheduler.admit():
            pictures = (self.pictures.get(tile.image) for tile in admitted)
            uploaded = [picture.uploaded if picture else None for picture in pictures]
            self.pipeline.start(admitted, uploaded, self.request)
            self.on_step(len(admitted))
        if batch := self.scheduler.batch():
            self.pipeline.step(batch, self.request.seed)
            self.scheduler.advance(batch)
            self.on_step(len(batch))

    def _finish(self) -> list[tuple[Finished, list[Canvas]]]:
        """What has become of the tiles that are done, as far as their pictures are still wanted; without waiting."""
        retired = [tile for tile in self.scheduler.retire() if tile.image in self.pictures]
        finished = []
        for first in range(0, len(retired), self.pipeline.capacity):
            batch = retired[first : first + self.pipeline.capacity]
            rows, canvases = self._leaving()
            uploaded = [self.pictures[tile.image].uploaded for tile in batch]
            finished.append((self.pipeline.finish(batch, uploaded, self.request.detail, rows), canvases))
        return finished

    def _leaving(self) -> tuple[list[Tensor], list[Canvas]]:
        """Finished rows of all pictures that are to be fetched, and the canvas of each."""
        left = [(rows, picture.canvas) for picture in self.pictures.values() for rows in picture.canvas.leave()]
        return [rows for rows, _ in left], [canvas for _, canvas in left]

    def _collect(self, finished: Finished, canvases: list[Canvas]) -> Iterator[Result]:
        """Blend finished tiles in; yields pictures that are whole, and those that fail, at once."""
        colours, on_host, bands = finished.wait()
        for row, tile in enumerate(finished.tiles):
            if (picture := self.pictures.get(tile.image)) is None:
                continue
            shares = finished.shares
            if on_host is not None and picture.canvas.device != shares.device:
                shares = on_host
            if colours[row]:
                picture.add(tile, shares[row], self.pipeline.start_of(tile))
            elif not self._again(tile, picture):
                yield self.pictures.pop(tile.image).result(no_colours())
        yield from self._arrived(canvases, bands)

    def _again(self, tile: TileState, picture: _Picture) -> bool:
        """Whether a tile that came out as no colours is one when it is computed more exactly."""
        again = self.pipeline.again(tile, picture.uploaded, self.request)
        if again is None:
            return False
        exact, finished = again
        (colours, *_), _, _ = finished.wait()
        if colours:
            picture.add(exact, finished.shares[0].to(picture.canvas.device), self.pipeline.start_of(exact))
        return colours

    def _arrived(self, canvases: list[Canvas], bands: list[Tensor]) -> Iterator[Result]:
        """Take in the rows that were fetched; yields the pictures that are whole by now."""
        for canvas, band in zip(canvases, bands, strict=True):
            canvas.arrive(band)
        for number in [number for number, picture in self.pictures.items() if picture.canvas.whole]:
            yield self.pictures.pop(number).result()


def _banding(job: Job, request: Request) -> Banding | None:
    """What rows and columns have in common, as the caller knows it, or found; nothing where it is to be left."""
    if request.keep_banding or job.valid is not None:
        return None
    return find_banding(job.pixels) if job.banding is UNKNOWN else job.banding


def _sigma(job: Job, request: Request) -> float:
    """σ_n as it was asked for, as the caller knows it, or estimated over the whole picture."""
    if request.sigma is not None:
        return request.sigma
    if not math.isnan(job.sigma):
        return job.sigma
    pixels = job.pixels if job.pixels.dtype.kind == "f" else job.pixels / np.float32(np.iinfo(job.pixels.dtype).max)
    return noise_level(pixels, job.valid)
