"""A restored picture put in its place on disk, whole or not at all, with what belongs beside it."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace

from .. import images
from ..atomic import GrowingFile
from ..errors import PictureError, RngError
from ..inference import engine
from .failures import failure
from .file_options import FileOptions
from .inputs import Outcome, Task
from .manifest import State
from .manifest_entry import Source
from .picture_reader import ReadPicture
from .side_outputs import detail_map, figures_of, mapped, scored


def write_picture(task: Task, read: ReadPicture, result: engine.Result, files: FileOptions) -> Outcome:
    """What became of a picture whose result is there; never raises for a failure of this picture."""
    picture = read.picture
    try:
        if result.error:
            raise result.error
        result = replace(result, pixels=files.strength.blended(picture.pixels, result.pixels))
        format = images.FORMAT_OF_SUFFIX.get(task.target.suffix.lower(), picture.format)
        data = images.encode(picture.with_pixels(result.pixels), format, files.write)
        unmapped = mapped(task, result, read.source, files)  # first: whoever finds the picture finds its map as well
        if not _put(task, data, read.source, files):
            return Outcome(task, before=True)
    except Exception as error:
        return Outcome(task, failure(error))
    notes = (*picture.notes, *result.notes, *unmapped, *images.losses(picture, format, files.write))
    figures = result.pixels.size / 3e6, float(result.steps.mean()), result.seconds, 255 * read.noise
    outcome = Outcome(task, None, *figures, detail_map=detail_map(result.starts), notes=notes)
    try:  # the picture itself is on disk from here on
        after = picture.with_pixels(result.pixels)
        outcome = scored(outcome, files, lambda: [images.in_srgb(after)], lambda: [images.in_srgb(picture)])
    except Exception as error:
        outcome = noted(outcome, f"not scored: {failure(error)}")
    if files.journal:
        with suppress(RngError):  # of a full disk, the next picture tells
            files.journal.noted(task.target, figures_of(outcome, files.reference))
    return outcome


def noted(outcome: Outcome, note: str) -> Outcome:
    return replace(outcome, notes=(*outcome.notes, note))


def _put(task: Task, data: bytes, source: Source | None, files: FileOptions) -> bool:
    """Whether this run has put the output into its place; False where another one has just done so."""
    journal = files.journal
    if task.fresh and os.path.lexists(task.target):
        return turned_up(task, files)
    hashed = journal.intend(source, task.target, data) if journal and source else ""
    if not task.fresh:
        images.write_bytes(task.target, data)
    elif not images.write_new(task.target, data):
        return turned_up(task, files)
    if journal:
        journal.written(task.target, hashed)
    return True


def put_file(task: Task, growing: GrowingFile, source: Source | None, files: FileOptions) -> bool:
    """Put a file that was written piece by piece in its place; False where another run has just done so."""
    if task.fresh and os.path.lexists(task.target):
        growing.abandon(KeyboardInterrupt())
        return turned_up(task, files)
    journal = files.journal
    try:
        growing.file.flush()
        hashed = journal.intend(source, task.target, growing.part) if journal and source else ""
    except BaseException as error:
        raise growing.abandon(error) from None
    with images.one_picture():
        there = growing.put()
    if not there:
        return turned_up(task, files)
    if journal:
        journal.written(task.target, hashed)
    return True


def turned_up(task: Task, files: FileOptions) -> bool:
    """False where what has turned up at the target is what this run would put there; else its PictureError."""
    state = files.journal.state(task.source, task.target) if files.journal else State.FOREIGN
    if state is State.DONE:
        return False
    cause = "was made from another source" if state is State.OTHERS else "has turned up"
    raise PictureError(f"{task.target} {cause} since the run began", "give another OUT, or use --overwrite")
