"""What a picture is once it is read: pixels for the networks, and everything needed to write it as it came."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from rngcli import __version__
from rngcli.errors import PictureError
from rngcli.images.ifd import Directory
from rngcli.images.metadata import Metadata
from rngcli.images.tone import ToneMap

Format = Literal["jpeg", "png", "tiff", "webp", "avif", "heic", "jxl", "dng"]
Depth = Literal[8, 10, 12, 16, 32]
RawSpace = Literal["srgb", "p3", "prophoto"]
_DTYPES: dict[int, type[np.generic]] = {8: np.uint8, 10: np.uint16, 12: np.uint16, 16: np.uint16, 32: np.float32}


@dataclass(frozen=True)
class ReadOptions:
    """`max_pixels` bounds width · height before anything is decoded; `raw_bright` is LibRaw's automatic exposure.

    `raw_space` is the colour space that camera raws are developed in; `raw_linear` leaves them in the camera's, to be
    written as DNG; `keep_hot_pixels` leaves those of the sensor alone.
    """

    max_pixels: int = 400_000_000
    raw_bright: bool = False
    raw_space: RawSpace = "srgb"
    raw_linear: bool = False
    keep_hot_pixels: bool = False


@dataclass(frozen=True)
class WriteOptions:
    """`quality` (1-100) replaces the source's own compression; `software` is what the software tag will say."""

    quality: int | None = None
    strip_metadata: bool = False
    software: str = f"rng {__version__}"


@dataclass(frozen=True)
class Encoding:
    """How the source was compressed, where its format leaves a choice; () and None where it is not known."""

    tables: tuple[tuple[int, ...], ...] = ()  # JPEG quantisation tables
    subsampling: int | None = None  # Pillow's number: 0 is 4:4:4, 1 is 4:2:2, 2 is 4:2:0
    progressive: bool = False
    lossless: bool = False  # WebP, JPEG XL
    uncompressed: bool = False  # TIFF


@dataclass(frozen=True)
class Image:
    """A picture.

    `pixels` are (H, W, 3) float32 in [0, 1], in the primaries of the picture and a curve like sRGB's, grey ones
    replicated (`grey` remembers it). They lie as they are stored, not turned by the orientation tag, which stays in
    `metadata`. `tone` leads back to the stored values; None: the profile's curve does. `alpha` is (H, W), as it came;
    that of 10 and 12 bit is stretched to 16. `premultiplied` says that the stored colours are multiplied by it.
    `extras`, (H, W, n), are further samples of a TIFF, neither colour nor alpha (infrared, masks), as they came.
    `depth` is the bits of integers, or 32 for floats. `camera` holds the tags that make a DNG of a raw. `notes` say
    what reading could not keep, one line each.
    """

    pixels: np.ndarray
    format: Format = "png"
    depth: Depth = 8
    grey: bool = False
    alpha: np.ndarray | None = None
    premultiplied: bool = False
    extras: np.ndarray | None = None
    metadata: Metadata = field(default_factory=Metadata)
    encoding: Encoding = field(default_factory=Encoding)
    tone: ToneMap | None = None
    camera: Directory | None = None
    notes: tuple[str, ...] = ()

    def with_pixels(self, pixels: np.ndarray) -> Image:
        """The same picture with other pixels, (H, W, 3) float32 in [0, 1].

        Of its own size, or of a whole multiple: then each pixel of alpha is repeated, and no DNG can be made of it.
        """
        own, scale = self.pixels.shape, pixels.shape[0] // self.pixels.shape[0]
        if scale < 1 or pixels.shape != (scale * own[0], scale * own[1], 3):
            raise ValueError(f"pixels of shape {pixels.shape} in a picture of shape {own}")
        changed = replace(self, pixels=np.ascontiguousarray(pixels, dtype=np.float32))
        if scale == 1:
            return changed
        alpha = None if self.alpha is None else self.alpha.repeat(scale, 0).repeat(scale, 1)
        return replace(changed, alpha=alpha, camera=None)

    def noted(self, note: str) -> Image:
        """The same picture with one more line for the user."""
        return replace(self, notes=(*self.notes, note))


class TooManyPixels(PictureError):
    """The size that a header says, and that is beyond what may be decoded."""

    def __init__(self, width: int, height: int, most: int) -> None:
        size = f"{width}×{height} pixels, more than the limit of {most / 1e6:g} million"
        super().__init__(size, "raise it with --max-pixels if the picture is meant")
        self.width, self.height = width, height


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture by the size in its header."""
    if width < 1 or height < 1:
        raise PictureError(f"its header says {width}×{height} pixels", "the file is damaged")
    if width * height > max_pixels:
        raise TooManyPixels(width, height, max_pixels)


def from_samples(samples: np.ndarray, bits: int = 0) -> np.ndarray:
    """Stored samples, (H, W) or (H, W, 3), as (H, W, 3) float32 with full scale at 1.

    Of uint8 or uint16, of which `bits` are used (0: all), or of float32.
    """
    scale = 1 if samples.dtype.kind == "f" else 2 ** (bits or 8 * samples.itemsize) - 1
    pixels = samples.astype(np.float32)
    if scale != 1:
        pixels /= np.float32(scale)
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def to_samples(pixels: np.ndarray, depth: Depth, grey: bool) -> np.ndarray:
    """(H, W, 3) float32 pixels, rounded to the samples of `depth`: the inverse of `from_samples`; grey is the mean."""
    # Three equal float32 add up exactly in float64, so grey floats come back bit for bit.
    stored = pixels.mean(axis=2, dtype=np.float64).astype(np.float32) if grey else pixels
    if depth == 32:
        return np.ascontiguousarray(stored, dtype=np.float32)
    scale = np.float32(2**depth - 1)
    scaled = np.clip(stored, 0, 1) * scale
    return np.rint(scaled, out=scaled).astype(_DTYPES[depth])


def alpha_samples(alpha: np.ndarray, depth: Depth) -> np.ndarray:
    """Alpha (H, W) of 8 or 16 bit or floats in the samples of `depth`; untouched where it is of that depth already."""
    if alpha.dtype == _DTYPES[depth] and depth not in (10, 12):
        return alpha
    scale = 1.0 if alpha.dtype.kind == "f" else float(np.iinfo(alpha.dtype).max)
    values = np.clip(alpha / scale, 0, 1)
    return values.astype(np.float32) if depth == 32 else np.rint(values * (2**depth - 1)).astype(_DTYPES[depth])


def stretched(samples: np.ndarray, bits: int) -> np.ndarray:
    """Integers of `bits` in the full range of uint8, or of uint16 where they have more than 8; floats as they are."""
    whole = 8 if bits <= 8 else 16
    if bits in (whole, 32):
        return samples
    return np.rint(samples * ((2**whole - 1) / (2**bits - 1))).astype(f"u{whole // 8}")


def straight(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Stored colours (H, W, 3) that are multiplied by alpha (H, W), as they are without it; none where alpha is 0."""
    share = alpha_samples(alpha, 32)[..., None]
    return np.divide(pixels, share, out=np.zeros_like(pixels), where=share > 0).clip(0, 1)


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, …) turned and mirrored as EXIF orientation 1 to 8 asks, so that the picture is upright."""
    if orientation in (5, 6, 7, 8):
        array = np.swapaxes(array, 0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)
