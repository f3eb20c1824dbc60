"""Small raw files of a known scene, written by tifffile: what a camera would see of it, noise-free or not."""

from __future__ import annotations

import io
import struct
from fractions import Fraction

import numpy as np
import tifffile

BLACK, WHITE = 512, 15000
XYZ_TO_SRGB = np.array(  # D65
    [[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560], [0.0556434, -0.2040259, 1.0572252]]
)
NEUTRAL = (0.5, 1.0, 0.65)  # what this camera answers to white
Tag = tuple[int, str, int, object, bool]


def light(height: int = 96, width: int = 128, top: float = 0.9) -> np.ndarray:
    """A smooth scene in linear sRGB, (H, W, 3) in [0, top], with all hues inside."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = (0.5 + 0.45 * np.sin(7 * x + 2 * y + phase) * np.cos(5 * y + phase) for phase in (0.0, 1.1, 2.3))
    return top * np.stack(list(waves), axis=2) ** 2


def srgb(scene: np.ndarray) -> np.ndarray:
    """Linear light as sRGB (IEC 61966-2-1)."""
    scene = np.clip(scene, 0, 1)
    return np.where(scene <= 0.0031308, 12.92 * scene, 1.055 * scene ** (1 / 2.4) - 0.055)


def mosaic(scene: np.ndarray) -> np.ndarray:
    """(H, W, 3) as an RGGB filter array lets it through, (H, W)."""
    seen = scene[..., 1].copy()
    seen[0::2, 0::2], seen[1::2, 1::2] = scene[0::2, 0::2, 0], scene[1::2, 1::2, 2]
    return seen


def counts(seen: np.ndarray) -> np.ndarray:
    """Shares of full scale as the sensor's numbers, uint16."""
    return np.rint(np.clip(BLACK + seen * (WHITE - BLACK), 0, 65535)).astype(np.uint16)


def rationals(values: np.ndarray | tuple[float, ...], limit: int = 10000) -> tuple[int, ...]:
    ratios = (Fraction(float(value)).limit_denominator(limit) for value in np.ravel(values))
    return tuple(part for ratio in ratios for part in (ratio.numerator, ratio.denominator))


def bayer_dng(scene: np.ndarray, *more: Tag, orientation: int = 1) -> bytes:
    """The DNG of a camera with sRGB's primaries and the white balance NEUTRAL; `scene` is linear, (H, W, 3)."""
    return dng_of(counts(mosaic(scene * NEUTRAL)), "cfa", *more, orientation=orientation)


def dng_of(samples: np.ndarray, photometric: str, *more: Tag, orientation: int = 1) -> bytes:
    """A DNG of these samples; tags in `more` replace the usual ones."""
    tags: list[Tag] = [
        (271, "s", 0, "Synth", True), (272, "s", 0, "Cam 1", True), (274, "H", 1, orientation, True),
        (50706, "B", 4, bytes((1, 4, 0, 0)), True), (50708, "s", 0, "Synth Cam 1", True),
        (50714, "H", 1, BLACK, True), (50717, "H", 1, WHITE, True),
        (50721, "2i", 9, rationals(XYZ_TO_SRGB), True), (50728, "2I", 3, rationals(NEUTRAL), True),
        (50778, "H", 1, 21, True),
    ]  # fmt: skip
    if photometric == "cfa":
        tags += [(33421, "H", 2, (2, 2), True), (33422, "B", 4, bytes((0, 1, 1, 2)), True)]
    replaced = {tag[0] for tag in more}
    file = io.BytesIO()
    mono = photometric == "linear_raw" and samples.ndim == 2  # which tifffile does not know
    tifffile.imwrite(
        file, samples, photometric="minisblack" if mono else photometric, metadata=None, software="firmware 1",
        datetime="2021:03:04 05:06:07",
        extratags=[tag for tag in tags if tag[0] not in replaced] + list(more),
    )  # fmt: skip
    data = file.getvalue()
    return data.replace(struct.pack("<HHIH", 262, 3, 1, 1), struct.pack("<HHIH", 262, 3, 1, 34892)) if mono else data
