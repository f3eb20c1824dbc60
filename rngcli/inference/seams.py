"""Whether tiles can be told apart in a model's pictures: the gradient where they blend, over that of elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..models.bundle import Bundle
from .engine import Job, denoise
from .pipeline import TILE, Pipeline, Request
from .tiling import Axis, Grid

HEIGHT, WIDTH = 1100, 1500  # [px], 5 × 7 tiles
SIGMA = 25 / 255
ALLOWED = 0.02  # the ratio may be off from 1 by so much …
MARGIN = 0.005  # … and by this much less where it is chosen, since other machines round differently
MOST_LOST = 0.5  # of the correlation of two tiles; what agrees less is another fault


def noisy_ramp() -> np.ndarray:
    """A smooth picture under white noise, (HEIGHT, WIDTH, 3) float32: whatever shows on it was made by the model."""
    y, x = np.mgrid[0 : 1 : HEIGHT * 1j, 0 : 1 : WIDTH * 1j]
    ramp = np.stack([0.2 + 0.5 * x, 0.7 - 0.4 * y, 0.3 + 0.2 * (x + y)], axis=-1)
    return (ramp + np.random.default_rng(0).normal(0, SIGMA, ramp.shape)).astype(np.float32)


def border_ratio(picture: np.ndarray, axis: Axis, direction: int) -> float:
    """Mean |gradient| of (H, W, C) where the axis's tiles blend, over that elsewhere; `direction` 0: down, 1: across.

    Above 1, tiles differ by a step; below 1, two textures that do not agree have averaged out.
    """
    gradient = np.abs(np.diff(picture, axis=direction)).mean(axis=(1 - direction, 2))
    blended = np.zeros(len(gradient), bool)
    for k in range(1, axis.count):
        first = axis.start(k) + axis.discard
        blended[first - 1 : first + axis.overlap - 2 * axis.discard + 1] = True
    return float(gradient[blended].mean() / gradient[~blended].mean())


def border_ratios(pipeline: Pipeline, request: Request) -> tuple[float, float]:
    """The ratios down and across on the noisy ramp; seamless where each is within 1 ± ALLOWED."""
    (result,) = denoise([Job("ramp", noisy_ramp())], pipeline, request)
    grid = Grid(HEIGHT, WIDTH, TILE)
    return border_ratio(result.pixels, grid.y, 0), border_ratio(result.pixels, grid.x, 1)


def with_agreement(bundle: Bundle, device: str) -> tuple[Bundle, bool]:
    """The bundle with the agreement of its tiles that leaves no border, and whether none is left.

    The first guess is that all that is seen is generated; the ratios that it gives tell how much truly is (the secant
    method). What is asked is the fullest budget, in its own evaluations and in more of them.
    """
    before = _of_all(bundle, 1.0, device)
    lost = 1 - sum(before) / len(before)
    guess = 1 - min(max(6 * lost, 0.0), MOST_LOST)  # over a linear ramp, the mean of 2·w·(1 − w) is a third
    after = _of_all(bundle, guess, device)
    gained = (sum(after) - sum(before)) / len(before)
    if lost > 0 and gained > 0:
        guess = 1 - min((1 - guess) * lost / gained, MOST_LOST)
        after = _of_all(bundle, guess, device)
    whole = all(abs(ratio - 1) <= ALLOWED - MARGIN for ratio in after)
    return replace(bundle, process=replace(bundle.process, agreement=round(guess, 4))), whole


def _of_all(bundle: Bundle, agreement: float, device: str) -> list[float]:
    """The ratios in both directions, by the fullest budget and by four evaluations."""
    pipeline = Pipeline(replace(bundle, process=replace(bundle.process, agreement=agreement)), device)
    requests = Request(budget=len(bundle.budgets) - 1), Request(steps=4)
    return [ratio for request in requests for ratio in border_ratios(pipeline, request)]
