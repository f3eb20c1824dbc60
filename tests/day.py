"""A day of a folder that fills up: `python -m tests.day --pictures 2000 --kills 5 --watchers 2 --seed 0`.

Pictures come in bursts, some of them slowly, one in a hundred broken, while `rng watch` is at work, twice at once. Now
and then one of the two is killed (kill -9) and started again. When all is quiet both are ended by Ctrl-C, and the same
command without watching is given, with a report. Then every good picture must be there, whole, and put in place once;
every broken one must be named; and the report must hold each picture, once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from rngcli.models.bundle import save
from tests.tiny import identity_bundle

ROOT = Path(__file__).resolve().parents[1]
BROKEN, SLOW = 0.01, 0.02  # of the pictures
ABOUT = ["--model", "tiny.safetensors", "--device", "cpu", "--detail", "0"]
PATIENCE = 1800  # [s] for what takes seconds on a machine that is not busy


@dataclass
class Day:
    """The folder, those who watch it, and what was seen of its outputs."""

    place: Path
    chance: random.Random
    broken: set[str] = field(default_factory=set)
    inodes: dict[str, int] = field(default_factory=dict)  # of each output, when it was first seen
    faults: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    watchers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> subprocess.Popen[bytes]:
        self.counts["watchers started"] += 1
        return subprocess.Popen(
            [sys.executable, "-m", "rngcli", "watch", "in", "out", "--quiet", *ABOUT],
            cwd=self.place, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def add(self, number: int) -> None:
        """One more picture, whole at once, slowly, or broken."""
        name = f"{number % 10}/{number:05}.png"
        path = self.place / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        whole = path.read_bytes()
        if self.chance.random() < BROKEN:
            path.write_bytes(whole[:60])
            self.broken.add(name)
        elif self.chance.random() < SLOW:
            self.counts["came slowly"] += 1
            with path.open("wb", buffering=0) as file:
                for part in (whole[:200], whole[200:]):
                    file.write(part)
                    time.sleep(0.3)

    def look(self) -> int:
        """How many outputs are there; one that was put in place anew is a fault."""
        for path in (self.place / "out").rglob("*.png"):
            name, inode = path.relative_to(self.place / "out").as_posix(), path.stat().st_ino
            if self.inodes.setdefault(name, inode) != inode:
                self.faults.append(f"{name} was done twice")
                self.inodes[name] = inode
        return len(self.inodes)

    def kill_one(self) -> None:
        victim = self.chance.randrange(len(self.watchers))
        self.watchers[victim].kill()
        self.watchers[victim].wait()
        self.counts["killed"] += 1
        self.watchers[victim] = self.start()

    def settle(self, pictures: int) -> None:
        """Wait for the last; then end those who watch."""
        begun = time.monotonic()
        while self.look() < pictures - len(self.broken):
            if time.monotonic() - begun > PATIENCE or any(watcher.poll() is not None for watcher in self.watchers):
                self.faults.append(f"{self.look()} of {pictures} were done when it ended")
                break
            time.sleep(0.5)
        for watcher in self.watchers:
            watcher.send_signal(signal.SIGINT)
        for watcher in self.watchers:
            self.counts[f"ended with {watcher.wait(PATIENCE)}"] += 1

    def check(self, pictures: int) -> None:
        """By the command itself, its report, and the outputs."""
        command = [sys.executable, "-m", "rngcli", "denoise", "in", "out", "--report", "report.json", "--json", *ABOUT]
        done = subprocess.run(
            command, cwd=self.place, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=False
        )
        rows = {row["file"]: row["status"] for row in json.loads((self.place / "report.json").read_text())}
        expected = {f"{i % 10}/{i:05}.png" for i in range(pictures)}
        wrong = {name for name in expected if rows.get(name) != ("failed" if name in self.broken else "skipped")}
        if wrong or set(rows) != expected or done.returncode != (1 if self.broken else 0):
            self.faults.append(f"exit {done.returncode}, {len(rows)} rows, not as they should be: {sorted(wrong)[:5]}")
        for name in expected - self.broken:
            if not np.array_equal(Image.open(self.place / "in" / name), Image.open(self.place / "out" / name)):
                self.faults.append(f"{name} is not what it should be")
        self.look()
        if left := [path.name for path in (self.place / "out").rglob(".rng-*")]:
            self.faults.append(f"left unfinished: {left}")


def day(place: Path, pictures: int, kills: int, watchers: int, seed: int) -> tuple[Counter[str], list[str]]:
    """What came about, and what is wrong with it."""
    this = Day(place, random.Random(seed))
    save(identity_bundle(), place / "tiny.safetensors")
    (place / "in").mkdir()
    this.watchers += [this.start() for _ in range(watchers)]
    try:
        deaths = set(this.chance.sample(range(1, max(pictures // 20, kills + 1)), kills))
        for burst, first in enumerate(range(0, pictures, 20)):
            for number in range(first, min(first + 20, pictures)):
                this.add(number)
            time.sleep(this.chance.random())
            if burst in deaths:
                begun = time.monotonic()
                while this.look() < first // 2 and time.monotonic() - begun < PATIENCE:  # in the middle of its work
                    time.sleep(0.05)
                this.kill_one()
        this.settle(pictures)
    finally:
        for watcher in this.watchers:
            watcher.kill()
            watcher.wait()
    this.check(pictures)
    this.counts |= Counter({"pictures": pictures, "broken": len(this.broken), "done": len(this.inodes)})
    return this.counts, this.faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    for name, default in (("pictures", 2000), ("kills", 5), ("watchers", 2), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        counts, faults = day(Path(place), given.pictures, given.kills, given.watchers, given.seed)
    print(f"{dict(counts)} in {time.monotonic() - begun:.0f} s")
    print(*faults or ["nothing lost, nothing twice, one true report"], sep="\n")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
