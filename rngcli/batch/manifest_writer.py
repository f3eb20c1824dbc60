"""The appending side of a manifest: what a run intends, has written, and has to tell of it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..atomic import remove_parts
from ..errors import EnvironmentFault
from .manifest import Manifest, State
from .manifest_entry import Source, hash_of, stamp

_STILL, _ABANDONED = 1, 3600  # [s] an unfinished file not touched for so long is no other run's: alone, or not known


@contextmanager
def journal_of(manifest: Manifest, settings: str, folders: Iterable[Path] = ()) -> Iterator[Journal]:
    """Append to the manifest while a run lasts; what killed runs left unfinished in `folders` is removed first."""
    journal = Journal(manifest, settings)
    try:
        places, alone = {manifest.folder, *folders}, journal.alone()
        if _sweep(places, _STILL if alone else _ABANDONED) and alone:
            time.sleep(_STILL)  # what then still has not grown was left by a run that was killed just now
            _sweep(places, _STILL)
        yield journal
    finally:
        journal.close()


class Journal:
    """The appending side; any thread may call it."""

    def __init__(self, manifest: Manifest, settings: str) -> None:
        self.manifest, self._settings = manifest, settings
        self._lock = threading.Lock()
        self._file = self._open()
        size = os.fstat(self._file).st_size
        self._torn = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"

    def _open(self) -> int:
        path = self.manifest.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            cause = f"{path} cannot be written ({error.strerror})"
            raise EnvironmentFault(cause, "check the disk and its rights") from None

    def close(self) -> None:
        os.close(self._file)

    def alone(self) -> bool:
        """Whether no other run appends here; this one then shows itself to the next, as long as it is open."""
        try:
            import fcntl

            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except OSError:
                return False
            finally:
                fcntl.flock(self._file, fcntl.LOCK_SH)
        except (ImportError, OSError):
            return False

    def state(self, source: Path, target: Path) -> State:
        """As `Manifest.state`, with what other runs have appended meanwhile."""
        self.manifest.refresh()
        return self.manifest.state(source, target, lambda: self._settings)

    def intend(self, source: Source, target: Path, data: bytes) -> str:
        """These bytes, made of that source, are about to be put in place; their hash."""
        row = {"from": self.manifest.origin(source.path), "source": source.stamp, "content": source.content,
               "settings": self._settings, "output": (len(data), hashed := hash_of(data))}  # fmt: skip
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
            self._append(target, {"hash": entry.hash, "figures": figures})

    def _append(self, target: Path, row: Mapping[str, Any]) -> None:
        with self._lock:
            self._return()
            line = _line({"target": self.manifest.key(target), **row})
            self._write(b"\n" * self._torn + line)
            self._torn = False
            self.manifest.refresh()

    def _return(self) -> None:
        """Where the folder was removed under the run, begin its manifest anew, with all that is known."""
        try:
            here, there = os.fstat(self._file), os.stat(self.manifest.path)
            if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
                return
        except OSError:
            pass
        os.close(self._file)
        self._file, self._torn = self._open(), False
        self._write(b"".join(_line(row) for row in self.manifest.rows()))

    def _write(self, data: bytes) -> None:
        try:
            complete = os.write(self._file, data) == len(data)
        except OSError as error:
            cause = f"{self.manifest.path} cannot be written ({error.strerror})"
            raise EnvironmentFault(cause, "check the disk and its rights") from None
        if not complete:
            raise EnvironmentFault(f"{self.manifest.path} cannot be written", "the disk is full: make room")


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row).encode() + b"\n"


def _sweep(folders: Iterable[Path], age: float) -> bool:
    """Remove unfinished files older than `age` [s]; whether there are younger ones."""
    return sum(remove_parts(folder, age) for folder in folders) > 0
