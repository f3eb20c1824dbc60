"""A long day in small: many pictures, faults of every kind on the way: `python -m tests.soak --pictures 2000 --seed 0`.

Some pictures are broken. In each run some reads fail, some find no memory, some writes are refused; and every run but
the last is broken off somewhere. The same command is given until it ends. Then every good picture must be done, whole
and once; every bad one must be named by the last run; the last report must hold each picture of the command, once.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from rngcli import images
from rngcli.batch.batch import Batch
from rngcli.batch.batch_options import BatchOptions
from rngcli.batch.inputs import Outcome, plan
from rngcli.batch.report import rows_of, write_report
from rngcli.errors import PictureError
from rngcli.methods.contract import Request
from rngcli.models.bundle import save
from tests.tiny import identity_bundle

BROKEN = 0.01  # of the pictures
FAULTS = 0.02  # of the reads and of the writes, as long as faults are injected


class BreakOff(Exception):
    """What ends a run in its middle."""


@dataclass
class Soak:
    """Runs over one folder with faults by chance; `counts` says what came about."""

    place: Path
    chance: random.Random
    faulty: bool = True
    counts: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)

    def fill(self, pictures: int) -> set[str]:
        """Good and broken pictures; the names of the broken ones."""
        broken = set()
        (self.place / "in").mkdir()
        for i in range(pictures):
            path = self.place / "in" / f"{i % 20:02}" / f"{i:05}.png"
            path.parent.mkdir(exist_ok=True)
            pixels = np.random.default_rng(i).integers(0, 256, (8, 12, 3), np.uint8)
            Image.fromarray(pixels).save(path)
            if self.chance.random() < BROKEN:
                path.write_bytes(path.read_bytes()[:60])
                broken.add(str(path.relative_to(self.place / "in")))
        save(identity_bundle(), self.place / "tiny.safetensors")
        return broken

    def read(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def read(path: Path, options: Any) -> Any:
            if self._strikes("a read failed"):
                raise PictureError("injected: the card was pulled out")
            if self._strikes("no memory to read"):
                raise MemoryError
            return original(path, options)

        return read

    def write(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def write(path: Path, data: bytes) -> Any:
            if self._strikes("a write was refused"):
                raise PictureError("injected: the name is refused")
            done = original(path, data)
            self.written[str(path)] += 1
            return done

        return write

    def _strikes(self, what: str) -> bool:
        hit = self.faulty and self.chance.random() < FAULTS
        self.counts[what] += hit
        return hit

    def run(self, stop_after: int | None) -> tuple[Batch, list[Outcome]]:
        """The command once, broken off after so many outcomes; its report is written in any case."""
        options = BatchOptions(Request(detail=0), str(self.place / "tiny.safetensors"), "cpu")
        batch = Batch(plan([self.place / "in"], self.place / "out"), options)
        outcomes = [*batch.refused, *batch.before()]
        try:
            for outcome in batch.run():
                outcomes.append(outcome)
                if stop_after is not None and len(outcomes) - len(batch.done) >= stop_after:
                    raise BreakOff
        except BreakOff:
            self.counts["broken off"] += 1
        write_report(self.place / "report.json", rows_of(batch.tasks, outcomes))
        self.counts["runs"] += 1
        return batch, outcomes


def soak(place: Path, pictures: int, seed: int) -> tuple[Counter[str], list[str]]:
    """What came about, and what is wrong with it."""
    this = Soak(place, random.Random(seed))
    broken = this.fill(pictures)
    faults: list[str] = []
    with (
        mock.patch.object(images, "read", this.read(images.read)),
        mock.patch.object(images, "write_new", this.write(images.write_new)),
    ):
        for _ in range(5):
            this.run(stop_after=this.chance.randrange(pictures // 10, pictures // 6))
        this.faulty = False
        batch, outcomes = this.run(stop_after=None)
    failed = {outcome.task.name for outcome in outcomes if outcome.error}
    rows = [row["file"] for row in json.loads((place / "report.json").read_text())]
    expected = {task.name for task in batch.tasks}
    if failed != broken:
        faults.append(f"failed: {sorted(failed ^ broken)}")
    if len(rows) != pictures or set(rows) != expected:
        faults.append(f"the report holds {len(rows)} rows of {pictures}")
    if twice := [path for path, times in this.written.items() if times > 1]:
        faults.append(f"done twice: {twice}")
    for task in batch.tasks:
        if task.name not in broken and not np.array_equal(Image.open(task.source), Image.open(task.target)):
            faults.append(f"{task.name} is not what it should be")
    this.counts |= Counter({"pictures": pictures, "broken pictures": len(broken), "done": len(this.written)})
    return this.counts, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        counts, faults = soak(Path(place), given.pictures, given.seed)
    print(f"{dict(counts)} in {time.monotonic() - begun:.0f} s")
    print(*faults or ["nothing lost, nothing twice, one true report"], sep="\n")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
