"""Whether two pipelines compute the same: one tile on both."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ..errors import ModelError, UsageError
from ..methods.contract import Request
from .engine import Job, denoise
from .pipeline import Pipeline

_REQUESTS = {"the reconstruction": Request(detail=0), "four steps": Request(steps=4)}


def one_tile(one: Pipeline, other: Pipeline) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
    """What both make of a tile of white noise on a ramp, (256, 256, 3) in [0, 1] each, by what was asked for."""
    y, x = np.mgrid[0 : 1 : 256j, 0 : 1 : 256j]
    ramp = np.stack([x, 1 - y, (x + y) / 2], axis=-1)
    pixels = np.float32(ramp + np.random.default_rng(0).normal(0, 25 / 255, ramp.shape)).clip(0, 1)
    made = {}
    for name, request in _REQUESTS.items():
        try:
            pair = [_one(pipeline, Job("ramp", pixels), request) for pipeline in (one, other)]
        except (ModelError, UsageError):  # the bundle lacks what it takes, or the method has no such option
            continue
        made[name] = pair[0], pair[1]
    return made


def _one(pipeline: Pipeline, job: Job, request: Request) -> np.ndarray:
    (result,) = denoise([job], pipeline, request)
    if result.error:
        raise result.error
    return result.pixels


def decibels(one: np.ndarray, other: np.ndarray) -> float:
    """PSNR of one to the other, both in [0, 1]; infinite where they are equal."""
    error = float(np.square(one - other, dtype=np.float64).mean())
    return -10 * math.log10(error) if error else math.inf
