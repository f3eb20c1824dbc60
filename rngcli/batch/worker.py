"""A batch from disk to disk: reader threads, the device's own thread, writer threads, and no file stops another."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, islice

from ..device import is_out_of_memory
from ..errors import EnvironmentFault
from ..inference import engine
from ..inference.pipeline import Pipeline
from ..inference.tiling import Grid, fitted
from ..methods.contract import Frame, Request
from .document_writer import DocumentWriter
from .failures import failure
from .file_options import FileOptions, Watch
from .inputs import Outcome, Task
from .large_writer import LARGE, LargeWriter
from .picture_reader import ReadPicture, read_page, read_picture
from .picture_writer import write_picture

READERS, WRITERS = 2, max(2, min(8, os.cpu_count() or 2))  # packing takes several times as long as unpacking
AHEAD = 3  # pictures read but not begun; results not yet written: as many, or as there are writers
MOST_HELD = 2**30  # bytes of either: where pictures are large, fewer of them wait


def run(
    tasks: Iterable[Task], pipeline: Pipeline, request: Request, files: FileOptions, watch: Watch | None = None
) -> Generator[Outcome]:
    """Denoise every task; outcomes come as they are finished, failed ones among them.

    Raises EnvironmentFault where the disk or the memory refuses, ModelError where the model cannot do what is asked,
    and the first failure where `files.fail_fast`. Nothing new is then begun and what is half computed is dropped, at
    the next network call, but what was being written is finished, and all outcomes that are settled still come.
    """
    pipeline.require(request)
    batch = _Batch(files, watch or Watch(), pipeline.frame, request.keep_banding or files.masks is not None)
    try:
        for result in engine.denoise(batch.jobs(tasks), pipeline, request, batch.stepped):
            batch.finish(result)
            yield from batch.outcomes(at_most=max(AHEAD, WRITERS))
        yield from batch.outcomes(at_most=0)
    except (Exception, KeyboardInterrupt):
        batch.close()
        yield from batch.settled()
        raise
    finally:
        batch.close()


class _Batch:
    """The host's side of a run: what is being read, what is in flight, what is being written."""

    def __init__(self, files: FileOptions, watch: Watch, frame: Frame, keep_banding: bool) -> None:
        self.files, self.watch, self.frame, self.keep_banding = files, watch, frame, keep_banding
        self.readers = ThreadPoolExecutor(READERS, thread_name_prefix="read")
        self.writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="write")
        self.reading: deque[tuple[Task, Future[ReadPicture | None]]] = deque()
        self.flying: dict[str, tuple[Task, ReadPicture]] = {}  # by the engine's keys
        self.documents: dict[str, DocumentWriter] = {}  # files of several pages that are under way
        self.writing: deque[_Write] = deque()
        self.largest = MOST_HELD  # bytes of a picture, as far as is known: at first nothing
        self.large = LARGE if frame.scale == 1 else None
        self.rows: dict[str, LargeWriter] = {}  # of large pictures that are under way
        self.drawn = count()
        self.short: set[str] = set()  # pictures for which there was no memory
        self.again: deque[Task] = deque()  # those of them that are tried once more, when the others are done

    def close(self) -> None:
        """Let writes that have begun end, and begin no other."""
        for pool in (self.readers, self.writers):
            pool.shutdown(wait=True, cancel_futures=True)
        for document in self.documents.values():
            document.fail(KeyboardInterrupt())
        for writer in self.rows.values():
            writer.abandon()

    def jobs(self, tasks: Iterable[Task]) -> Iterator[engine.Job]:
        """Pictures in the order of their tasks, read ahead; one that cannot be read becomes a failed outcome."""
        remaining = iter(tasks)
        self._read_ahead(islice(remaining, 1))
        while self.reading or self.again:
            if not self.reading:
                self._read_ahead([self.again.popleft()])
            task, future = self.reading.popleft()
            error = future.exception()
            self._read_ahead(islice(remaining, self._room(None if error else future.result())))
            if error:
                self._unreadable(task, error)
                continue
            read = future.result()
            if read is None:
                self.writing.append(_settled(Outcome(task, before=True)))
                continue
            document = self.documents.get(task.name)
            if read.page and (document is None or document.over):  # another page has failed
                continue
            yield self._job(task, read)

    def _room(self, just_read: ReadPicture | None) -> int:
        """How many more pictures may be read by now; one in any case where none is."""
        if just_read:
            self.largest = just_read.nbytes if self.largest == MOST_HELD else max(self.largest, just_read.nbytes)
        # Where memory runs short, the next picture is read when it is needed, and not before.
        room = 1 if self.short else min(AHEAD, MOST_HELD // max(self.largest, 1))
        return max(0, max(1, room) - len(self.reading))

    def _job(self, task: Task, read: ReadPicture) -> engine.Job:
        if read.page == 0:
            sizes = read.pages.sizes if read.pages else [read.picture.pixels.shape[:2]]
            least = [(max(1, h), max(1, w)) for h, w in sizes]
            tiles = sum(len(Grid.of(h, w, fitted(self.frame, h, w))) for h, w in least)
            self.watch.begun(task, sum(height * width for height, width in sizes) / 1e6, tiles)
        if read.pages:
            if read.page == 0:
                self.documents[task.name] = DocumentWriter(task, read, self.files)
            if read.page + 1 < len(read.pages):  # the next page is read while this one is computed
                following = self.readers.submit(self._looked_at, read_page, task, read, read.page + 1, self.files)
                self.reading.appendleft((task, following))
        key = f"{task.name}\0{next(self.drawn)}"
        self.flying[key] = task, read
        if read.samples is None:
            return engine.Job(key, read.picture.pixels, read.valid, read.noise, read.banding)
        writer = self.rows[key] = LargeWriter(task, read, self.files)
        return engine.Job(key, read.samples, read.valid, read.noise, read.banding, writer.rows)

    def _read_ahead(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            future = self.readers.submit(self._looked_at, read_picture, task, self.files, self.large)
            self.reading.append((task, future))

    def _looked_at(self, read: Callable[..., ReadPicture | None], *given: object) -> ReadPicture | None:
        """A picture as `read` gives it, with all that is found over the whole of it: on a reader's thread."""
        picture = read(*given)
        return picture if picture is None or self.keep_banding else picture.with_banding()

    def _unreadable(self, task: Task, error: BaseException) -> None:
        document = self.documents.pop(task.name, None)
        outcome = document.fail(error) if document else Outcome(task, failure(error))
        if outcome is None:
            return
        if is_out_of_memory(error) and task.name not in self.short:
            self.short.add(task.name)  # what now is in memory may be gone by then
            self.again.append(task)
            return
        self.writing.append(_settled(outcome))
        self._end_at(outcome)

    def finish(self, result: engine.Result) -> None:
        """Hand a result to the writers."""
        task, read = self.flying.pop(result.key)
        if writer := self.rows.pop(result.key, None):
            self._write(0, writer.finish, result)
        elif not read.pages:
            self._write(read.nbytes + result.pixels.nbytes, write_picture, task, read, result, self.files)
        elif (document := self.documents.get(task.name)) and document.pages is read.pages:
            self._write(read.nbytes + result.pixels.nbytes, document.add, read, result)

    def _write(self, size: int, write: Callable[..., Outcome | None], *given: object) -> None:
        self.writing.append(_Write(self.writers.submit(write, *given), size))

    def stepped(self, tiles: int) -> None:
        """After each network call: a failure that ends the run does not wait for the picture that is being computed."""
        self.watch.stepped(tiles)
        for writing in self.writing:
            if writing.future.done() and (outcome := writing.future.result()):
                self._end_at(outcome)
        for task, reading in self.reading if self.files.fail_fast else ():
            if reading.done() and (error := reading.exception()):
                self._unreadable(task, error)

    def outcomes(self, at_most: int) -> Iterator[Outcome]:
        """What is settled, and more until at most so many writes are pending, and not too many bytes.

        After an outcome that ends the run, its error is raised.
        """
        while self.writing and (self._is_behind(at_most) or self.writing[0].future.done()):
            if outcome := self.writing.popleft().future.result():
                self.documents.pop(outcome.task.name, None)
                yield outcome
                self._end_at(outcome)

    def _is_behind(self, at_most: int) -> bool:
        return len(self.writing) > at_most or sum(writing.size for writing in self.writing) > MOST_HELD

    def _end_at(self, outcome: Outcome) -> None:
        if outcome.error and (self.files.fail_fast or isinstance(outcome.error, EnvironmentFault)):
            raise outcome.error

    def settled(self) -> Iterator[Outcome]:
        """After `close`: what was written in spite of the run's end."""
        while self.writing:
            with suppress(CancelledError):
                if outcome := self.writing.popleft().future.result():
                    yield outcome


@dataclass(frozen=True)
class _Write:
    """A result on its way to the disk, and the bytes of memory that it holds until then."""

    future: Future[Outcome | None]
    size: int = 0


def _settled(outcome: Outcome) -> _Write:
    future: Future[Outcome | None] = Future()
    future.set_result(outcome)
    return _Write(future)
