"""Arrays of samples as pictures, and back: as a file that holds these samples, and no profile, would be read."""

from __future__ import annotations

import numpy as np

from rngcli.errors import PictureError, UsageError
from rngcli.images.colour import from_stored, to_stored
from rngcli.images.image import Depth, Image, alpha_samples, from_samples, to_samples

_DEPTHS: dict[type[np.generic], Depth] = {np.uint8: 8, np.uint16: 16, np.float32: 32, np.float64: 32}


def image_of(array: np.ndarray) -> Image:
    """The picture in uint8, uint16, float32 or float64 samples, (H, W) or (H, W, 1 | 3 | 4): grey, RGB, RGB with alpha.

    Integers have full scale at their greatest value, floats at 1. UsageError for another type or shape, PictureError
    where a float is NaN or infinite.
    """
    array = np.asarray(array)
    depth = _DEPTHS.get(array.dtype.type)
    if depth is None:
        raise UsageError(f"an array of {array.dtype} is no picture", "give uint8, uint16, float32 or float64")
    channels = array.shape[2] if array.ndim == 3 else 1 if array.ndim == 2 else 0
    if channels not in (1, 3, 4) or not array.size:
        raise UsageError(
            f"an array of shape {array.shape} is no picture", "give (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
        )
    if depth == 32:
        array = _as_float32(array)
    colour = array.reshape(array.shape[:2]) if channels == 1 else array[..., :3]
    alpha = array[..., 3].copy() if channels == 4 else None
    return from_stored(Image(from_samples(colour), depth=depth, grey=channels == 1, alpha=alpha))


def _as_float32(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        samples = array.astype(np.float32)
    if not np.isfinite(samples).all():
        raise PictureError("the array holds values that are not numbers (NaN or infinite)", "repair it first")
    return samples


def array_of(image: Image) -> np.ndarray:
    """The samples that a file of the picture would hold, as they lie in it: not turned by its orientation tag.

    (H, W) where it is grey, (H, W, 3) else, (H, W, 4) with alpha, grey or not; uint8, uint16 (to whose range 10 and 12
    bits are stretched) or float32.
    """
    depth: Depth = 16 if image.depth in (10, 12) else image.depth
    samples = to_samples(to_stored(image), depth, image.grey)
    if image.alpha is None:
        return samples
    colour = np.repeat(samples[..., None], 3, axis=2) if samples.ndim == 2 else samples
    return np.dstack([colour, alpha_samples(image.alpha, depth)])


def samples_like(image: Image, array: np.ndarray) -> np.ndarray:
    """A picture made of `image_of(array)`, in the type and shape of that array, whose alpha is left untouched."""
    colour = to_samples(to_stored(image), image.depth, image.grey).astype(array.dtype)
    if array.ndim == 3 and array.shape[2] == 4:
        return np.dstack([colour, array[..., 3]])
    return colour.reshape(array.shape)
