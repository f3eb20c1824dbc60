"""Memory that runs out ends no run: what was begun is taken up again by less at once, and later by more."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from itertools import chain, islice

import numpy as np

from ..device import is_out_of_memory
from ..errors import EnvironmentFault, PictureError
from ..methods.contract import Size
from .job import Job, Result
from .pipeline import Pipeline

PATIENCE = 16  # pictures in smaller batches before larger ones are tried again; doubled each time that they fail

Attempt = Callable[[Iterator[Job], Pipeline], Iterator[Result]]


def within_memory(jobs: Iterator[Job], pipeline: Pipeline, attempt: Attempt) -> Iterator[Result]:
    """The results of `attempt`, whatever memory it finds.

    Where memory runs out: half the capacity, down to one tile; then canvases on the host; then without the largest
    picture, which comes back as a Result with its error. Raises EnvironmentFault where not even one tile fits.
    """
    source, patience = _Source(jobs), PATIENCE
    full, on_device = pipeline.capacity, pipeline.on_device
    while True:
        most = patience if pipeline.capacity < full else None
        if (yield from _went_through(attempt, source, most, pipeline)):
            if source.exhausted:
                return
            pipeline = pipeline.resized(min(2 * pipeline.capacity, full))
            pipeline.on_device = on_device
            continue
        patience *= 2 if source.settled else 1
        source.settled = False
        if pipeline.can_shrink:
            pipeline = pipeline.shrunk()
        elif largest := source.largest(pipeline.frame.tile):
            yield source.drop(largest)
        else:
            raise EnvironmentFault("not even one tile fits into memory", "close other programs")


def _went_through(
    attempt: Attempt, source: _Source, most: int | None, pipeline: Pipeline
) -> Generator[Result, None, bool]:
    """The results of one attempt; False where memory ran out.

    The error ends with this function: whoever kept it would keep the tensors that its traceback holds.
    """
    try:
        for result in attempt(source.draw(most), pipeline):
            source.settle(result)
            yield result
    except (MemoryError, RuntimeError) as error:
        if error is source.broken_by or not is_out_of_memory(error):
            raise
        return False
    return True


class _Source:
    """Jobs, and those of them that were drawn and not settled yet: a new attempt begins with these."""

    def __init__(self, jobs: Iterator[Job]) -> None:
        self._jobs = jobs
        self._begun: dict[str, Job] = {}
        self.exhausted = False
        # What the jobs themselves failed with: a generator that has raised cannot go on.
        self.broken_by: Exception | None = None
        self.settled = False  # whether anything was since the last failure

    def draw(self, most: int | None) -> Iterator[Job]:
        """All that was begun, and then at most so many others."""
        return chain(list(self._begun.values()), islice(self._remembered(), most))

    def _remembered(self) -> Iterator[Job]:
        while (job := self._next()) is not None:
            self._begun[job.key] = job
            yield job
        self.exhausted = True

    def _next(self) -> Job | None:
        try:
            return next(self._jobs, None)
        except Exception as error:
            self.broken_by = error
            raise

    def settle(self, result: Result) -> None:
        del self._begun[result.key]
        self.settled = True

    def largest(self, tile: Size) -> Job | None:
        """The largest picture of more than one tile; None where memory does not suffice even for single ones."""
        larger = [job for job in self._begun.values() if math.prod(job.pixels.shape[:2]) > math.prod(tile)]
        return max(larger, key=lambda job: job.pixels.size, default=None)

    def drop(self, job: Job) -> Result:
        """The result of a picture for which there is no memory."""
        del self._begun[job.key]
        return Result(job.key, job.pixels, np.zeros((0, 0), np.int32), 0.0, too_large())


def too_large() -> PictureError:
    """What is said of a picture for which there is no memory."""
    return PictureError("the picture needs more memory than there is", "close other programs, or do it elsewhere")
