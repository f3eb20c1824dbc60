"""kill -9 at random moments, then the same command again: `python -m tests.kill --kills 200 --seed 0`.

After every kill, each file below OUT must be whole and the same as that of an undisturbed run, bit for bit; when a
resumed run has come to its end, all must be there and nothing else. Then OUT is emptied, until the kills are used up.

Each run is a process of its own, forked from one that has torch loaded: importing it takes longer than all else.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
from PIL import Image

from rngcli.images import PART_PREFIX
from rngcli.models.bundle import save
from tests.tiny import random_bundle

WARM = ["typer._adapters", "rngcli.cli.commands", "rngcli.batch.run", "rngcli.models.bundle"]
A_WRITE = 0.005  # [s] what a small file takes


def rng(arguments: list[str], said: str) -> None:
    """The command from its first line to its exit code, what it says going to a file."""
    from rngcli.cli import main

    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.argv = ["rng", *arguments]
    main()


class Killing:
    """A folder of pictures, and a run over it that is killed again and again."""

    def __init__(self, place: Path, pictures: int, seed: int) -> None:
        self.source, self.out, self.model, self.said = (place / name for name in ("in", "out", "tiny", "said"))
        self.processes = multiprocessing.get_context("forkserver")
        self.processes.set_forkserver_preload(WARM)
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
        undisturbed.join()
        assert undisturbed.exitcode == 0, self.said.read_text()
        self.span = time.monotonic() - begun  # [s] of work, once networks are loaded
        self.expected = found(whole)

    def start(self, out: Path) -> BaseProcess:
        """A run into `out` that has just begun to write there, or has ended."""
        manifest = out / ".rng" / "manifest.jsonl"
        before = manifest.stat().st_size if manifest.exists() else 0
        arguments = ["denoise", str(self.source), str(out), "--model", str(self.model), "--step-map", str(out / "maps"),
                     "--quiet", "--device", "cpu", "--batch-size", "1"]  # fmt: skip
        running = self.processes.Process(target=rng, args=(arguments, str(self.said)))
        running.start()
        while running.exitcode is None and not (manifest.exists() and manifest.stat().st_size > before):
            time.sleep(0.005)
        return running

    def once(self, kill: bool) -> None:
        """Start, or go on; kill it some time after its first new line in the manifest, or let it end.

        Half of the kills come at any moment of the work, half while that line's file is likely being put in place.
        """
        running = self.start(self.out)
        if kill:
            anywhere = self.chance.random() < 0.5
            time.sleep(self.chance.uniform(0, self.span / 2) if anywhere else self.chance.expovariate(1 / A_WRITE))
            running.kill()
        running.join()
        ended = running.exitcode is not None and running.exitcode >= 0
        self.counts["ended" if ended else "killed"] += 1
        self.judge(ended)
        if running.exitcode:
            self.faults += [f"exit code {running.exitcode}: {self.said.read_text()[-300:]}"] * ended
        if ended:
            shutil.rmtree(self.out)

    def judge(self, ended: bool) -> None:
        """Compare what is there with what an undisturbed run made."""
        there = found(self.out)
        parts = [name for name in there if Path(name).name.startswith(PART_PREFIX)]
        self.counts["unfinished files left by a kill"] += len(parts)
        for name in parts:
            there.pop(name)
        if ended and parts:
            self.faults.append(f"unfinished files are left: {parts}")
        if ended and there.keys() != self.expected.keys():
            self.faults.append(f"missing at the end: {sorted(self.expected.keys() - there.keys())}")
        self.faults += [f"{name} differs" for name, data in there.items() if data != self.expected.get(name)]


def found(out: Path) -> dict[str, bytes]:
    """Every file below `out` but the manifest."""
    files = (path for path in out.rglob("*") if path.is_file() and ".rng" not in path.parts)
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--pictures", type=int, default=9)
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
