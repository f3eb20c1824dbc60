"""The samples of a colour filter array before they are demosaiced: how noisy they are, and hot and dead pixels go."""

from __future__ import annotations

from itertools import product

import numpy as np

from rngcli.images.spaces import SRGB_CURVE

_BAND = 256  # rows looked at at once
_REACH = 2  # to the next pixel of the same colour, in a mosaic of 2×2
_SPREADS = 3.0  # of its neighbours, by which a pixel is outside of them: of white noise, 8 pixels in a million
_ROWS, _BLOCK = 8, 1024  # every so many rows and so many of their pixels at once tell the noise
_STAR = 0.25  # share of its excess that light would also have put into the pixels beside it
_AROUND = [(y, x) for y, x in product((-_REACH, 0, _REACH), repeat=2) if (y, x) != (0, 0)]
_BESIDE = [(-1, 0), (1, 0), (0, -1), (0, 1)]


def replace_hot_pixels(mosaic: np.ndarray, least: int) -> int:
    """Replace hot and dead pixels of a 2×2 mosaic, (H, W) uint16, in place, by their neighbours; how many there were.

    Such a pixel lies alone, by `least` levels and by three times their own spread, above or below the eight nearest of
    its colour, and the pixels beside it, of other colours, do not: a star or an edge reaches them, too.
    """
    if min(mosaic.shape) <= _REACH:
        return 0
    wide = np.pad(mosaic, _REACH, mode="reflect")
    found = [_outliers(wide, top, min(top + _BAND, mosaic.shape[0]), least) for top in range(0, mosaic.shape[0], _BAND)]
    at = np.concatenate(found, axis=1)
    middle = _median(wide, at)
    excess = mosaic[tuple(at)] - middle
    last = np.array(mosaic.shape)[:, None] - 1
    beside = [last - np.abs(last - np.abs(at + np.array(step)[:, None])) for step in _BESIDE]  # reflected at the border
    light = np.max([np.sign(excess) * (mosaic[tuple(place)] - _median(wide, place)) for place in beside], axis=0)
    alone = light < _STAR * np.abs(excess)
    mosaic[tuple(at[:, alone])] = np.rint(middle[alone])
    return int(alone.sum())


def mosaic_noise(light: np.ndarray) -> float:
    """The noise of a 2×2 mosaic, (H, W) in [0, 1] and beyond, as sRGB's curve shows it: a standard deviation.

    Of second differences along rows, the median over small blocks of each one's own median: most blocks have no edges.
    """
    code = SRGB_CURVE.code(light[::_ROWS].clip(0, 1).astype(np.float64))
    wave = np.abs(2 * code[:, _REACH:-_REACH] - code[:, : -2 * _REACH] - code[:, 2 * _REACH :]).ravel() / 6**0.5
    blocks = wave[: max(1, wave.size // _BLOCK) * _BLOCK].reshape(-1, min(_BLOCK, max(1, wave.size)))
    return float(np.median(np.median(blocks, axis=1)) * 1.4826) if wave.size else 0.0


def _outliers(wide: np.ndarray, top: int, bottom: int, least: int) -> np.ndarray:
    """(2, N) places of pixels far outside of the eight nearest of their colour, in rows `top` to `bottom`."""
    height, width = bottom - top, wide.shape[1] - 2 * _REACH

    def moved(y: int, x: int) -> np.ndarray:
        return wide[top + _REACH + y :, _REACH + x :][:height, :width]

    most, fewest = moved(*_AROUND[0]).astype(np.int32), moved(*_AROUND[0]).astype(np.int32)
    for step in _AROUND[1:]:
        np.maximum(most, moved(*step), out=most)
        np.minimum(fewest, moved(*step), out=fewest)
    here, margin = moved(0, 0).astype(np.int32), _SPREADS * (most - fewest) + least
    rows, columns = np.nonzero((here > most + margin) | (here < fewest - margin))
    return np.stack([rows + top, columns])


def _median(wide: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Of the eight nearest pixels of the same colour, (N,) float64, at places (2, N)."""
    around = [wide[at[0] + _REACH + y, at[1] + _REACH + x] for y, x in _AROUND]
    return np.median(np.array(around, dtype=np.float64), axis=0) if at.size else np.empty(0)
