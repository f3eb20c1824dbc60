"""What rng has written below a folder, from which sources and with which settings: the memory of a resumed run.

One file, OUT/.rng/manifest.jsonl, and no tag inside the pictures: not every format holds one, `--strip-metadata` and
any editor drop it, a copy carries it to where it is not true, and ten thousand pictures would have to be opened to
learn that nothing is to be done. Two lines a picture, only ever appended:

    {"target": …, "source": [size, mtime_ns], "settings": …, "output": [size, hash]}    just before it is put in place
    {"target": …, "written": [size, mtime_ns]}                                          just after

A run killed between the two is recognised by the hash; a last line torn by a kill is left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from ..atomic import remove_parts
from ..errors import EnvironmentFault

PLACE = Path(".rng", "manifest.jsonl")
_STILL, _ABANDONED = 1, 3600  # [s] an unfinished file not touched for so long is no other run's: alone, or not known

Stamp = tuple[int, int]  # size [bytes], mtime [ns]


class State(Enum):
    """What there is to do for a target, and whether rng may."""

    NEW = "nothing is there"
    DONE = "made from this source with these settings"
    STALE = "made by rng, from another state of the source or with other settings"
    EDITED = "changed since rng made it"
    FOREIGN = "not made by rng"


@dataclass(frozen=True)
class Entry:
    """One output: from what it was made, what it is, and, once it was seen in place, its stamp."""

    source: Stamp
    settings: str
    size: int
    hash: str
    written: Stamp | None = None

    def made(self, target: Path, now: Stamp) -> bool:
        """Whether the file that is there is this output."""
        if self.written == now:
            return True
        return self.size == now[0] and target.is_file() and hash_of(target.read_bytes()) == self.hash


def stamp(path: Path) -> Stamp:
    """Size and time of a file, by which a change of it is noticed; OSError where there is none."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def hash_of(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest(settings: Mapping[str, Any]) -> str:
    """All that an output depends on beside its source, in 16 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8).hexdigest()


class Manifest:
    """The manifest of `folder`; targets are kept relative to it, so the folder may be moved."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / PLACE
        self._entries: dict[str, list[Entry]] = {}
        try:
            lines = self.path.read_bytes().split(b"\n")
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise EnvironmentFault(f"{self.path} cannot be read ({error.strerror})", "check its rights") from None
        for line in lines:
            with suppress(ValueError, KeyError, TypeError, IndexError, AttributeError):
                self._learn(json.loads(line))

    def _learn(self, row: dict[str, Any]) -> None:
        """Before a new output is known to be in place, the old one may still be there: both are kept until then."""
        history = self._entries.setdefault(row["target"], [])
        if "written" in row:
            history[:] = [replace(history[-1], written=_stamp_of(row["written"]))]
        else:
            size, hashed = row["output"]
            history.append(Entry(_stamp_of(row["source"]), row["settings"], size, hashed))

    def key(self, target: Path) -> str:
        return os.path.relpath(target, self.folder)

    def state(self, source: Path, target: Path, settings: Callable[[], str]) -> State:
        """What there is to do; `settings` is asked for its digest only where the manifest knows the target."""
        try:
            if not os.path.lexists(target):
                return State.NEW
            now, origin = stamp(target), stamp(source)
            history = self._entries.get(self.key(target), [])
            there = next((entry for entry in reversed(history) if entry.made(target, now)), None)
        except (OSError, ValueError):
            return State.FOREIGN if os.path.lexists(target) else State.NEW
        entry = there or next(reversed(history), None)
        if entry is None:
            return State.FOREIGN
        if (entry.source, entry.settings) == (origin, settings()) and (there or entry.written):
            return State.DONE
        return State.STALE if there else State.EDITED

    @contextmanager
    def journal(self, settings: str, folders: Iterable[Path] = ()) -> Iterator[Journal]:
        """Append to the manifest while a run lasts; what killed runs left unfinished in `folders` is removed first."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            cause = f"{self.path} cannot be written ({error.strerror})"
            raise EnvironmentFault(cause, "check the disk and its rights") from None
        try:
            places, alone = {self.folder, *folders}, _alone(file)
            if _sweep(places, _STILL if alone else _ABANDONED) and alone:
                time.sleep(_STILL)  # what then still has not grown was left by a run that was killed just now
                _sweep(places, _STILL)
            yield Journal(self, file, settings)
        finally:
            os.close(file)


class Journal:
    """The appending side; any thread may call it."""

    def __init__(self, manifest: Manifest, file: int, settings: str) -> None:
        self._manifest, self._file, self._settings = manifest, file, settings
        self._lock = threading.Lock()
        size = os.fstat(file).st_size
        self._torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"

    def intend(self, source: Stamp, target: Path, data: bytes) -> None:
        """These bytes, made of that source, are about to be put in place."""
        row = {"source": source, "settings": self._settings, "output": (len(data), hash_of(data))}
        self._append(target, row)
        with suppress(OSError):  # so that not even a power failure makes an output a stranger
            os.fsync(self._file)

    def written(self, target: Path) -> None:
        """They are in place."""
        self._append(target, {"written": stamp(target)})

    def _append(self, target: Path, row: Mapping[str, Any]) -> None:
        line = json.dumps({"target": self._manifest.key(target), **row}).encode() + b"\n"
        with self._lock:
            line, self._torn = b"\n" * self._torn + line, False
            try:
                complete = os.write(self._file, line) == len(line)
            except OSError as error:
                cause = f"{self._manifest.path} cannot be written ({error.strerror})"
                raise EnvironmentFault(cause, "check the disk and its rights") from None
            if not complete:
                raise EnvironmentFault(f"{self._manifest.path} cannot be written", "the disk is full: make room")


def _stamp_of(pair: Any) -> Stamp:
    size, mtime = pair
    return size, mtime


def _alone(file: int) -> bool:
    """Whether no other run appends here; this one then shows itself to the next, as long as the file is open."""
    try:
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            return False
        finally:
            fcntl.flock(file, fcntl.LOCK_SH)
    except (ImportError, OSError):
        return False


def _sweep(folders: Iterable[Path], age: float) -> bool:
    """Remove unfinished files older than `age` [s]; whether there are younger ones."""
    return sum(remove_parts(folder, age) for folder in folders) > 0
