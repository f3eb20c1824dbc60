"""kill -9 at random moments, then the same command again: `python -m tests.kill --kills 200 --seed 0`.

After every kill, each file below OUT must be whole and the same as that of an undisturbed run, bit for bit; when a
resumed run has come to its end, all must be there and nothing else. Then OUT is emptied, until the kills are used up.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from rngcli.checkpoint import save
from rngcli.images import PART_PREFIX
from tests.tiny import random_bundle


class Killing:
    """A folder of pictures, and a run over it that is killed again and again."""

    def __init__(self, place: Path, pictures: int, seed: int) -> None:
        self.source, self.out, self.model = place / "in", place / "out", place / "tiny.safetensors"
        self.chance = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.source.mkdir()
        save(random_bundle(), self.model)
        for i in range(pictures):
            noise = np.random.default_rng(i).integers(0, 256, (90, 120, 3), np.uint8)
            Image.fromarray(noise).save(self.source / f"{i:03}.{('png', 'jpg', 'tif')[i % 3]}")
        whole = place / "whole"
        undisturbed = self.start(whole)
        begun = time.monotonic()
        assert undisturbed.wait() == 0
        self.span = time.monotonic() - begun  # [s] of work, once networks are loaded
        self.expected = {path.name: path.read_bytes() for path in whole.iterdir() if path.is_file()}

    def start(self, out: Path) -> subprocess.Popen[bytes]:
        """A run into `out` that has just begun to write there, or has ended."""
        manifest = out / ".rng" / "manifest.jsonl"
        before = manifest.stat().st_size if manifest.exists() else 0
        command = [sys.executable, "-m", "rngcli", "denoise", str(self.source), str(out), "--model", str(self.model),
                   "--quiet", "--device", "cpu", "--batch-size", "1"]  # fmt: skip
        running = subprocess.Popen(command, stderr=subprocess.PIPE)
        while running.poll() is None and not (manifest.exists() and manifest.stat().st_size > before):
            time.sleep(0.002)
        return running

    def once(self, kill: bool) -> None:
        """Start, or go on; kill it some time after its first new line in the manifest, or let it end."""
        running = self.start(self.out)
        if kill:
            time.sleep(self.chance.uniform(0, self.span / 2))
            running.send_signal(signal.SIGKILL)
        _, said = running.communicate()
        self.counts["killed" if running.returncode < 0 else "ended"] += 1
        self.judge(ended=running.returncode >= 0)
        if running.returncode > 0:
            self.faults.append(f"exit code {running.returncode}: {said.decode()[-300:]}")
        if running.returncode >= 0:
            shutil.rmtree(self.out)

    def judge(self, ended: bool) -> None:
        """Compare what is there with what an undisturbed run made."""
        there = {path.name: path.read_bytes() for path in self.out.glob("*") if path.is_file()}
        parts = [name for name in there if name.startswith(PART_PREFIX)]
        self.counts["unfinished files left by a kill"] += len(parts)
        for name in parts:
            there.pop(name)
        if ended and parts:
            self.faults.append(f"unfinished files are left: {parts}")
        if ended and there.keys() != self.expected.keys():
            self.faults.append(f"missing at the end: {sorted(self.expected.keys() - there.keys())}")
        self.faults += [f"{name} differs" for name, data in there.items() if data != self.expected.get(name)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        killing = Killing(Path(place), given.pictures, given.seed)
        while killing.counts["killed"] < given.kills:
            killing.once(kill=True)
        if killing.out.exists():
            killing.once(kill=False)
    print(dict(killing.counts), *killing.faults or ["every output whole and bit for bit as undisturbed"], sep="\n")
    return bool(killing.faults)


if __name__ == "__main__":
    sys.exit(main())
