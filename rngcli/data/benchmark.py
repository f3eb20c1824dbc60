"""What a benchmark is: pairs by key, read when asked for, and the words that make their numbers comparable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Pair:
    """A picture with its truth, both (H, W, 3) float32 sRGB in [0, 1]; synthetic noise is neither clipped nor rounded.

    `clean` is None where the truth is withheld, as in SIDD's benchmark.
    """

    key: str
    noisy: np.ndarray
    clean: np.ndarray | None


@dataclass(frozen=True)
class Benchmark:
    """`load` reads one pair and raises PictureError for one that cannot be used; nothing is kept between calls.

    `problems` name what was left out from the start; `ssim` is the variant in which the set is reported; `sigma` is the
    noise level on the 0-255 scale where it is known; `source` says where the files lie, `files` which of them a key's
    pair is made of.
    """

    name: str
    protocol: str
    keys: tuple[str, ...]
    load: Callable[[str], Pair]
    problems: tuple[str, ...] = ()
    ssim: Literal["gaussian", "matlab-3d"] = "gaussian"
    sigma: float | None = None
    source: str = ""
    files: Callable[[str], tuple[Path, ...]] = lambda key: ()

    def __iter__(self) -> Iterator[Pair]:
        return map(self.load, self.keys)

    def limited(self, count: int | None) -> Benchmark:
        """The first `count` pairs."""
        if count is None or count >= len(self.keys):
            return self
        return replace(self, keys=self.keys[:count], protocol=f"{self.protocol}; first {count} of {len(self.keys)}")

    def cropped(self, side: int | None) -> Benchmark:
        """Centre crops of at most `side` px on each side, cut after the noise was added."""
        if side is None:
            return self
        load = self.load
        protocol = f"{self.protocol}; centre crop {side} px"
        return replace(self, load=lambda key: _centre(load(key), side), protocol=protocol)


def awgn(pixels: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    """White Gaussian noise of σ on the 0-255 scale, neither clipped nor rounded; (H, W, 3) float32 -> same.

    The generator starts anew for each picture, as in the published protocols (Restormer and others).
    """
    noise = np.random.RandomState(seed).normal(0, sigma / 255, pixels.shape)
    return (pixels + noise).astype(np.float32)


def _centre(pair: Pair, side: int) -> Pair:
    top, left = (max(0, (n - side) // 2) for n in pair.noisy.shape[:2])
    cut = np.s_[top : top + side, left : left + side]
    return Pair(pair.key, pair.noisy[cut], None if pair.clean is None else pair.clean[cut])
