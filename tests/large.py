"""Peak memory of `rng denoise` on a large TIFF: `python -m tests.large --megapixels 400 --bits 16`.

The model is a tiny one that returns its input, so that the arithmetic takes minutes, not hours; memory does not depend
on it, but for the weights.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from rngcli.images import BandedTiff, Image, WriteOptions
from rngcli.models.bundle import save
from tests.tiny import identity_bundle


def made(path: Path, megapixels: float, bits: int) -> tuple[int, int]:
    """A picture of noise, 3:2, written strip by strip."""
    height = int((megapixels * 1e6 / 1.5) ** 0.5)
    shape, chance, rows = (height, int(1.5 * height), 3), np.random.default_rng(0), 64
    with path.open("w+b") as file:
        picture = BandedTiff(file, Image(np.broadcast_to(np.float32(0), shape), "tiff", bits), WriteOptions())
        for top in range(0, height, rows):
            picture[top : top + rows] = chance.random((min(rows, height - top), *shape[1:]), np.float32)
        picture.finish()
    return shape[:2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--megapixels", type=float, default=400)
    parser.add_argument("--bits", type=int, choices=(8, 16), default=16)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        save(identity_bundle(), place / "tiny")
        height, width = made(place / "large.tif", given.megapixels, given.bits)
        command = [sys.executable, "-m", "rngcli", "denoise", str(place / "large.tif"), str(place / "out"), "--detail",
                   "0", "--model", str(place / "tiny"), "--device", "cpu", "--precision", "fp32",
                   "--max-pixels", "1000000000"]  # fmt: skip
        begun = time.monotonic()
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        took = time.monotonic() - begun
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        pairs = zip(*(bands(path) for path in (place / "large.tif", place / "out" / "large.tif")), strict=True)
        same = done.returncode == 0 and all(np.array_equal(one, other) for one, other in pairs)
    print(done.stderr.strip())
    samples = "same samples" if same else "OTHER samples"
    print(f"{width}×{height}, {given.bits} bit: peak {peak:.2f} GiB, {took:.0f} s, {samples}")


def bands(path: Path):
    """The rows of a picture, some at a time, whatever its strips are."""
    held: list[np.ndarray] = []
    with tifffile.TiffFile(path) as file:
        for strip, *_ in file.pages.first.segments():
            held += list(strip[0])
            while len(held) >= 128:
                yield np.stack(held[:128])
                held = held[128:]
    yield np.stack(held) if held else np.zeros(0)


if __name__ == "__main__":
    main()
