"""A large picture on its way to the disk: rows go there as they are finished, and are never all in memory."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from .. import images
from ..atomic import GrowingFile
from ..errors import RngError
from ..inference import engine
from .failures import failure
from .file_options import FileOptions
from .inputs import Outcome, Task
from .picture_reader import ReadPicture
from .picture_writer import put_file
from .side_outputs import detail_map, figures_of

LARGE = 64_000_000  # pixels from which a TIFF is read as integers and written by rows


class LargeWriter:
    """The output of a picture that was read as `StoredTiff`: an array of rows for the engine, then a file in its place.

    An exception within the engine would end its other pictures, too: what goes wrong is kept, and raised at the end.
    """

    def __init__(self, task: Task, read: ReadPicture, files: FileOptions) -> None:
        self.task, self.read, self.files = task, read, files
        self.shape = read.picture.pixels.shape
        self._growing: GrowingFile | None = None
        self._rows: images.BandedTiff | None = None
        self._error: BaseException | None = None

    def rows(self) -> LargeWriter:
        """Where the rows go; called again where the engine begins anew."""
        self.abandon()
        self._error = None
        return self

    def __setitem__(self, place: slice, rows: np.ndarray) -> None:
        try:
            if not self._error:
                self._open()[place] = rows
        except Exception as error:
            self._error = error

    def _open(self) -> images.BandedTiff:
        if not self._rows:
            with images.one_picture():
                self._growing = GrowingFile(self.task.target, self.task.fresh)
            self._rows = images.BandedTiff(self._growing.file, self.read.picture, self.files.write)
        return self._rows

    def abandon(self, error: BaseException | None = None) -> BaseException | None:
        """Remove what is there of the file; the error as it is to be told."""
        if self._rows:
            self._rows.close()
        growing, self._growing, self._rows = self._growing, None, None
        return growing.abandon(error or KeyboardInterrupt()) if growing else error

    def finish(self, result: engine.Result) -> Outcome:
        """What became of the picture; never raises for a failure of it."""
        task, picture = self.task, self.read.picture
        try:
            if fault := result.error or self._error:
                raise fault
            self._open().finish()
            growing, self._growing = self._growing, None
            if growing and not put_file(task, growing, self.read.source, self.files):
                return Outcome(task, before=True)
        except Exception as error:
            return Outcome(task, failure(self.abandon(error) or error))
        notes = (*picture.notes, *result.notes, *images.losses(picture, "tiff", self.files.write))
        megapixels = self.shape[0] * self.shape[1] / 1e6
        figures = megapixels, float(result.steps.mean()), result.seconds, 255 * self.read.noise
        outcome = Outcome(task, None, *figures, detail_map=detail_map(result.starts), notes=notes)
        if self.files.journal:
            with suppress(RngError):  # of a full disk, the next picture tells
                self.files.journal.noted(task.target, figures_of(outcome, self.files.reference))
        return outcome
