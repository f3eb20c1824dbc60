"""What rng has written below a folder, from which sources and with which settings: the memory of a resumed run.

Files in OUT/.rng, and no tag inside the pictures: not every format holds one, `--strip-metadata` and any editor drop
it, a copy carries it to where it is not true, and ten thousand pictures would have to be opened to learn that nothing
is to be done. Each writer has a file of its own, manifest-HOST-NUMBER.jsonl, so that no two processes or machines ever
append to one, which network disks do not keep apart; all are merged on reading, whatever their order. Lines are only
ever appended, up to three a picture:

    {"target": …, "from": path, "source": [size, mtime_ns], "content": hash, "settings": …, "output": [size, hash],
     "at": seconds}                                                               just before it is put in place
    {"target": …, "hash": …, "written": [size, mtime_ns]}                         just after
    {"target": …, "hash": …, "figures": {…}, "at": seconds}                       what a report tells of it

Paths are relative to the folder, so that it may be moved with its sources. A run killed between the first two lines is
recognised by the hash; a last line torn by a kill is left out. Older versions shared one file, manifest.jsonl, which is
read as one more writer's; in the first, "from", "content" and the "hash" of the second line were not there, and the
output belongs to whatever source writes to its name.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from operator import attrgetter
from pathlib import Path
from typing import Any

from ..errors import EnvironmentFault
from ..images.walk import manifests_of
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
    """The manifests of `folder`; targets are kept relative to it, so the folder may be moved. Any thread may ask."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._real = folder, os.path.realpath(folder)
        self._entries: dict[str, list[Entry]] = {}  # of each target, the newest last
        self._figures: dict[tuple[str, str], tuple[float, Mapping[str, Any]]] = {}  # by target and hash
        self._known: dict[Path, tuple[tuple[int, int], int]] = {}  # which file that is, and how many bytes are known
        self._lock = threading.Lock()
        self.refresh()

    def refresh(self, only: Path | None = None) -> None:
        """Learn what has been appended since, by this run and others, or to one of the files."""
        path = only or self.folder
        try:
            with self._lock:
                for path in [only] if only else manifests_of(self.folder):
                    for line in self._new_lines(path):
                        with suppress(ValueError, KeyError, TypeError, IndexError, AttributeError):
                            self._learn(json.loads(line), path.name)
        except OSError as error:
            raise EnvironmentFault(f"{path} cannot be read ({error.strerror})", "check its rights") from None

    def _new_lines(self, path: Path) -> list[bytes]:
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                identity = status.st_dev, status.st_ino
                before, read_to = self._known.get(path, (identity, 0))
                if before != identity or status.st_size < read_to:
                    read_to = 0
                file.seek(read_to)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._known[path] = identity, read_to + len(whole)
        return whole.split(b"\n")

    def _learn(self, row: dict[str, Any], writer: str) -> None:
        """Before a new output is known to be in place, the old one may still be there: both are kept until then."""
        target, at = row["target"], float(row.get("at", 0))
        history = self._entries.setdefault(target, [])
        own = [entry for entry in history if entry.writer == writer]
        if "output" in row:
            size, hashed = row["output"]
            origin, content = row.get("from"), row.get("content")
            entry = Entry(_stamp_of(row["source"]), row["settings"], size, hashed, origin, content, None, writer, at)
            history.append(entry)
        elif "figures" in row:
            hashed, figures = row.get("hash", history[-1].hash if history else ""), dict(row["figures"])
            if at >= self._figures.get((target, hashed), (0.0, {}))[0]:
                self._figures[target, hashed] = at, figures
        elif "written" in row:
            # Two runs of an older version may have announced the same target: the hash says whose output came.
            put = [entry for entry in own if row.get("hash", own[-1].hash) == entry.hash][-1]
            others = [entry for entry in history if entry.writer != writer]
            history[:] = [*others, replace(put, written=_stamp_of(row["written"]))]
        history.sort(key=attrgetter("at"))

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
            there = next((entry for entry in reversed(history) if entry.written == now), None)
            there = there or next((entry for entry in reversed(history) if entry.made(target, now)), None)
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
        history = self._entries.get(self.key(target), [])
        with suppress(OSError, ValueError):
            now = stamp(target)
            history = [entry for entry in history if entry.written == now] or history
        return self._figures.get((self.key(target), history[-1].hash), (0.0, {}))[1] if history else {}

    def rows(self) -> Iterator[dict[str, Any]]:
        """All that is known, as lines to append."""
        for target, history in list(self._entries.items()):
            for entry in history:
                yield {"target": target, "from": entry.origin, "source": entry.source, "content": entry.content,
                       "settings": entry.settings, "output": (entry.size, entry.hash), "at": entry.at}  # fmt: skip
                if entry.written:
                    yield {"target": target, "hash": entry.hash, "written": entry.written}
        for (target, hashed), (at, figures) in list(self._figures.items()):
            yield {"target": target, "hash": hashed, "figures": figures, "at": at}


def _stamp_of(pair: Any) -> Stamp:
    size, mtime = pair
    return size, mtime
