"""kill -9 at random moments, then the same command again: `python -m tests.kill --kills 200 --seed 0 --runs 1`.

After every kill, each file below OUT must be whole and the same as that of an undisturbed run, bit for bit; when a
resumed run has come to its end, all must be there and nothing else, and its report must hold every picture. Then OUT is
emptied, until the kills are used up. With `--runs 2`, two runs of the same command are at work at once, each killed at
a moment of its own; one that comes to its end must find all done, by itself or by the other.

Each run is a process of its own, forked from one that has torch loaded: importing it takes longer than all else.
"""

from __future__ import annotations

import argparse
import json
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
from tifffile import TiffWriter

from rngcli.images import PART_PREFIX, write
from rngcli.images import Image as Picture
from rngcli.images.walk import manifests_of
from rngcli.models.bundle import save
from tests.tiny import random_bundle

WARM = ["typer._adapters", "rngcli.cli.commands", "rngcli.batch.batch", "rngcli.models.bundle"]
KINDS = ("png", "jpg", "tif", "pages", "jxl", "heic")
A_WRITE = 0.005  # [s] what a small file takes


def rng(arguments: list[str], said: str) -> None:
    """The command from its first line to its exit code, what it says going to a file."""
    from rngcli.cli import main

    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.argv = ["rng", *arguments]
    main()


class Killing:
    """A folder of pictures, and a run over it that is killed again and again."""

    def __init__(self, place: Path, pictures: int, seed: int, runs: int, device: str) -> None:
        self.source, self.out, self.model, self.said = (place / name for name in ("in", "out", "tiny", "said"))
        self.processes = multiprocessing.get_context("forkserver")
        self.processes.set_forkserver_preload(WARM)
        self.chance, self.runs, self.report = random.Random(seed), runs, place / "report.json"
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.pictures, self.device = pictures, device
        self.source.mkdir()
        save(random_bundle(), self.model)
        for i in range(pictures):
            noise = np.random.default_rng(i).integers(0, 256, (90, 120, 3), np.uint8)
            put(noise, self.source / f"{i:03}", KINDS[i % len(KINDS)])
        whole = place / "whole"
        (undisturbed,) = self.start(whole, 1)
        begun = time.monotonic()
        undisturbed.join()
        assert undisturbed.exitcode == 0, self.said.read_text()
        self.span = time.monotonic() - begun  # [s] of work, once networks are loaded
        self.expected = found(whole)

    def start(self, out: Path, runs: int) -> list[BaseProcess]:
        """Runs into `out`, of which one has just begun to write there, or all have ended."""
        before = known(out)
        arguments = ["denoise", str(self.source), str(out), "--model", str(self.model), "--step-map", str(out / "maps"),
                     "--quiet", "--device", self.device, "--batch-size", "1", "--report", str(self.report)]  # fmt: skip
        running = [self.processes.Process(target=rng, args=(arguments, str(self.said))) for _ in range(runs)]
        for process in running:
            process.start()
        while any(process.exitcode is None for process in running):
            if known(out) > before:
                break
            time.sleep(0.005)
        return running

    def once(self, kill: bool) -> None:
        """Start, or go on; kill it some time after its first new line in the manifest, or let it end.

        Half of the kills come at any moment of the work, half while that line's file is likely being put in place.
        """
        running = self.start(self.out, self.runs)
        for process in running if kill else ():
            anywhere = self.chance.random() < 0.5
            time.sleep(self.chance.uniform(0, self.span / 2) if anywhere else self.chance.expovariate(1 / A_WRITE))
            process.kill()
        for process in running:
            process.join()
        codes = [process.exitcode or 0 for process in running]
        self.counts["killed"] += sum(code < 0 for code in codes)
        self.counts["ended"] += sum(code >= 0 for code in codes)
        self.faults += [f"exit code {code}: {self.said.read_text()[-300:]}" for code in codes if code > 0]
        self.judge(any(code == 0 for code in codes), alone=min(codes) >= 0)
        if min(codes) >= 0:
            shutil.rmtree(self.out)

    def judge(self, ended: bool, alone: bool) -> None:
        """Compare what is there with what an undisturbed run made; `alone`: no run was killed beside one that ended."""
        there = found(self.out)
        parts = [name for name in there if Path(name).name.startswith(PART_PREFIX)]
        self.counts["unfinished files left by a kill"] += len(parts)
        for name in parts:
            there.pop(name)
        if alone and parts:
            self.faults.append(f"unfinished files are left: {parts}")
        if ended and len(json.loads(self.report.read_text())) != self.pictures:
            self.faults.append(f"the report of a run that has ended lacks pictures: {self.report.read_text()[-300:]}")
        if ended and there.keys() != self.expected.keys():
            self.faults.append(f"missing at the end: {sorted(self.expected.keys() - there.keys())}")
        self.faults += [f"{name} differs" for name, data in there.items() if data != self.expected.get(name)]


def known(out: Path) -> int:
    """The bytes of what the manifests of `out` say."""
    return sum(path.stat().st_size for path in manifests_of(out))


def put(noise: np.ndarray, place: Path, kind: str) -> None:
    """A picture, or for "pages" a TIFF of three pages that differ in size and depth."""
    if kind == "pages":
        with TiffWriter(place.with_suffix(".tif")) as writer:
            for page in (noise, noise[::2, ::3], noise.astype(np.uint16)[:50] * 257):
                writer.write(page, photometric="rgb", metadata=None)
    elif kind in ("jxl", "heic"):
        write(place.with_suffix(f".{kind}"), Picture(noise.astype(np.float32) / 255, kind))
    else:
        Image.fromarray(noise).save(place.with_suffix(f".{kind}"))


def found(out: Path) -> dict[str, bytes]:
    """Every file below `out` but the manifest."""
    files = (path for path in out.rglob("*") if path.is_file() and ".rng" not in path.parts)
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="or cpu,cpu: a killed run leaves processes, which end soon")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        killing = Killing(Path(place), given.pictures, given.seed, given.runs, given.device)
        while killing.counts["killed"] < given.kills:
            killing.once(kill=True)
        if killing.out.exists():
            killing.once(kill=False)
    print(dict(killing.counts), *killing.faults or ["every output whole and bit for bit as undisturbed"], sep="\n")
    return bool(killing.faults)


if __name__ == "__main__":
    sys.exit(main())
