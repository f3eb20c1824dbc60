"""A batch from disk to disk: reader threads, the device's own thread, writer threads, and no file stops another."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from .. import images
from ..device import is_out_of_memory
from ..errors import EnvironmentFault, PictureError, RngError
from ..inference import engine
from ..inference.noise_level import noise_level
from ..inference.pipeline import Pipeline
from ..inference.step_map import step_map
from ..inference.strength import Strength
from ..inference.tiling import Grid
from ..methods.contract import Frame, Request
from .inputs import Outcome, Task
from .manifest import Journal, Source, State, stamp
from .report import json_number

READERS, WRITERS = 2, 2
AHEAD = 3  # pictures read but not begun, and results not yet written: what bounds the host's memory

FIGURES = ("megapixels", "steps", "seconds", "sigma")  # of an Outcome

# (denoised, clean), (H, W, 3) in [0, 1] each -> figures by name, and why those that are None could not be had
Score = Callable[[np.ndarray, np.ndarray], tuple[Mapping[str, float | None], Sequence[str]]]


@dataclass(frozen=True)
class FileOptions:
    """How pictures are read and written, and what is written or measured beside them."""

    read: images.ReadOptions = field(default_factory=images.ReadOptions)
    write: images.WriteOptions = field(default_factory=images.WriteOptions)
    journal: Journal | None = None  # told of every output, and asked what other runs have done meanwhile
    map_journal: Journal | None = None  # the same for step maps
    fail_fast: bool = False
    reference: Path | None = None  # clean pictures of the same names
    masks: Path | None = None  # a picture, or a folder of pictures of the same names: white where pixels are missing
    score: Score | None = None
    step_maps: Path | None = None
    strength: Strength = field(default_factory=Strength)


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
    except (Exception, KeyboardInterrupt):
        batch.close()
        yield from batch.settled()
        raise
    finally:
        batch.close()


@dataclass(frozen=True)
class _Read:
    """A picture in memory, and the state of the file it came from; None where nobody asks."""

    picture: images.Image
    source: Source | None
    valid: np.ndarray | None = None  # (H, W) bool, false in holes
    noise: float = float("nan")  # estimated σ_n on the [0, 1] scale


class _Batch:
    """The host's side of a run: what is being read, what is in flight, what is being written."""

    def __init__(self, files: FileOptions, watch: Watch, frame: Frame) -> None:
        self.files, self.watch, self.frame = files, watch, frame
        self.readers = ThreadPoolExecutor(READERS, thread_name_prefix="read")
        self.writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="write")
        self.reading: deque[tuple[Task, Future[_Read | None]]] = deque()
        self.flying: dict[str, tuple[Task, _Read]] = {}
        self.writing: deque[Future[Outcome]] = deque()
        self.short: set[str] = set()  # pictures for which there was no memory
        self.again: deque[Task] = deque()  # those of them that are tried once more, when the others are done

    def close(self) -> None:
        """Let writes that have begun end, and begin no other."""
        for pool in (self.readers, self.writers):
            pool.shutdown(wait=True, cancel_futures=True)

    def jobs(self, tasks: Iterable[Task]) -> Iterator[engine.Job]:
        """Pictures in the order of their tasks, read ahead; one that cannot be read becomes a failed outcome."""
        remaining = iter(tasks)
        self._read_ahead(islice(remaining, AHEAD))
        while self.reading or self.again:
            if not self.reading:
                self._read_ahead([self.again.popleft()])
            task, future = self.reading.popleft()
            # Where memory runs short, the next picture is read when it is needed, and not before.
            self._read_ahead(islice(remaining, 1 if not self.short or not self.reading else 0))
            if error := future.exception():
                self._unreadable(task, error)
                continue
            read = future.result()
            if read is None:
                self.writing.append(_settled(Outcome(task, before=True)))
                continue
            picture = read.picture
            height, width = picture.pixels.shape[:2]
            self.watch.begun(task, height * width / 1e6, len(Grid.of(height, width, self.frame)))
            self.flying[task.name] = (task, read)
            yield engine.Job(task.name, picture.pixels, read.valid, read.noise)

    def _read_ahead(self, tasks: Iterable[Task]) -> None:
        self.reading.extend((task, self.readers.submit(self._read, task)) for task in tasks)

    def _unreadable(self, task: Task, error: BaseException) -> None:
        if is_out_of_memory(error) and task.name not in self.short:
            self.short.add(task.name)  # what now is in memory may be gone by then
            self.again.append(task)
            return
        outcome = Outcome(task, _told(error))
        self.writing.append(_settled(outcome))
        self._end_at(outcome)

    def _read(self, task: Task) -> _Read | None:
        """The picture with what it was made from; None where another run has just done it."""
        journal = self.files.journal
        there = task.fresh and os.path.lexists(task.target)
        if there and journal and journal.state(task.source, task.target) is State.DONE:
            return None
        try:
            source = Source.of(task.source) if journal else None
        except (OSError, ValueError):
            source = None  # reading says why
        picture = images.read(task.source, self.files.read)
        valid = self._valid(task, picture) if self.files.masks else None
        return _Read(picture, source, valid, noise_level(picture.pixels, valid))

    def _valid(self, task: Task, picture: images.Image) -> np.ndarray:
        """What the picture's mask leaves of it, (H, W) bool."""
        masks = self.files.masks
        assert masks
        path = masks if masks.is_file() else next((p for p in mask_names(masks, task.name) if p.is_file()), None)
        if path is None:
            raise PictureError(f"there is no mask {masks / task.name}", "draw one, white where pixels are missing")
        valid: np.ndarray = images.read(path, self.files.read).pixels.mean(axis=2) < 0.5
        if valid.shape != picture.pixels.shape[:2]:
            (h, w), (height, width) = valid.shape, picture.pixels.shape[:2]
            raise PictureError(f"the mask {path} is {w}×{h} px, the picture {width}×{height}", "give one of its size")
        return valid

    def finish(self, result: engine.Result) -> None:
        """Hand a result to the writers."""
        self.writing.append(self.writers.submit(self._write, *self.flying.pop(result.key), result))

    def _write(self, task: Task, read: _Read, result: engine.Result) -> Outcome:
        picture, journal = read.picture, self.files.journal
        try:
            if result.error:
                raise result.error
            result = replace(result, pixels=self.files.strength.blended(picture.pixels, result.pixels))
            format = images.FORMAT_OF_SUFFIX.get(task.target.suffix.lower(), picture.format)
            data = images.encode(picture.with_pixels(result.pixels), format, self.files.write)
            if not self._put(task, data, read.source):
                return Outcome(task, before=True)
        except Exception as error:
            return Outcome(task, _told(error))
        megapixels = result.pixels.size / 3e6
        notes = (*picture.notes, *images.losses(picture, format, self.files.write))
        figures = (megapixels, float(result.steps.mean()), result.seconds, 255 * read.noise)
        outcome = Outcome(task, None, *figures, notes=notes)
        for beside in (self._scored, self._mapped):
            try:
                outcome = beside(outcome, result, read)
            except Exception as error:  # the picture itself is on disk
                outcome = replace(outcome, notes=(*outcome.notes, f"not {beside.__name__[1:]}: {_told(error)}"))
        if journal:
            with suppress(RngError):  # of a full disk, the next picture tells
                journal.noted(task.target, figures_of(outcome, self.files.reference))
        return outcome

    def _put(self, task: Task, data: bytes, source: Source | None) -> bool:
        """Whether this run has put the output into its place; False where another one has just done so."""
        journal = self.files.journal
        if task.fresh and os.path.lexists(task.target):
            return self._turned_up(task)
        hashed = journal.intend(source, task.target, data) if journal and source else ""
        if not task.fresh:
            images.write_bytes(task.target, data)
        elif not images.write_new(task.target, data):
            return self._turned_up(task)
        if journal:
            journal.written(task.target, hashed)
        return True

    def _turned_up(self, task: Task) -> bool:
        """False where what has turned up at the target is what this run would put there; else its PictureError."""
        state = self.files.journal.state(task.source, task.target) if self.files.journal else State.FOREIGN
        if state is State.DONE:
            return False
        cause = "was made from another source" if state is State.OTHERS else "has turned up"
        raise PictureError(f"{task.target} {cause} since the run began", "give another OUT, or use --overwrite")

    def _scored(self, outcome: Outcome, result: engine.Result, read: _Read) -> Outcome:
        return scored(outcome, self.files, lambda: images.in_srgb(read.picture.with_pixels(result.pixels)))

    def _mapped(self, outcome: Outcome, result: engine.Result, read: _Read) -> Outcome:
        if not (self.files.step_maps and result.grid):
            return outcome
        shown = images.Image(step_map(result.pixels, result.starts, result.grid))
        path, journal = outcome.task.step_map(self.files.step_maps), self.files.map_journal
        if not (journal and read.source):
            images.write(path, shown)
            return outcome
        data = images.encode(shown, "png")
        hashed = journal.intend(read.source, path, data)
        images.write_bytes(path, data)
        journal.written(path, hashed)
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


def mask_names(masks: Path, name: str) -> tuple[Path, Path]:
    """Where the mask of a picture is looked for: under its very name, or as a PNG."""
    return masks / name, (masks / name).with_suffix(".png")


def scored(outcome: Outcome, files: FileOptions, pixels: Callable[[], np.ndarray]) -> Outcome:
    """The outcome with its scores against the reference, where that has a picture of its name."""
    if not (files.reference and files.score):
        return outcome
    partner = files.reference / outcome.task.name
    if not partner.exists():
        return replace(outcome, notes=(*outcome.notes, f"not scored: there is no {partner}"))
    clean = images.read(partner, files.read)
    scores, reasons = files.score(pixels(), images.in_srgb(clean))
    notes = (f"not scored: {reason}" for reason in dict.fromkeys(reasons))
    return replace(outcome, scores=scores, notes=(*outcome.notes, *notes))


def figures_of(outcome: Outcome, reference: Path | None) -> dict[str, Any]:
    """What the manifest keeps of an outcome, so that the report of a later run can tell of it."""
    kept: dict[str, Any] = {name: getattr(outcome, name) for name in FIGURES}
    kept["notes"] = [note for note in outcome.notes if not note.startswith("not scored")]
    if outcome.scores:
        kept["scores"] = {name: json_number(value) for name, value in outcome.scores.items()}
        kept["against"] = against(reference, outcome.task)
    return kept


def against(reference: Path | None, task: Task) -> list[Any] | None:
    """Which picture a score is against, and its state; OSError where it is not there."""
    if not reference:
        return None
    return [os.path.realpath(reference / task.name), *stamp(reference / task.name)]


def _told(error: BaseException) -> RngError:
    """Any failure of one picture as an error that a person can read: a defect of rng must not stop a batch either."""
    if isinstance(error, RngError):
        return error
    if is_out_of_memory(error):
        return _too_large()
    if isinstance(error, OSError) and error.strerror:
        return PictureError(f"{error.filename or 'the file'}: {error.strerror}", "check its name and its rights")
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
            yield engine.Result(largest.key, largest.pixels, np.zeros((0, 0), np.int32), 0.0, _too_large())


def _largest(jobs: Iterable[engine.Job], frame: Frame) -> engine.Job | None:
    """The largest picture of more than one tile; None where memory does not suffice even for single ones."""
    larger = [job for job in jobs if max(job.pixels.shape[:2]) > frame.tile]
    return max(larger, key=lambda job: job.pixels.size, default=None)


def _too_large() -> PictureError:
    return PictureError("the picture needs more memory than there is", "close other programs, or do it elsewhere")


def _remembering(jobs: Iterable[engine.Job], begun: dict[str, engine.Job]) -> Iterator[engine.Job]:
    for job in jobs:
        begun[job.key] = job
        yield job
