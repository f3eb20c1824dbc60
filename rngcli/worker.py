"""A batch from disk to disk: reader threads, the device's own thread, writer threads, and no file stops another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch

from . import engine, images
from .errors import EnvironmentFault, RngError
from .pipeline import TILE, Pipeline, Request
from .stepmap import step_map
from .tiling import Grid
from .tree import Task

READERS, WRITERS = 2, 2
AHEAD = 3  # pictures read but not begun, and results not yet written: what bounds the host's memory

Score = Callable[[np.ndarray, np.ndarray], Mapping[str, float]]


@dataclass(frozen=True)
class Files:
    """How pictures are read and written, and what is written or measured beside them."""

    read: images.ReadOptions = field(default_factory=images.ReadOptions)
    write: images.WriteOptions = field(default_factory=images.WriteOptions)
    reference: Path | None = None  # clean pictures of the same names
    score: Score | None = None  # (denoised, clean) -> figures by name
    step_maps: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one picture; `error` is None where its output is on disk, whole."""

    task: Task
    error: RngError | None = None
    megapixels: float = 0.0
    steps: float = 0.0  # mean evaluations of the generator a tile
    seconds: float = 0.0
    scores: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def run(
    tasks: Iterable[Task],
    pipeline: Pipeline,
    request: Request,
    files: Files,
    on_step: Callable[[int], None] | None = None,
) -> Iterator[Outcome]:
    """Denoise every task; outcomes come as they are finished, failed ones among them.

    Raises EnvironmentFault where the disk or the memory refuses, ModelError where the model cannot do what is asked;
    what was begun is then dropped, what is written stays.
    """
    pipeline.require(request)
    batch = _Batch(files, request)
    try:
        for result in denoise_within_memory(batch.jobs(tasks), pipeline, request, on_step):
            batch.finish(result)
            yield from batch.outcomes(at_most=AHEAD)
        yield from batch.outcomes(at_most=0)
    finally:
        batch.close()


class _Batch:
    """The host's side of a run: what is being read, what is in flight, what is being written."""

    def __init__(self, files: Files, request: Request) -> None:
        self.files, self.request = files, request
        self.readers = ThreadPoolExecutor(READERS, thread_name_prefix="read")
        self.writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="write")
        self.flying: dict[str, tuple[Task, images.Image]] = {}
        self.writing: deque[Future[Outcome]] = deque()

    def close(self) -> None:
        """Let writes that have begun end, and begin no other."""
        for pool in (self.readers, self.writers):
            pool.shutdown(wait=True, cancel_futures=True)

    def jobs(self, tasks: Iterable[Task]) -> Iterator[engine.Job]:
        """Pictures in the order of their tasks, read ahead; one that cannot be read becomes a failed outcome."""
        remaining = iter(tasks)
        reading = deque((task, self._read(task)) for task in islice(remaining, AHEAD))
        while reading:
            task, future = reading.popleft()
            reading.extend((after, self._read(after)) for after in islice(remaining, 1))
            try:
                picture = future.result()
            except RngError as error:
                self.writing.append(_settled(Outcome(task, error)))
                continue
            self.flying[task.name] = (task, picture)
            yield engine.Job(task.name, picture.pixels)

    def _read(self, task: Task) -> Future[images.Image]:
        return self.readers.submit(images.read, task.source, self.files.read)

    def finish(self, result: engine.Result) -> None:
        """Hand a result to the writers."""
        task, picture = self.flying.pop(result.key)
        self.writing.append(self.writers.submit(self._write, task, picture, result))

    def _write(self, task: Task, picture: images.Image, result: engine.Result) -> Outcome:
        try:
            if result.error:
                raise result.error
            images.write(task.target, picture.with_pixels(result.pixels), self.files.write)
            scores = self._scores(task, result)
            self._write_step_map(task, result)
        except EnvironmentFault:
            raise
        except RngError as error:
            return Outcome(task, error)
        megapixels = result.pixels.size / 3e6
        return Outcome(task, None, megapixels, float(result.steps.mean()), result.seconds, scores, picture.notes)

    def _scores(self, task: Task, result: engine.Result) -> Mapping[str, float]:
        if not (self.files.reference and self.files.score):
            return {}
        clean = images.read(self.files.reference / task.name, self.files.read)
        return self.files.score(result.pixels, clean.pixels)

    def _write_step_map(self, task: Task, result: engine.Result) -> None:
        if self.files.step_maps:
            grid = Grid(result.pixels.shape[0], result.pixels.shape[1], TILE)
            shown = step_map(result.pixels, result.steps, grid, int(result.steps.max()))
            images.write(self.files.step_maps / f"{task.name}.png", images.Image(shown))

    def outcomes(self, at_most: int) -> Iterator[Outcome]:
        """What is settled, and more until at most so many writes are pending."""
        while self.writing and (len(self.writing) > at_most or self.writing[0].done()):
            yield self.writing.popleft().result()


def _settled(outcome: Outcome) -> Future[Outcome]:
    future: Future[Outcome] = Future()
    future.set_result(outcome)
    return future


def denoise_within_memory(
    jobs: Iterable[engine.Job], pipeline: Pipeline, request: Request, on_step: Callable[[int], None] | None = None
) -> Iterator[engine.Result]:
    """`engine.denoise`, taken up again with half the capacity where the device's memory runs out.

    Raises EnvironmentFault where not even one tile fits.
    """
    begun: dict[str, engine.Job] = {}
    drawn = _remembering(jobs, begun)
    while True:
        try:
            for result in engine.denoise(chain(list(begun.values()), drawn), pipeline, request, on_step):
                del begun[result.key]
                yield result
            return
        except (torch.OutOfMemoryError, MemoryError) as error:
            if pipeline.capacity == 1:
                raise EnvironmentFault("not even one tile fits into memory", "close other programs") from error
        pipeline = pipeline.halved()  # outside the except block, which would keep the failed tensors alive


def _remembering(jobs: Iterable[engine.Job], begun: dict[str, engine.Job]) -> Iterator[engine.Job]:
    for job in jobs:
        begun[job.key] = job
        yield job
