"""Clean pictures that a batch is measured against: each picture's partner, by its folder and the stem of its name."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import PictureError
from ..images.walk import is_picture
from .inputs import Outcome, Task
from .manifest_entry import Stamp, stamp

NO_PARTNER = "not scored: there is no "  # how the note of a picture begins that has none


@dataclass(frozen=True)
class Reference:
    """The folder of the clean pictures, which mirrors that of the inputs."""

    folder: Path

    def partner(self, task: Task) -> Path | None:
        """The picture of the same name, else the only one of the same stem, so that a RAW file finds its PNG.

        None where there is none. Raises PictureError where several could be meant.
        """
        if (exact := self.folder / task.name).exists():
            return exact
        try:
            found = _by_stem(exact.parent, stamp(exact.parent)).get(exact.stem.casefold(), ())
        except OSError:
            return None
        if len(found) > 1:
            names = " and ".join(path.name for path in found)
            raise PictureError(f"{names} in {exact.parent} could both be its reference", "leave one of them there")
        return found[0] if found else None

    def state(self, task: Task) -> list[Any] | None:
        """Which picture a score is against, and its size and time; None where there is none to be had."""
        try:
            partner = self.partner(task)
            return [os.path.realpath(partner), *stamp(partner)] if partner else None
        except (OSError, PictureError):
            return None


def has_no_partner(outcome: Outcome) -> bool:
    return any(note.startswith(NO_PARTNER) for note in outcome.notes)


def gain(outcome: Outcome, metric: str) -> float | None:
    """What an output's score has over its input's, as it is measured; None where one of them is not to be had."""
    after, before = outcome.scores.get(metric), outcome.input_scores.get(metric)
    if after is None or before is None or math.isnan(difference := after - before):
        return None
    return difference


@lru_cache(64)
def _by_stem(folder: Path, state: Stamp) -> dict[str, tuple[Path, ...]]:
    """The pictures right in a folder, by their stems without case; looked at again where its `state` is another."""
    found: dict[str, tuple[Path, ...]] = {}
    for path in sorted(folder.iterdir()):
        if is_picture(path.name):
            found[path.stem.casefold()] = (*found.get(path.stem.casefold(), ()), path)
    return found
