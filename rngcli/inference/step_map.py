"""The step controller's decisions as a picture: little detail dark, much bright, over the picture's own outlines."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .tiling import Grid

# Five anchors of a dark-to-bright ramp that also rises in lightness, so that it reads in grey.
_RAMP = np.array([[0.05, 0.03, 0.20], [0.35, 0.07, 0.43], [0.72, 0.22, 0.33], [0.95, 0.55, 0.15], [0.99, 0.95, 0.65]])


def step_map(pixels: np.ndarray, starts: np.ndarray, grid: Grid) -> np.ndarray:
    """pixels (H, W, 3) in [0, 1], starts (rows, cols) in [0, 1] as a Result has them -> (H, W, 3) in [0, 1].

    Where a tile starts, not its evaluations: budgets that differ in detail may be alike in evaluations.
    """
    canvas = Canvas(grid, channels=1)
    for i, start in enumerate(starts.flat):
        canvas.add(i, np.full((*grid.tile, 1), start, np.float32))
    level = canvas.finish()[..., 0].clip(0, 1) * (len(_RAMP) - 1)
    colour = np.stack([np.interp(level, np.arange(len(_RAMP)), channel) for channel in _RAMP.T], axis=-1)
    grey = pixels.mean(axis=-1, keepdims=True)
    return (colour * (0.55 + 0.45 * grey)).astype(np.float32)
