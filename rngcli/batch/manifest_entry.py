"""One output and its source as the manifest knows them: what each is, and how a change of it is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Stamp = tuple[int, int]  # size [bytes], mtime [ns]


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
    writer: str = ""  # the file that says so
    at: float = 0.0  # [s] when, by the writer's clock

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
