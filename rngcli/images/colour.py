"""From a picture's own colours to the sRGB that the networks know, and back.

Spaces of a matrix and curves (cameras, working spaces, most displays) are converted. Profiles that hold only tables are
not: their values go to the networks as they are, which loses nothing and is said in a note. What sRGB cannot hold is
never clipped away: it is kept beside the pixels (`Excess`) and added again when the picture is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from rngcli.errors import PictureError
from rngcli.images.model import Depth, Excess, Format, Image
from rngcli.images.spaces import SRGB_CODES, Space, space_of

_BAND = 2**19  # pixels converted at once
_VISIBLE = 1 / 255
_NOTED_SHARE = 0.001


def from_stored(image: Image) -> Image:
    """A picture just decoded, its pixels as stored, with pixels in sRGB; `excess` holds what they leave out."""
    space, note = space_of(image.metadata, image.grey)
    image = image.noted(note) if note else image
    if space is None and image.depth != 32:
        return image
    lost = _unseen_error(image.depth, space)
    stored = image.pixels.reshape(-1, 3)
    pixels = np.empty_like(stored)
    found = []
    for band in _bands(len(stored)):
        original = stored[band].T.astype(np.float64)
        srgb = original if space is None else space.to_srgb(original)
        pixels[band] = np.clip(srgb, 0, 1).T
        # Compared with what the rounded float32 pixels give back, so that an untouched picture is restored bit for bit.
        missing = original - _stored_band(pixels[band], space)
        at = np.flatnonzero((np.abs(missing) > lost).any(axis=0))
        found.append((at + band.start, missing[:, at].T))
    excess = Excess(np.concatenate([at for at, _ in found]), np.concatenate([value for _, value in found]))
    image = replace(image, pixels=pixels.reshape(image.pixels.shape), excess=excess if excess.index.size else None)
    share = (np.abs(excess.value) > _VISIBLE).any(axis=1).sum() / len(stored)
    if share < _NOTED_SHARE:
        return image
    return image.noted(f"{share:.1%} of the pixels lie outside of sRGB: what is outside is kept, not denoised")


def _unseen_error(depth: Depth, space: Space | None) -> float:
    """The largest error of a stored value that rounding forgives, with a margin of two; 0 for floats as such."""
    return 0.5 / 2 / (2**depth - 1) if depth < 32 else 1e-6 if space else 0.0


def to_stored(image: Image) -> np.ndarray:
    """The pixels of a picture, (H, W, 3) float32, in the colour space of its profile, with what lay outside of sRGB."""
    space, _ = space_of(image.metadata, image.grey)
    if space is None and image.excess is None:
        return image.pixels
    pixels = image.pixels.reshape(-1, 3)
    stored = np.empty_like(pixels)
    excess = image.excess or Excess(np.empty(0, np.int64), np.empty((0, 3)))
    for band in _bands(len(pixels)):
        values = _stored_band(pixels[band], space)
        first, last = np.searchsorted(excess.index, (band.start, band.stop))
        values[:, excess.index[first:last] - band.start] += excess.value[first:last].T
        stored[band] = values.T
    return stored.reshape(image.pixels.shape)


def expressible(image: Image, format: Format) -> Image:
    """The picture as sRGB where `format` cannot say which colour space it is in; PictureError if that is unknown."""
    coded = next((body for kind, body in image.metadata.colour if kind == b"cICP"), b"")
    unheld = coded and format not in ("png", "avif", "heic", "jxl")
    grey = image.metadata.icc[16:20] == b"GRAY"
    unfit = grey and format in ("webp", "avif")
    if not unheld and not unfit:
        return image
    if unheld and coded[:2] not in SRGB_CODES and space_of(image.metadata, image.grey)[0] is None:
        raise PictureError(f"{format.upper()} cannot hold the HDR colours of this picture", "choose PNG or AVIF")
    return replace(image, metadata=replace(image.metadata, icc=b"", colour=()), excess=None)


def _stored_band(pixels: np.ndarray, space: Space | None) -> np.ndarray:
    """Pixels (N, 3) as stored values (3, N) float64, without excess."""
    values = pixels.T.astype(np.float64)
    return values if space is None else space.from_srgb(values)


def _bands(count: int) -> Iterator[slice]:
    return (slice(start, min(start + _BAND, count)) for start in range(0, count, _BAND))
