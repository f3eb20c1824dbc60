"""Where a picture is best judged: the noisiest part among those that have texture to lose."""

from __future__ import annotations

import numpy as np

from .noise_level import noise_level

_ACROSS = 8  # places looked at along each side
_CELL = 4  # [px] what is averaged over so many across is texture rather than noise


def noisiest(pixels: np.ndarray, size: int) -> tuple[int, int]:
    """(y, x) of a window of size × size px in a picture (H, W, 3); of the smaller picture's corner where none fits."""
    rows, cols = (_starts(length, size) for length in pixels.shape[:2])
    places = [(int(y), int(x)) for y in rows for x in cols]
    windows = [pixels[y : y + size, x : x + size] for y, x in places]
    noise = np.array([noise_level(window) for window in windows])
    textures = np.array([_texture(window) for window in windows]) - noise**2 / _CELL**2  # what noise leaves of itself
    textured = textures >= np.median(textures)
    return places[int(np.argmax(np.where(textured, noise, -1)))]


def _starts(length: int, size: int) -> np.ndarray:
    room = max(length - size, 0)
    return np.unique(np.linspace(0, room, min(_ACROSS, 2 * room // size + 2)).astype(int))


def _texture(window: np.ndarray) -> float:
    """Mean variance of cells' means among their neighbours, two by two."""
    h, w = (length // (2 * _CELL) for length in window.shape[:2])
    if not h or not w:
        return 0.0
    cells = window[: h * 2 * _CELL, : w * 2 * _CELL].reshape(h, 2, _CELL, w, 2, _CELL, -1).mean(axis=(2, 5))
    return float(cells.var(axis=(1, 3)).mean())
