"""What rng has written below a folder, from which sources and with which settings: the memory of a resumed run.

One file, OUT/.rng/manifest.jsonl, and no tag inside the pictures: not every format holds one, `--strip-metadata` and
any editor drop it, a copy carries it to where it is not true, and ten thousand pictures would have to be opened to
learn that nothing is to be done. Lines are only ever appended, up to three a picture:

    {"target": …, "from": path, "source": [size, mtime_ns], "content": hash, "settings": …, "output": [size, hash]}
                                                                                  just before it is put in place
    {"target": …, "hash": …, "written": [size, mtime_ns]}                         just after
    {"target": …, "hash": …, "figures": {…}}                                      what a report tells of it

Paths are relative to the folder, so that it may be moved with its sources. A run killed between the first two lines is
recognised by the hash; a last line torn by a kill is left out. Lines of older versions lack "from", "content" and the
"hash" of the second: there the output belongs to whatever source writes to its name.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from ..atomic import remove_parts
from ..errors import EnvironmentFault
from ..images.walk import MANIFEST as PLACE

_STILL, _ABANDONED = 1, 3600  # [s] an unfinished file not touched for so long is no other run's: alone, or not known

Stamp = tuple[int, int]  # size [bytes], mtime [ns]


class State(Enum):
    """What there is to do for a target, and whether rng may."""

    NEW = "nothing is there"
    DONE = "made from this source with these settings"
    STALE = "made by rng, from another state of the source or with other settings"
    EDITED = "changed since rng made it"
    OTHERS = "made by rng from another source"
    FOREIGN = "not made by rng"


@dataclass(frozen=True)
class Source:
    """One state of a picture to denoise: where it lies, its size and time, and the hash of its bytes."""

    path: Path
    stamp: Stamp
    content: str

    @classmethod
    def of(cls, path: Path) -> Source:
        """As it is now; OSError where it cannot be read. Its stamp is from before: a change meanwhile outdates it."""
        return cls(path, stamp(path), hash_of_file(path))


@dataclass(frozen=True)
class Entry:
    """One output: from what it was made, what it is, and, once it was seen in place, its stamp."""

    source: Stamp
    settings: str
    size: int
    hash: str
    origin: str | None = None  # the source's path relative to the folder; None, like `content`, before version 2
    content: str | None = None
    written: Stamp | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)

    def made(self, target: Path, now: Stamp) -> bool:
        """Whether the file that is there is this output."""
        if self.written == now:
            return True
        return self.size == now[0] and target.is_file() and hash_of_file(target) == self.hash

    def moved(self, source: Path, now: Stamp) -> bool:
        """Whether its source is the same picture, now at another place."""
        return self.source[0] == now[0] and hash_of_file(source) == self.content


def stamp(path: Path) -> Stamp:
    """Size and time of a file, by which a change of it is noticed; OSError where there is none."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def hash_of(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def hash_of_file(path: Path) -> str:
    """The same of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def digest(settings: Mapping[str, Any]) -> str:
    """All that an output depends on beside its source, in 16 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8).hexdigest()


class Manifest:
    """The manifest of `folder`; targets are kept relative to it, so the folder may be moved. Any thread may ask."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path, self._real = folder, folder / PLACE, os.path.realpath(folder)
        self._entries: dict[str, list[Entry]] = {}
        self._file: tuple[int, int] | None = None  # which file that is, and how many bytes of it are known
        self._read_to = 0
        self._lock = threading.Lock()
        self.refresh()

    def refresh(self) -> None:
        """Learn what has been appended since, by this run or another one."""
        with self._lock:
            try:
                with self.path.open("rb") as file:
                    status = os.fstat(file.fileno())
                    if self._file != (status.st_dev, status.st_ino) or status.st_size < self._read_to:
                        self._file, self._read_to = (status.st_dev, status.st_ino), 0
                    file.seek(self._read_to)
                    data = file.read()
            except (FileNotFoundError, NotADirectoryError):
                return
            except OSError as error:
                raise EnvironmentFault(f"{self.path} cannot be read ({error.strerror})", "check its rights") from None
            whole = data[: data.rfind(b"\n") + 1]
            self._read_to += len(whole)
            for line in whole.split(b"\n"):
                with suppress(ValueError, KeyError, TypeError, IndexError, AttributeError):
                    self._learn(json.loads(line))

    def _learn(self, row: dict[str, Any]) -> None:
        """Before a new output is known to be in place, the old one may still be there: both are kept until then."""
        history = self._entries.setdefault(row["target"], [])
        if "output" in row:
            size, hashed = row["output"]
            origin, content = row.get("from"), row.get("content")
            history.append(Entry(_stamp_of(row["source"]), row["settings"], size, hashed, origin, content))
            return
        # Two runs may have announced the same target: the hash says whose output came into its place.
        own = [entry for entry in history if row.get("hash", history[-1].hash) == entry.hash][-1]
        if "written" in row:
            history[:] = [replace(own, written=_stamp_of(row["written"]))]
        elif "figures" in row:
            history[history.index(own)] = replace(own, figures=dict(row["figures"]))

    def key(self, target: Path) -> str:
        return os.path.relpath(target, self.folder)

    def origin(self, source: Path) -> str:
        """The source's path relative to the folder, links resolved; absolute where no relative one exists."""
        real = os.path.realpath(source)
        try:
            return os.path.relpath(real, self._real)
        except ValueError:  # on another drive
            return real

    def state(self, source: Path, target: Path, settings: Callable[[], str]) -> State:
        """What there is to do; `settings` is asked for its digest only where the manifest knows the target."""
        try:
            if not os.path.lexists(target):
                return State.NEW
            now, origin = stamp(target), stamp(source)
            history = self._entries.get(self.key(target), [])
            there = next((entry for entry in reversed(history) if entry.made(target, now)), None)
            entry = there or next(reversed(history), None)
            if entry is None:
                return State.FOREIGN
            here = entry.origin in (None, self.origin(source))
            if not here and not entry.moved(source, origin):
                return State.OTHERS
        except (OSError, ValueError):
            return State.FOREIGN if os.path.lexists(target) else State.NEW
        unchanged = entry.source == origin if here else True
        if unchanged and entry.settings == settings() and (there or entry.written):
            return State.DONE
        return State.STALE if there else State.EDITED

    def made(self, target: Path) -> bool:
        """Whether the file at `target` is one that rng has put there."""
        try:
            now = stamp(target)
            return any(entry.made(target, now) for entry in self._entries.get(self.key(target), []))
        except (OSError, ValueError):
            return False

    def last(self, target: Path) -> Entry | None:
        """The newest entry of `target`."""
        return next(reversed(self._entries.get(self.key(target), [])), None)

    def figures(self, target: Path) -> Mapping[str, Any]:
        """What a report told of the output at `target` when it was made; empty where that is not known."""
        entry = self.last(target)
        return entry.figures if entry else {}

    def rows(self) -> Iterator[dict[str, Any]]:
        """All that is known, as lines to append."""
        for target, history in list(self._entries.items()):
            for entry in history:
                yield {"target": target, "from": entry.origin, "source": entry.source, "content": entry.content,
                       "settings": entry.settings, "output": (entry.size, entry.hash)}  # fmt: skip
                if entry.written:
                    yield {"target": target, "hash": entry.hash, "written": entry.written}
                if entry.figures:
                    yield {"target": target, "hash": entry.hash, "figures": dict(entry.figures)}

    @contextmanager
    def journal(self, settings: str, folders: Iterable[Path] = ()) -> Iterator[Journal]:
        """Append to the manifest while a run lasts; what killed runs left unfinished in `folders` is removed first."""
        journal = Journal(self, settings)
        try:
            places, alone = {self.folder, *folders}, journal.alone()
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


def _stamp_of(pair: Any) -> Stamp:
    size, mtime = pair
    return size, mtime


def _sweep(folders: Iterable[Path], age: float) -> bool:
    """Remove unfinished files older than `age` [s]; whether there are younger ones."""
    return sum(remove_parts(folder, age) for folder in folders) > 0
