"""How noisy a picture is: σ_n of white noise, from the flattest of its blocks, where little else is."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

BLOCK = 16  # [px]
ACROSS = 64  # blocks looked at along each side, evenly spread: so that a large picture takes no longer
FLATTEST = 0.1  # share of the blocks that is believed
CLIPPED = 0.02  # share of black or white samples from which a block's noise is too small to believe
MAD = 1.4826  # from the median absolute deviation of a Gaussian to its standard deviation


def noise_level(pixels: np.ndarray, valid: np.ndarray | None = None) -> float:
    """σ_n on the scale of `pixels` (H, W, C) in [0, 1]; valid (H, W) bool is false in holes. 0 where nothing tells.

    The second difference in both directions (Immerkær 1996) leaves of a picture little but its noise; its median
    absolute deviation (Donoho 1994) passes over the edges. Which blocks are flat, their coarse structure decides, which
    does not depend on the noise that is measured. Noise that is coarser than a pixel is underrated.
    """
    blocks = _blocks(pixels)
    known = np.ones(blocks.shape[:3], bool) if valid is None else _blocks(valid[..., None])[..., 0]
    if min(blocks.shape[1:3]) < 3 or not known.any():
        return 0.0
    clipped = ((blocks <= 0) | (blocks >= 1)).mean(axis=(1, 2, 3)) > CLIPPED
    whole = known.all(axis=(1, 2)) & ~clipped
    if whole.sum() * FLATTEST >= 1 and min(blocks.shape[1:3]) >= 4:  # _structure looks at sixteenths
        structure = np.where(whole, _structure(blocks), np.inf)
        chosen = np.argsort(structure, kind="stable")[: max(int(whole.sum() * FLATTEST), 8)]
        blocks, known = blocks[chosen], known[chosen]
    around = sliding_window_view(known, (3, 3), axis=(1, 2)).all(axis=(-2, -1))
    if not around.any():
        return 0.0
    deviations = np.median(np.abs(_second_difference(blocks)[around]), axis=0)  # one a channel
    return float(MAD * np.sqrt(np.mean(deviations**2)))


def _blocks(picture: np.ndarray) -> np.ndarray:
    """At most ACROSS × ACROSS blocks, (N, BLOCK, BLOCK, C); of a small picture smaller ones."""
    rows, cols = (_starts(length) for length in picture.shape[:2])
    height, width = (min(BLOCK, length) for length in picture.shape[:2])
    cut = [picture[y : y + height, x : x + width] for y in rows for x in cols]
    return np.stack(cut)


def _starts(length: int) -> np.ndarray:
    count = min(max(length // BLOCK, 1), ACROSS)
    return np.linspace(0, max(length - BLOCK, 0), count).astype(int)


def _structure(blocks: np.ndarray) -> np.ndarray:
    """Variance of the means of a block's sixteenths, (N,)."""
    n, h, w, c = blocks.shape
    cells = blocks[:, : h // 4 * 4, : w // 4 * 4].reshape(n, 4, h // 4, 4, w // 4, c).mean(axis=(2, 4))
    return cells.reshape(n, -1, c).var(axis=1).mean(axis=1)


def _second_difference(blocks: np.ndarray) -> np.ndarray:
    """(N, h, w, C) -> (N, h − 2, w − 2, C), scaled so that white noise keeps its σ."""
    along_y = blocks[:, :-2] - 2 * blocks[:, 1:-1] + blocks[:, 2:]
    return (along_y[:, :, :-2] - 2 * along_y[:, :, 1:-1] + along_y[:, :, 2:]) / 6
