"""Whether tiles can be told apart in a model's pictures: the gradient where they blend, over that beside it."""

from __future__ import annotations

import numpy as np

from ..methods.contract import Request
from .engine import Job, denoise
from .pipeline import Pipeline
from .tiling import Axis

HEIGHT, WIDTH = 1280, 1696  # [px], 3 × 4 tiles
SIGMA = 25 / 255
BESIDE = 64  # [px] on either side of where tiles blend
ALLOWED = 0.02  # the ratio may be off from 1 by so much …
MARGIN = 0.005  # … and by this much less where it is chosen, since other machines round differently


def noisy_ramp() -> np.ndarray:
    """A smooth picture under white noise, (HEIGHT, WIDTH, 3) float32: whatever shows on it was made by the model."""
    y, x = np.mgrid[0 : 1 : HEIGHT * 1j, 0 : 1 : WIDTH * 1j]
    ramp = np.stack([0.2 + 0.5 * x, 0.7 - 0.4 * y, 0.3 + 0.2 * (x + y)], axis=-1)
    return (ramp + np.random.default_rng(0).normal(0, SIGMA, ramp.shape)).astype(np.float32)


def border_ratio(picture: np.ndarray, axis: Axis, direction: int) -> float:
    """Mean |gradient| of (H, W, C) where the axis's tiles blend, over that beside it; `direction` 0: down, 1: across.

    Above 1, tiles differ by a step; below 1, two textures that do not agree have averaged out. Beside it, and not over
    the whole picture: how much noise is left hangs on the brightness, and on how far the picture's border is.
    """
    gradient = np.abs(np.diff(picture, axis=direction)).mean(axis=(1 - direction, 2))
    blended, beside = np.zeros((2, len(gradient)), bool)
    for k in range(1, axis.count):
        first = axis.start(k) + axis.discard - 1
        last = first + axis.overlap - 2 * axis.discard + 2
        blended[first:last] = beside[first - BESIDE : last + BESIDE] = True
    return float(gradient[blended].mean() / gradient[beside & ~blended].mean())


def border_ratios(pipeline: Pipeline, request: Request) -> tuple[float, float]:
    """The ratios down and across on the noisy ramp; seamless where each is within 1 ± ALLOWED."""
    (result,) = denoise([Job("ramp", noisy_ramp())], pipeline, request)
    grid = result.grid
    assert grid is not None
    return border_ratio(result.pixels, grid.y, 0), border_ratio(result.pixels, grid.x, 1)
