"""Files beside the pictures, guarded as pictures are: a report or a map replaces only what rng itself has made."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..atomic import part_of
from ..errors import EnvironmentFault, UsageError
from ..images import READABLE_SUFFIXES

# How each of them begins, by suffix; all hold what no other program writes there.
_MARKS = {
    ".json": re.compile(rb'\s*(\[\s*(\]|\{\s*"file":)|\{\s*"format": "rng-report-)'),
    ".csv": re.compile(rb"(file,source,output,status|case,method,picture),"),
    ".md": re.compile(rb"# rng eval"),
    ".html": re.compile(rb"(?s)<!doctype html>.*<title>rng (eval|denoise|restore|preview): "),
    ".png": re.compile(rb"(?s).*Software\0rng "),
    ".partial": re.compile(rb'\{"sets":'),
    ".npz": re.compile(rb"(?s)PK.*source\.npy"),
}
_BEGINNING = 16384  # [bytes]


def is_own(path: Path) -> bool:
    """Whether the file at `path` is one that rng writes beside pictures, by its first bytes; an empty one counts."""
    try:
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING)
    except OSError:
        return False
    mark = _MARKS.get(path.suffix.lower())
    return not beginning or bool(mark and mark.match(beginning))


def check_place(path: Path, what: str) -> None:
    """Before any work, whether `path` may be written: UsageError where that would replace somebody's own file.

    EnvironmentFault where its folder takes no files: found by making one, which knows more than rights. `what` is the
    file's part in the command, such as "the report".
    """
    if path.is_dir():
        raise UsageError(f"{what} {path} is a folder", "name a file")
    if os.path.lexists(path) and not is_own(path):
        raise UsageError(f"{what} {path} exists and was not made by rng", "name another file, or remove it first")
    check_folder(path.parent, f"{what} {path} cannot be written: ")


def check_folder(place: Path, what: str = "") -> None:
    """EnvironmentFault where `place`, or the folder in which it would be made, takes no files."""
    folder = next(folder for folder in (place, *place.absolute().parents) if os.path.lexists(folder))
    probe = part_of(folder / "probe")
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        os.unlink(probe)
    except OSError as error:
        raise EnvironmentFault(f"{what}{folder} takes no files ({error.strerror})", "choose another place") from None


def check_log(path: Path) -> None:
    """UsageError where lines would be appended to something that is no text."""
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING)
    except OSError:
        return
    if b"\0" in beginning or path.suffix.lower() in READABLE_SUFFIXES:
        raise UsageError(f"the log {path} exists and is no log", "name another file")
