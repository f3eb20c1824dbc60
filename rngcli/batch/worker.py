"""A batch from disk to disk: reader threads, the device's own thread, writer threads, and no file stops another."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch

from .. import images
from ..errors import EnvironmentFault, PictureError, RngError
from ..inference import engine
from ..inference.pipeline import Pipeline
from ..inference.step_map import step_map
from ..inference.tiling import Grid
from ..methods.contract import Frame, Request
from .inputs import Outcome, Task
from .manifest import Journal, Stamp, stamp

READERS, WRITERS = 2, 2
AHEAD = 3  # pictures read but not begun, and results not yet written: what bounds the host's memory

# (denoised, clean), (H, W, 3) in [0, 1] each -> figures by name, and why those that are None could not be had
Score = Callable[[np.ndarray, np.ndarray], tuple[Mapping[str, float | None], Sequence[str]]]


@dataclass(frozen=True)
class FileOptions:
    """How pictures are read and written, and what is written or measured beside them."""

    read: images.ReadOptions = field(default_factory=images.ReadOptions)
    write: images.WriteOptions = field(default_factory=images.WriteOptions)
    journal: Journal | None = None  # told of every output
    fail_fast: bool = False
    reference: Path | None = None  # clean pictures of the same names
    score: Score | None = None
    step_maps: Path | None = None


@dataclass(frozen=True)
class Watch:
    """Whom to tell: of each picture that is begun, and of the tiles that each network call has worked on.

    begun(task, megapixels, tiles), stepped(tiles)
    """

    begun: Callable[[Task, float, int], None] = lambda task, megapixels, tiles: None
    stepped: Callable[[int], None] = lambda tiles: None


def run(
    tasks: Iterable[Task], pipeline: Pipeline, request: Request, files: FileOptions, watch: Watch | None = None
) -> Generator[Outcome]:
    """Denoise every task; outcomes come as they are finished, failed ones among them.

    Raises EnvironmentFault where the disk or the memory refuses, ModelError where the model cannot do what is asked,
    and the first failure where `files.fail_fast`. Nothing new is then begun and what is half computed is dropped, at
    the next network call, but what was being written is finished, and all outcomes that are settled still come.
    """
    pipeline.require(request)
    batch = _Batch(files, watch or Watch(), pipeline.frame)
    try:
        for result in denoise_within_memory(batch.jobs(tasks), pipeline, request, batch.stepped):
            batch.finish(result)
            yield from batch.outcomes(at_most=AHEAD)
        yield from batch.outcomes(at_most=0)
    except (RngError, KeyboardInterrupt):
        batch.close()
        yield from batch.settled()
        raise
    finally:
        batch.close()


class _Batch:
    """The host's side of a run: what is being read, what is in flight, what is being written."""

    def __init__(self, files: FileOptions, watch: Watch, frame: Frame) -> None:
        self.files, self.watch, self.frame = files, watch, frame
        self.readers = ThreadPoolExecutor(READERS, thread_name_prefix="read")
        self.writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="write")
        self.reading: deque[tuple[Task, Future[tuple[images.Image, Stamp]]]] = deque()
        self.flying: dict[str, tuple[Task, images.Image, Stamp]] = {}
        self.writing: deque[Future[Outcome]] = deque()

    def close(self) -> None:
        """Let writes that have begun end, and begin no other."""
        for pool in (self.readers, self.writers):
            pool.shutdown(wait=True, cancel_futures=True)

    def jobs(self, tasks: Iterable[Task]) -> Iterator[engine.Job]:
        """Pictures in the order of their tasks, read ahead; one that cannot be read becomes a failed outcome."""
        remaining = iter(tasks)
        self._read_ahead(islice(remaining, AHEAD))
        while self.reading:
            task, future = self.reading.popleft()
            self._read_ahead(islice(remaining, 1))
            if error := future.exception():
                self._unreadable(task, error)
                continue
            picture, origin = future.result()
            height, width = picture.pixels.shape[:2]
            self.watch.begun(task, height * width / 1e6, len(Grid.of(height, width, self.frame)))
            self.flying[task.name] = (task, picture, origin)
            yield engine.Job(task.name, picture.pixels)

    def _read_ahead(self, tasks: Iterable[Task]) -> None:
        self.reading.extend((task, self.readers.submit(self._read, task)) for task in tasks)

    def _unreadable(self, task: Task, error: BaseException) -> None:
        outcome = Outcome(task, _told(error))
        self.writing.append(_settled(outcome))
        self._end_at(outcome)

    def _read(self, task: Task) -> tuple[images.Image, Stamp]:
        """The picture, and its file's stamp from before: a change while it is read makes it out of date."""
        try:
            origin = stamp(task.source)
        except (OSError, ValueError):
            origin = (0, 0)  # reading says why
        return images.read(task.source, self.files.read), origin

    def finish(self, result: engine.Result) -> None:
        """Hand a result to the writers."""
        self.writing.append(self.writers.submit(self._write, *self.flying.pop(result.key), result))

    def _write(self, task: Task, picture: images.Image, origin: Stamp, result: engine.Result) -> Outcome:
        try:
            if result.error:
                raise result.error
            self._put(task, picture.with_pixels(result.pixels), origin)
        except Exception as error:
            return Outcome(task, _told(error))
        megapixels = result.pixels.size / 3e6
        outcome = Outcome(task, None, megapixels, float(result.steps.mean()), result.seconds, notes=picture.notes)
        for beside in (self._scored, self._mapped):
            try:
                outcome = beside(outcome, result)
            except Exception as error:  # the picture itself is on disk
                outcome = replace(outcome, notes=(*outcome.notes, f"not {beside.__name__[1:]}: {_told(error)}"))
        return outcome

    def _put(self, task: Task, picture: images.Image, origin: Stamp) -> None:
        format = images.FORMAT_OF_SUFFIX.get(task.target.suffix.lower(), picture.format)
        data = images.encode(picture, format, self.files.write)
        if task.fresh and os.path.lexists(task.target):
            raise PictureError(f"{task.target} has turned up since the run began", "use --overwrite to replace it")
        if self.files.journal:
            self.files.journal.intend(origin, task.target, data)
        images.write_bytes(task.target, data)
        if self.files.journal:
            self.files.journal.written(task.target)

    def _scored(self, outcome: Outcome, result: engine.Result) -> Outcome:
        if not (self.files.reference and self.files.score):
            return outcome
        partner = self.files.reference / outcome.task.name
        if not partner.exists():
            return replace(outcome, notes=(*outcome.notes, f"not scored: there is no {partner}"))
        clean = images.read(partner, self.files.read)
        scores, reasons = self.files.score(result.pixels, clean.pixels)
        notes = (f"not scored: {reason}" for reason in dict.fromkeys(reasons))
        return replace(outcome, scores=scores, notes=(*outcome.notes, *notes))

    def _mapped(self, outcome: Outcome, result: engine.Result) -> Outcome:
        if self.files.step_maps and result.grid:
            shown = step_map(result.pixels, result.starts, result.grid)
            images.write(outcome.task.step_map(self.files.step_maps), images.Image(shown))
        return outcome

    def stepped(self, tiles: int) -> None:
        """After each network call: a failure that ends the run does not wait for the picture that is being computed."""
        self.watch.stepped(tiles)
        for writing in self.writing:
            if writing.done():
                self._end_at(writing.result())
        for task, reading in self.reading if self.files.fail_fast else ():
            if reading.done() and (error := reading.exception()):
                self._unreadable(task, error)

    def outcomes(self, at_most: int) -> Iterator[Outcome]:
        """What is settled, and more until at most so many writes are pending.

        After an outcome that ends the run, its error is raised.
        """
        while self.writing and (len(self.writing) > at_most or self.writing[0].done()):
            outcome = self.writing.popleft().result()
            yield outcome
            self._end_at(outcome)

    def _end_at(self, outcome: Outcome) -> None:
        if outcome.error and (self.files.fail_fast or isinstance(outcome.error, EnvironmentFault)):
            raise outcome.error

    def settled(self) -> Iterator[Outcome]:
        """After `close`: what was written in spite of the run's end."""
        while self.writing:
            try:
                yield self.writing.popleft().result()
            except CancelledError:
                continue


def _told(error: BaseException) -> RngError:
    """Any failure of one picture as an error that a person can read: a defect of rng must not stop a batch either."""
    if isinstance(error, RngError):
        return error
    told = PictureError(f"unexpected {type(error).__name__}: {error}", "please report it")
    told.__cause__ = error
    return told


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
