"""Which files a run is about: pictures below IN, their places below OUT, and what is done already."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import NoInputError, UsageError
from .images import FORMAT_OF_SUFFIX, RAW_SUFFIXES, READABLE_SUFFIXES

RAW_TARGET = ".tif"  # a RAW file's output
_SYSTEM = {"thumbs.db", "desktop.ini", "__macosx"}


@dataclass(frozen=True)
class Task:
    """One picture to denoise; `name` is its path below IN, which is also how a person is told of it."""

    name: str
    source: Path
    target: Path

    def is_done(self) -> bool:
        """Whether the target is there and not older than its source."""
        try:
            return self.target.stat().st_mtime >= self.source.stat().st_mtime
        except OSError:
            return False


def is_hidden(name: str) -> bool:
    """Dot files, macOS's `._x` twins, and what file managers leave lying about."""
    return name.startswith(".") or name.lower() in _SYSTEM


def pictures_below(folder: Path, leave_out: Path | None = None) -> Iterator[Path]:
    """Every file with a picture's suffix below `folder`, sorted; each real folder once, so that links cannot loop."""
    seen: set[tuple[int, int]] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        here = os.stat(root)
        if (here.st_dev, here.st_ino) in seen or (leave_out and leave_out.exists() and Path(root).samefile(leave_out)):
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield from (Path(root, name) for name in sorted(files) if _is_picture(name))


def _is_picture(name: str) -> bool:
    return not is_hidden(name) and Path(name).suffix.lower() in READABLE_SUFFIXES


def _target_name(name: Path) -> Path:
    """RAW becomes TIFF; everything else keeps its name."""
    return name.with_suffix(RAW_TARGET) if name.suffix.lower() in RAW_SUFFIXES else name


def plan(source: Path, out: Path) -> list[Task]:
    """The tasks for IN, a file or a folder, and OUT, in the order of their names.

    Raises UsageError where IN is OUT, or two inputs would write the same output, or an output is an input;
    NoInputError where there is no picture.
    """
    if not source.exists():
        raise NoInputError(f"{source} does not exist", "give a picture or a folder of pictures")
    if out.exists() and source.samefile(out):
        raise UsageError("IN and OUT are the same", "give another OUT; inputs are never changed")
    tasks = [_single(source, out)] if source.is_file() else list(_folder(source, out))
    if not tasks:
        raise NoInputError(f"no picture in {source}", f"rng reads {', '.join(sorted(FORMAT_OF_SUFFIX))} and camera RAW")
    _refuse_collisions(tasks)
    return tasks


def _single(source: Path, out: Path) -> Task:
    names_a_picture = out.suffix.lower() in FORMAT_OF_SUFFIX and not out.is_dir()
    return Task(source.name, source, out if names_a_picture else out / _target_name(Path(source.name)))


def _folder(source: Path, out: Path) -> Iterator[Task]:
    if out.is_file():
        raise UsageError(f"IN is a folder and OUT, {out}, is a file", "give a folder for OUT")
    for picture in pictures_below(source, leave_out=out):
        name = picture.relative_to(source)
        yield Task(str(name), picture, out / _target_name(name))


def _refuse_collisions(tasks: Iterable[Task]) -> None:
    """Compared without regard to case, since many disks do not regard it."""
    writers: dict[str, Task] = {}
    sources = {os.path.realpath(task.source) for task in tasks}
    for task in tasks:
        target = os.path.realpath(task.target)
        if target in sources:
            raise UsageError(f"{task.name} would overwrite an input, {target}", "give an OUT outside IN")
        other = writers.setdefault(target.casefold(), task)
        if other is not task:
            raise UsageError(f"{other.name} and {task.name} would both write {task.target}", "rename one of them")
