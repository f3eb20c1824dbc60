"""Pictures inside a page: as small as they may be, as data URIs."""

from __future__ import annotations

import base64
import io
from typing import Literal

import numpy as np
from PIL import Image

_CELL = 16  # [px]
_SETTINGS = {
    "JPEG": {"quality": 92, "subsampling": 0},  # no colour subsampling: noise in colour is to be seen
    "WEBP": {"quality": 80, "method": 4},
}


def data_uri(pixels: np.ndarray, form: Literal["JPEG", "WEBP"] = "JPEG") -> str:
    """(H, W, 3) uint8, or float in [0, 1], as a JPEG of quality 92 or a WebP of quality 80."""
    file = io.BytesIO()
    # Not optimised: Pillow's buffer for that is too small for strong noise.
    Image.fromarray(eight_bits(pixels)).save(file, form, **_SETTINGS[form])
    return f"data:image/{form.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def thumbnail(pixels: np.ndarray, longest: int) -> np.ndarray:
    """(H, W, 3) uint8 of at most `longest` px on a side, each the mean of the pixels that it stands for."""
    picture = Image.fromarray(eight_bits(pixels))
    scale = min(longest / max(picture.size), 1)
    width, height = (max(round(side * scale), 1) for side in picture.size)
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX) if scale < 1 else picture)


def eight_bits(pixels: np.ndarray) -> np.ndarray:
    """The same as uint8."""
    if pixels.dtype == np.uint8:
        return pixels
    rounded: np.ndarray = np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)
    return rounded


def where_most_different(a: np.ndarray, b: np.ndarray, side: int) -> tuple[int, int, int, int]:
    """x, y, width and height [px] of the square of `side`, or less, in which (H, W, C) ×2 differ most, to _CELL px."""
    height, width = (min(side, length) for length in a.shape[:2])
    rows, columns = (length // _CELL for length in a.shape[:2])
    if not rows or not columns:
        return 0, 0, width, height
    squares = np.zeros((rows, columns))
    for row in range(rows):  # a strip at a time: a whole difference would be large
        strip = np.s_[row * _CELL : (row + 1) * _CELL, : columns * _CELL]
        difference = b[strip].astype(np.float32) - a[strip]
        squares[row] = np.square(difference).reshape(_CELL, columns, _CELL, -1).mean(axis=(0, 2, 3))
    high, wide = max(height // _CELL, 1), max(width // _CELL, 1)
    sums = np.pad(squares, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    windows = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
    y, x = np.unravel_index(int(windows.argmax()), windows.shape)
    return int(x) * _CELL, int(y) * _CELL, width, height
