"""Banding: offsets that whole rows and columns of a picture have in common, found before it is cut into tiles.

A sensor's read-out adds to each row what no tile can tell from a horizontal edge. Over the picture's full width it can
be told, since an edge covers a part of a row, and an offset all of it. So each row is estimated in STRIPS parts of the
width that know nothing of each other, and believed as far as distant parts agree (a Wiener gain).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, uniform_filter

from .noise_level import MAD

STRIPS = 8  # parts of the width that are looked at independently
COLUMNS = 128  # of each part, at most, and fewer where SAMPLES are too few: so that a large picture takes no longer
SAMPLES = 2**22
GLANCE = 16  # columns of each part that tell whether there is anything to find
FEWEST = 8  # columns of a part; below that, a row's own content decides
SCALES = (1.0, 2.0, 4.0)  # σ [px] of the Gaussian along the columns whose difference is looked at, the finest first
AGREEMENT = 0.3  # mean product of signs in distant parts; photographs have 0.02, one in a hundred 0.2
WORTH_A_LOOK = 0.12  # of the same where only GLANCE columns are seen
FAINTEST = 0.5 / 255  # RMS of offsets that are worth removing: below it, agreement is that of a gradient's rounding
EVEN = 0.5  # least ratio of the offsets' σ by their median to their RMS: where few rows have most of it, they are edges
FARTHEST = 4.0  # σ by the median beyond which a row's offset is not believed further
_SMOOTH = 9  # [px], side of the box over which a pixel's surroundings are called flat or not
_TINY = 1e-6  # of a variance: a quarter of a level of 255, squared

DISTANT = [(a, b) for a in range(STRIPS) for b in range(a + STRIPS // 2, STRIPS)]


@dataclass(frozen=True)
class Banding:
    """Offsets of the rows (H, C) and columns (W, C), float32 on the [0, 1] scale; zeros where there are none."""

    rows: np.ndarray
    columns: np.ndarray

    @property
    def rms(self) -> float:
        """Of what is removed, on the [0, 1] scale."""
        return float(np.sqrt((self.rows**2).mean() + (self.columns**2).mean()))

    @property
    def note(self) -> str:
        """What a user is told."""
        return f"banding of {255 * self.rms:.1f} of 255 (RMS) removed; --keep-banding leaves it"


UNKNOWN = Banding(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32))  # nobody has looked yet


def find_banding(pixels: np.ndarray) -> Banding | None:
    """The banding of `pixels` (H, W, C), float32 in [0, 1], or uint8 or uint16; None where there is none to speak of.

    Columns are looked at when the rows' offsets are gone.
    """
    rows = _offsets(pixels, np.zeros(pixels.shape[1:], np.float32))
    columns = _offsets(pixels.transpose(1, 0, 2), rows)
    return Banding(rows, columns) if rows.any() or columns.any() else None


def _offsets(pixels: np.ndarray, across: np.ndarray) -> np.ndarray:
    """The offset of each row (H, C), zeros where none are believed; `across` (W, C): the columns', as far as known."""
    nothing = np.zeros((pixels.shape[0], pixels.shape[2]), np.float32)
    glance = _parts(pixels, across, GLANCE)
    if glance is None or not _agreement(_fine(glance, SCALES[0])) >= WORTH_A_LOOK:  # nor where it is NaN
        return nothing
    parts = _parts(pixels, across, COLUMNS)
    assert parts is not None
    if _agreement(_fine(parts, SCALES[0])) < AGREEMENT:
        return nothing
    found = nothing.copy()
    for scale in SCALES:
        found += _believed(_fine(parts - found[:, None, None], scale), scale)
    typical, rms = MAD * np.median(np.abs(found), axis=0), np.sqrt((found**2).mean(axis=0))
    if rms.mean() < FAINTEST or typical.mean() < EVEN * rms.mean():
        return nothing
    return found.clip(-FARTHEST * typical, FARTHEST * typical)


def _fine(parts: np.ndarray, scale: float) -> np.ndarray:
    return parts - gaussian_filter1d(parts, scale, axis=0, mode="nearest")


def _parts(pixels: np.ndarray, across: np.ndarray, most: int) -> np.ndarray | None:
    """(H, STRIPS, columns, C) float32 in [0, 1]; None where the picture is too narrow to tell."""
    height, width, channels = pixels.shape
    each = min(width // STRIPS, most, max(FEWEST, SAMPLES // (STRIPS * height)))
    if each < FEWEST or height < FEWEST:
        return None
    starts = np.arange(STRIPS) * (width // STRIPS) + (width // STRIPS - each) // 2
    chosen = (starts[:, None] + np.arange(each)).ravel()
    parts = pixels[:, chosen].astype(np.float32)
    if pixels.dtype.kind != "f":
        parts /= np.iinfo(pixels.dtype).max
    return (parts - across[chosen]).reshape(height, STRIPS, each, channels)


def _agreement(fine: np.ndarray) -> float:
    """How often medians of distant parts of a row have one sign, from −1 to 1."""
    signs = np.sign(np.sign(fine).sum(axis=2))  # the median's, without sorting
    return float(np.mean([(signs[:, a] * signs[:, b]).mean() for a, b in DISTANT]))


def _believed(fine: np.ndarray, scale: float) -> np.ndarray:
    """Offsets (H, C) that differences (H, STRIPS, columns, C) show, each as far as the strips agree: a Wiener gain."""
    size = max(_SMOOTH, 2 * int(scale) + 1), 1, _SMOOTH
    uneven = uniform_filter((fine**2).mean(axis=3), size, mode="nearest")
    weight = 1 / (np.maximum(uneven, 0) + _TINY)[..., None]  # flat surroundings tell most
    total = weight.sum(axis=2)
    each = (weight * fine).sum(axis=2) / total  # (H, STRIPS, C)
    share = total / total.sum(axis=1, keepdims=True)
    mean = (share * each).sum(axis=1)
    spread = (share**2 * (each - mean[:, None]) ** 2).sum(axis=1) * STRIPS / (STRIPS - 1)  # variance of `mean`
    spread = gaussian_filter1d(spread, 2, axis=0, mode="nearest")
    pull = np.sqrt(STRIPS * share) * each
    common = np.mean([(pull[:, a] * pull[:, b]).mean(axis=0) for a, b in DISTANT], axis=0).clip(min=0)
    believed: np.ndarray = common / (common + spread + _TINY**2) * mean
    return believed
