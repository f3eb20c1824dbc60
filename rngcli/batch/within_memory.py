"""The engine within the memory there is: half the capacity where it runs out, and then without the largest picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import numpy as np

from ..device import is_out_of_memory
from ..errors import EnvironmentFault
from ..inference import engine
from ..inference.pipeline import Pipeline
from ..methods.contract import Frame, Request
from .failures import too_large


def denoise_within_memory(
    jobs: Iterable[engine.Job], pipeline: Pipeline, request: Request, on_step: Callable[[int], None] | None = None
) -> Iterator[engine.Result]:
    """`engine.denoise`, taken up again with half the capacity where memory runs out, and then without the largest.

    A picture that is too large for the memory comes back as a Result with its error. Raises EnvironmentFault where not
    even one tile fits.
    """
    begun: dict[str, engine.Job] = {}
    drawn = _remembering(jobs, begun)
    while True:
        try:
            for result in engine.denoise(chain(list(begun.values()), drawn), pipeline, request, on_step):
                del begun[result.key]
                yield result
            return
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            halve = pipeline.capacity > 1
            largest = None if halve else _largest(begun.values(), pipeline.frame)
            if not halve and not largest:
                raise EnvironmentFault("not even one tile fits into memory", "close other programs") from error
        # Outside the except block, which would keep the failed tensors alive.
        if halve:
            pipeline = pipeline.halved()
        elif largest:
            del begun[largest.key]
            yield engine.Result(largest.key, largest.pixels, np.zeros((0, 0), np.int32), 0.0, too_large())


def _largest(jobs: Iterable[engine.Job], frame: Frame) -> engine.Job | None:
    """The largest picture of more than one tile; None where memory does not suffice even for single ones."""
    larger = [job for job in jobs if max(job.pixels.shape[:2]) > frame.tile]
    return max(larger, key=lambda job: job.pixels.size, default=None)


def _remembering(jobs: Iterable[engine.Job], begun: dict[str, engine.Job]) -> Iterator[engine.Job]:
    for job in jobs:
        begun[job.key] = job
        yield job
