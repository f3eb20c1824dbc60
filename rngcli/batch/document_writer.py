"""A file of several pages on its way to the disk: each is put behind the last as soon as its turn has come."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from .. import images
from ..atomic import GrowingFile
from ..errors import RngError
from ..inference import engine
from .failures import failure
from .file_options import FileOptions
from .inputs import Outcome, Task
from .picture_reader import ReadPicture
from .picture_writer import noted, put_file, turned_up
from .side_outputs import figures_of, mapped, scored


class DocumentWriter:
    """One output of several pages, which come in any order; all of them are written, or there is no output.

    A page that fails fails the file: an output that looks done, with a page in it that is as noisy as before, would be
    found out last.
    """

    def __init__(self, task: Task, first: ReadPicture, files: FileOptions) -> None:
        assert first.pages
        self.task, self.files, self.pages, self.source = task, files, first.pages, first.source
        self.over = False  # settled, whatever became of it
        self._waiting: dict[int, bytes] = {}
        self._next = 0
        self._lock = threading.Lock()
        self._growing: GrowingFile | None = None
        self._appender: images.PageAppender | None = None
        self._notes: dict[str, list[int]] = {}
        self._outcome = Outcome(task, pages=len(first.pages))

    def add(self, read: ReadPicture, result: engine.Result) -> Outcome | None:
        """Take a page that is restored; what became of the file, once, where this settles it."""
        try:
            if result.error:
                raise result.error
            result = replace(result, pixels=self.files.strength.blended(read.picture.pixels, result.pixels))
            restored = read.picture.with_pixels(result.pixels)
            data = images.encode_page(restored, self.pages.form(read.page), self.files.write)
            notes = (*read.picture.notes, *result.notes, *images.losses(read.picture, "tiff", self.files.write))
            notes += mapped(self.task, result, read.source, self.files, read.page)
            with self._lock:
                return None if self.over else self._take(read, data, result, notes)
        except Exception as error:
            return self.fail(error)

    def _take(self, read: ReadPicture, data: bytes, result: engine.Result, notes: tuple[str, ...]) -> Outcome | None:
        self._count(result, 255 * read.noise)
        for note in notes:
            self._notes.setdefault(note, []).append(read.page + 1)
        self._waiting[read.page] = data
        while (data := self._waiting.pop(self._next, b"")) != b"":
            if not self._appender:
                if self.task.fresh and os.path.lexists(self.task.target):
                    return self._settle(self._turned_up())
                with images.one_picture():
                    self._growing = GrowingFile(self.task.target, self.task.fresh)
                self._appender = images.PageAppender(self._growing.file)
            self._appender.append(data)
            self._next += 1
        return self._finish() if self._next == len(self.pages) else None

    def _count(self, result: engine.Result, sigma: float) -> None:
        """Steps and noise are the mean over all pages' pixels, as near as these stand for tiles; seconds the sum."""
        so_far, size = self._outcome, result.pixels.size / 3e6
        before, megapixels = so_far.megapixels, so_far.megapixels + size
        steps = (so_far.steps * before + float(result.steps.mean()) * size) / megapixels
        sigma = ((so_far.sigma or 0.0) * before + sigma * size) / megapixels
        seconds = so_far.seconds + result.seconds
        self._outcome = replace(so_far, megapixels=megapixels, steps=steps, sigma=sigma, seconds=seconds)

    def _finish(self) -> Outcome:
        growing, journal, target = self._growing, self.files.journal, self.task.target
        assert growing
        self._growing = None
        if not put_file(self.task, growing, self.source, self.files):
            return self._settle(Outcome(self.task, before=True))
        outcome = replace(self._outcome, notes=self._told())
        try:  # as it is on the disk, page by page
            after, before = (partial(self._in_srgb, path) for path in (target, self.task.source))
            outcome = scored(outcome, self.files, after, before)
        except Exception as error:
            outcome = noted(outcome, f"not scored: {failure(error)}")
        if journal:
            with suppress(RngError):  # of a full disk, the next picture tells
                journal.noted(target, figures_of(outcome, self.files.reference))
        return self._settle(outcome)

    def _in_srgb(self, path: Path) -> Iterator[np.ndarray]:
        return map(images.in_srgb, images.read_pages(path, self.files.read))

    def _told(self) -> tuple[str, ...]:
        """Notes, each once, with the pages that it is about where these are not all."""
        return tuple(
            note if len(pages) == len(self.pages) else f"page {', '.join(map(str, sorted(pages)))}: {note}"
            for note, pages in self._notes.items()
        )

    def _turned_up(self) -> Outcome:
        turned_up(self.task, self.files)
        return Outcome(self.task, before=True)

    def _settle(self, outcome: Outcome) -> Outcome:
        self.over = True
        self.pages.close()
        return outcome

    def fail(self, error: BaseException) -> Outcome | None:
        """Give the file up; what is to be told of it, once."""
        with self._lock:
            if self.over:
                return None
            growing, self._growing = self._growing, None
            return self._settle(Outcome(self.task, failure(growing.abandon(error) if growing else error)))
