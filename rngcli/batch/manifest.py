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

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any

from ..errors import EnvironmentFault
from ..images.walk import MANIFEST as PLACE
from .manifest_entry import Entry, Stamp, stamp


class State(Enum):
    """What there is to do for a target, and whether rng may."""

    NEW = "nothing is there"
    DONE = "made from this source with these settings"
    STALE = "made by rng, from another state of the source or with other settings"
    EDITED = "changed since rng made it"
    OTHERS = "made by rng from another source"
    FOREIGN = "not made by rng"


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


def _stamp_of(pair: Any) -> Stamp:
    size, mtime = pair
    return size, mtime
