"""How long pictures will take here: one batch is measured, and the tiles are counted."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from ..methods.contract import Frame, Request
from .engine import Job, denoise
from .pipeline import Pipeline
from .tiling import Grid, fitted


@dataclass(frozen=True)
class Pace:
    """What a tile takes [s]."""

    tile: float  # of the frame's own
    frame: Frame

    @classmethod
    def of(cls, tile: float, pixels: np.ndarray, frame: Frame) -> Pace:
        """From the seconds that each tile of a picture (H, W, 3) took."""
        return cls(tile / _cost(fitted(frame, *pixels.shape[:2]), frame), frame)

    def seconds(self, height: int, width: int) -> float:
        """What a picture of that size will take, once it is read."""
        frame = fitted(self.frame, height, width)
        return self.tile * _cost(frame, self.frame) * len(Grid.of(height, width, frame))


def _cost(frame: Frame, own: Frame) -> float:
    """What a tile takes, over what one of the frame's own takes: as many pixels are seen."""
    return math.prod(frame.wide) / math.prod(own.wide)


def pace(pipeline: Pipeline, request: Request, pixels: np.ndarray) -> Pace:
    """Measured on a full batch of the tile in the middle of a picture (H, W, 3), after another to warm up.

    The tile has as many evaluations as the method gives it: where those differ over a picture, this is a guess.
    """
    frame = pipeline.frame
    height, width = (min(side, length) for side, length in zip(frame.tile, pixels.shape, strict=False))
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    middle = np.ascontiguousarray(pixels[top : top + height, left : left + width])
    seconds = []
    for _ in range(2):
        begun = time.monotonic()
        for _ in denoise([Job(str(i), middle) for i in range(pipeline.capacity)], pipeline, request):
            pass
        seconds.append(time.monotonic() - begun)
    return Pace.of(seconds[-1] / pipeline.capacity, middle, frame)
