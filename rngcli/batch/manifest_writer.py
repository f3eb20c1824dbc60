"""The appending side of a manifest: what a run intends, has written, and has to tell of it."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from ..atomic import remove_parts
from ..errors import EnvironmentFault
from ..images.walk import manifest_of, manifests_of
from .manifest import Manifest, State
from .manifest_entry import Source, hash_of, hash_of_file, stamp

_STILL, _ABANDONED = 1, 3600  # [s] an unfinished file not touched for so long is no other run's: alone, or not known


@contextmanager
def journal_of(manifest: Manifest, settings: str, folders: Iterable[Path] | None = ()) -> Iterator[Journal]:
    """Append to the manifest while a run lasts; what killed runs left unfinished in `folders` is removed first.

    And once more at the end: where two runs began at once, neither was alone, and the last to end is. Not where
    `folders` is None: then this is one of several processes, of which the first does so.
    """
    journal = Journal(manifest, settings)
    try:
        if folders is None:
            yield journal
        else:
            places = {manifest.folder, *folders}
            tidy(manifest.folder, places, journal.path)
            yield journal
            tidy(manifest.folder, places, journal.path)
    finally:
        journal.close()


def tidy(folder: Path, places: Iterable[Path], own: Path | None = None) -> None:
    """Remove from `places` what killed runs left unfinished there, and no run below `folder` can be at work on.

    own: the manifest's file that this process has taken, if any.
    """
    alone = _is_alone(folder, own)
    if _sweep(places, _STILL if alone else _ABANDONED) and alone:
        time.sleep(_STILL)  # what then still has not grown was left by a run that was killed just now
        _sweep(places, _STILL)


def _is_alone(folder: Path, own: Path | None) -> bool:
    """Whether no other run is at work on this folder, as far as this machine can know."""
    host = manifest_of(folder, _machine()).stem
    for path in manifests_of(folder):
        elsewhere = path.stem.count("-") and not path.stem.startswith(host)
        if path == own:
            continue
        with suppress(FileNotFoundError):
            if elsewhere and time.time() - path.stat().st_mtime < _ABANDONED:
                return False
            if not elsewhere and _is_taken(path):
                return False
    return True


class Journal:
    """The appending side, in a file that no other process writes as long as this one is open; any thread may call it.

    The system's lock says whether a file is taken, among the processes of one machine, to which its name belongs; a
    killed run's is free again, so that there are never more files than there were writers at once.
    """

    def __init__(self, manifest: Manifest, settings: str) -> None:
        self.manifest, self._settings = manifest, settings
        self._lock = threading.Lock()
        self.path, self._file = self._free()
        size = os.fstat(self._file).st_size
        self._torn = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"

    def _free(self) -> tuple[Path, int]:
        """A file of this machine's that nobody has taken, taken."""
        host = _machine()
        for number in count():
            path = manifest_of(self.manifest.folder, f"{host}-{number}")
            taken = _take(file := _opened(path))
            if taken is None:  # no locks here: a name that nobody else can have
                os.close(file)
                path = manifest_of(self.manifest.folder, f"{host}-{secrets.token_hex(8)}")
                return path, _opened(path)
            if taken:
                return path, file
            os.close(file)
        raise AssertionError  # count() has no end

    def close(self) -> None:
        os.close(self._file)

    def state(self, source: Path, target: Path) -> State:
        """As `Manifest.state`, with what other runs have appended meanwhile."""
        self.manifest.refresh()
        return self.manifest.state(source, target, lambda: self._settings)

    def intend(self, source: Source, target: Path, data: bytes | Path) -> str:
        """These bytes, or those of a file, made of that source, are about to be put in place; their hash."""
        size, hashed = (len(data), hash_of(data)) if isinstance(data, bytes) else (stamp(data)[0], hash_of_file(data))
        row = {"from": self.manifest.origin(source.path), "source": source.stamp, "content": source.content,
               "settings": self._settings, "output": (size, hashed), "at": _now()}  # fmt: skip
        self._append(target, row)
        with suppress(OSError):  # so that not even a power failure makes an output a stranger
            os.fsync(self._file)
        return hashed

    def written(self, target: Path, hashed: str) -> None:
        """They are in place."""
        with suppress(FileNotFoundError):  # and gone again: so is the need to know
            self._append(target, {"hash": hashed, "written": stamp(target)})

    def noted(self, target: Path, figures: Mapping[str, Any]) -> None:
        """What a report tells of the output that is at `target`."""
        if entry := self.manifest.last(target):
            self._append(target, {"hash": entry.hash, "figures": figures, "at": _now()})

    def _append(self, target: Path, row: Mapping[str, Any]) -> None:
        with self._lock:
            self._return()
            line = _line({"target": self.manifest.key(target), **row})
            self._write(b"\n" * self._torn + line)
            self._torn = False
            self.manifest.refresh(self.path)

    def _return(self) -> None:
        """Where the folder was removed under the run, begin its manifest anew, with all that is known."""
        try:
            here, there = os.fstat(self._file), os.stat(self.path)
            if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
                return
        except OSError:
            pass
        os.close(self._file)
        (self.path, self._file), self._torn = self._free(), False
        self._write(b"".join(_line(row) for row in self.manifest.rows()))

    def _write(self, data: bytes) -> None:
        try:
            complete = os.write(self._file, data) == len(data)
        except OSError as error:
            cause = f"{self.path} cannot be written ({error.strerror})"
            raise EnvironmentFault(cause, "check the disk and its rights") from None
        if not complete:
            raise EnvironmentFault(f"{self.path} cannot be written", "the disk is full: make room")


def _now() -> float:
    return round(time.time(), 3)


@cache
def _machine() -> str:
    """This machine's name, and what tells it from others of the same name; containers of one machine share both."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        boot = str(uuid.getnode())
    name = re.sub(r"[^A-Za-z0-9_]", "_", socket.gethostname())[:40]
    return f"{name}-{hash_of(boot.encode())[:8]}"


def _opened(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError as error:
        cause = f"{path} cannot be written ({error.strerror})"
        raise EnvironmentFault(cause, "check the disk and its rights") from None


def _take(file: int) -> bool | None:
    """Whether the file is this process's from now on; None where the system has no locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None


def _is_taken(path: Path) -> bool:
    file = os.open(path, os.O_RDONLY)
    try:
        return _take(file) is not True
    finally:
        os.close(file)


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row).encode() + b"\n"


def _sweep(folders: Iterable[Path], age: float) -> bool:
    """Remove unfinished files older than `age` [s]; whether there are younger ones."""
    return sum(remove_parts(folder, age) for folder in folders) > 0
