"""Which files below a folder are pictures, by their names: the one walk of denoising, measuring and training."""

from __future__ import annotations

import json
import os
from collections import Counter, deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rngcli.errors import NoInputError, PictureError
from rngcli.images.files import READABLE_SUFFIXES

_KEPT, _MANIFEST, _LINES = ".rng", "manifest", ".jsonl"  # OUT/.rng/manifest….jsonl: what rng has written, a line each
OTHER_SUFFIXES = frozenset({
    ".ai", ".apng", ".bmp", ".cin", ".dds", ".dpx", ".eps", ".exr", ".gif", ".hdr", ".heic", ".heif", ".hif", ".ico",
    ".j2k", ".jp2", ".jpf", ".jpx", ".jxl", ".jxr", ".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".psb", ".psd", ".qoi",
    ".svg", ".tga", ".xcf",
}) - READABLE_SUFFIXES  # fmt: skip
_SYSTEM = {
    "thumbs.db", "desktop.ini", "__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "lost+found",
    "system volume information",
}  # fmt: skip


@dataclass
class Walked:
    """What lies below a folder: `pictures`, folders that could not be read, and what was passed over, by kind."""

    pictures: list[Path] = field(default_factory=list)
    errors: list[PictureError] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


def is_hidden(name: str) -> bool:
    """Dot files, macOS's `._x` twins, and what file managers and network disks leave lying about."""
    return name.startswith(".") or name.lower() in _SYSTEM


def is_picture(name: str) -> bool:
    """Whether a file of this name is to be read."""
    return not is_hidden(name) and Path(name).suffix.lower() in READABLE_SUFFIXES


def walk(folder: Path, leave_out: Iterable[Path] = ()) -> Walked:
    """Every file below `folder` with a picture's suffix: a folder's own files, sorted, before those of its subfolders.

    Links to folders are followed after all real folders, and each folder is visited once: links cannot loop, and a
    picture has the name of the place where it lies. What rng itself has written is passed over, by the manifests below
    `folder`; where nothing else is there, `folder` is meant all the same, and its own manifest does not count.
    """
    found, written = Walked(), set[str]()
    seen = {identity for path in leave_out if (identity := _identity(path))}
    waiting, links = deque([folder]), deque[Path]()
    while waiting or links:
        here = waiting.popleft() if waiting else links.popleft()
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            found.errors.append(PictureError(f"{here} cannot be read ({error.strerror})", "check its rights"))
            continue
        folders = []
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if _is_folder(entry):
                folders.append(entry)
            else:
                _take(here / entry.name, found)
        waiting.extendleft(here / entry.name for entry in reversed(folders) if not entry.is_symlink())
        links.extend(here / entry.name for entry in folders if entry.is_symlink())
        written |= written_by_rng(here)
    _leave_out(written, folder, found)
    return found


def pictures_below(folder: Path) -> list[Path]:
    """The same, where a part must not be taken for the whole: NoInputError where a folder cannot be read."""
    found = walk(folder)
    if found.errors:
        raise NoInputError(found.errors[0].cause, found.errors[0].remedy)
    return found.pictures


def manifests_of(folder: Path) -> list[Path]:
    """The files, one a writer, that say what rng has written below `folder`, a "target" a line; may raise OSError."""
    try:
        names = os.listdir(folder / _KEPT)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder / _KEPT / name for name in sorted(names) if name.startswith(_MANIFEST) and name.endswith(_LINES)]


def manifest_of(folder: Path, writer: str) -> Path:
    """Where a writer of that name keeps its own."""
    return folder / _KEPT / f"{_MANIFEST}-{writer}{_LINES}"


def written_by_rng(folder: Path) -> set[str]:
    """The files that the manifests of `folder` know, as absolute paths without links; none where there are none."""
    found: set[str] = set()
    with suppress(OSError):
        lines = [line for path in manifests_of(folder) for line in path.read_bytes().split(b"\n")]
        place = os.path.realpath(folder) if lines else ""
        for line in lines:
            with suppress(ValueError, KeyError, TypeError):
                found.add(os.path.normpath(os.path.join(place, json.loads(line)["target"])))
    return found


def _leave_out(written: set[str], folder: Path, found: Walked) -> None:
    if not written:
        return
    kept = [path for path in found.pictures if _real(path) not in written]
    if not kept:
        written = written - written_by_rng(folder)
        kept = [path for path in found.pictures if _real(path) not in written]
    if len(kept) < len(found.pictures):
        found.passed_over["made by rng"] = len(found.pictures) - len(kept)
    found.pictures = kept


def _real(path: Path) -> str:
    return os.path.join(os.path.realpath(path.parent), path.name)


def _take(path: Path, found: Walked) -> None:
    suffix = path.suffix.lower()
    if suffix in READABLE_SUFFIXES:
        found.pictures.append(path)
    elif suffix in OTHER_SUFFIXES:
        found.passed_over[suffix[1:].upper()] += 1


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; as a file it says so when it is read
        return False


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
