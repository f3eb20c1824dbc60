"""Cheap rivals of generated detail: the reconstruction with some of its noise left in, or under white grain.

LPIPS forgives grain. What a generator is worth is what it gains over grain, or over noise left in, that costs as much
PSNR.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..inference.engine import Job, Result
from .reconstructions import Reconstructions

CLOSE = 0.001  # [dB] between the PSNR of a rival and the one that it is to have


@dataclass(frozen=True)
class TargetJob(Job):
    """A picture with its truth, and the PSNR [dB] that a rival is to have on it."""

    truth: np.ndarray | None = None
    psnr: float = math.nan


@dataclass(frozen=True)
class RivalResult(Result):
    """With how much was added: the weight of the noisy picture, or the grain's σ on the 0-255 scale."""

    strength: float = 0.0


@dataclass(frozen=True)
class Rival:
    """What is added to a reconstruction at strength 1, (job, r, seed) -> (H, W, 3), and the most strength there is."""

    added: Callable[[Job, np.ndarray, int], np.ndarray]
    most: float

    def run(
        self,
        reconstructions: Reconstructions,
        strength: float | None,
        seed: int,
        jobs: Iterable[Job],
        sigma: float | None,
    ) -> Iterator[Result]:
        """The rival at a strength; None: on each picture so strong that it has the PSNR of its TargetJob."""
        for job, result in reconstructions.of(jobs):
            if result.error:
                yield result
                continue
            added = self.added(job, result.pixels, seed)
            here = self._matching(job, result.pixels, added) if strength is None else strength
            yield RivalResult(job.key, _sum(result.pixels, added, here), result.steps, result.seconds, strength=here)

    def _matching(self, job: Job, r: np.ndarray, added: np.ndarray) -> float:
        """The strength of equal PSNR, by bisection; 0 or `most` where none has it."""
        assert isinstance(job, TargetJob)
        assert job.truth is not None
        low, high = 0.0, self.most
        for strength in (low, high):
            if (_psnr(_sum(r, added, strength), job.truth) <= job.psnr) == (strength == low):
                return strength
        while True:
            middle = (low + high) / 2
            psnr = _psnr(_sum(r, added, middle), job.truth)
            if abs(psnr - job.psnr) < CLOSE or high - low < 1e-6 * self.most:
                return middle
            low, high = (middle, high) if psnr > job.psnr else (low, middle)


def _noise_left(job: Job, r: np.ndarray, seed: int) -> np.ndarray:
    return job.pixels - r


def _white(job: Job, r: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng((seed, zlib.crc32(os.fsencode(job.key))))
    return rng.standard_normal(r.shape, np.float32) / 255


RIVALS = {"blend": Rival(_noise_left, 1.0), "grain": Rival(_white, 255.0)}


def _sum(r: np.ndarray, added: np.ndarray, strength: float) -> np.ndarray:
    return (r + np.float32(strength) * added).clip(0, 1)


def _psnr(pixels: np.ndarray, truth: np.ndarray) -> float:
    mse = float(np.mean((pixels - truth) ** 2, dtype=np.float64))
    return math.inf if mse == 0 else -10 * math.log10(mse)
