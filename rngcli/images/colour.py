"""From a picture's stored values to the pixels that the networks see, and back.

A picture stays in its own primaries and, where that is a perceptual one, in its own curve: they hold all its colours,
and its noise in them is as even as it was made. Only the tone may change, each channel for itself and invertibly:
linear light gets sRGB's curve, floats of any range become [0, 1]. Values of profiles that hold only tables, and of HDR
codes, go to the networks as they are, which is said in a note.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from rngcli.errors import PictureError
from rngcli.images.image import Format, Image
from rngcli.images.profiles import icc_profile
from rngcli.images.spaces import SRGB_CODES, SRGB_CURVE, Curve, Space, space_of
from rngcli.images.tone import LINEAR, ToneMap

_BAND = 2**19  # pixels converted at once
_UNLIKE = 0.1  # difference from sRGB above which a curve is no perceptual one; powers from 1.6 to 2.8 lie below
_SCALES = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)  # of floats that were integers
_INTEGER_LIKE = 16.0, 2.0  # no scene in units of its white has so high a top and so high a median
_OVERSHOOT = 1.5  # by which noise may exceed full scale; what is higher is light


def from_stored(image: Image) -> Image:
    """A picture just decoded, its pixels as stored, with pixels in [0, 1] and a curve like sRGB's."""
    space, note = space_of(image.metadata, image.grey)
    image = image.noted(note) if note else image
    tone = image.tone or _by_profile(space)
    if image.depth == 32:
        tone = _of_floats(tone, image.pixels, may_be_light=not (image.metadata.icc or image.metadata.colour))
    if image.tone or image.depth == 32:
        tone = _fitted(tone, image.pixels)
    if tone == ToneMap():
        return image
    return replace(image, pixels=_banded(image.pixels, tone.encode), tone=tone)


def _by_profile(space: Space | None) -> ToneMap:
    if space is None:
        return ToneMap()
    red, green, blue = (None if _is_perceptual(curve) else curve for curve in space.curves)
    return ToneMap((red, green, blue))


def _is_perceptual(curve: Curve) -> bool:
    codes = np.linspace(0, 1, 256)
    return bool(np.abs(SRGB_CURVE.code(curve.linear(codes)) - codes).max() < _UNLIKE)


def _is_bright(tone: ToneMap) -> bool:
    return tone.high > _OVERSHOOT or (LINEAR in tone.curves and tone.high > 1)


def _of_floats(tone: ToneMap, stored: np.ndarray, may_be_light: bool) -> ToneMap:
    """The tone map with the unit of these floats, and with a curve where they are light."""
    least, most = float(stored.min()), float(stored.max())
    if most <= 1:
        return tone
    tone = replace(tone, units=(_unit(stored),) * 3)
    # Noise exceeds [0, 1] at both ends; light does at its upper one.
    is_light = may_be_light and tone.units == (1, 1, 1) and most - 1 > 0.1 - 1.5 * least
    return replace(tone, curves=(LINEAR,) * 3) if is_light else tone


def _fitted(tone: ToneMap, stored: np.ndarray) -> ToneMap:
    """The tone map with the range of these values; as it is where they lie in [0, 1] of its unit."""
    ends = tone.coded(np.stack([stored.min(axis=(0, 1)), stored.max(axis=(0, 1))], axis=1).astype(np.float64))
    return replace(tone, low=min(0.0, float(ends.min())), high=max(1.0, float(ends.max())))


def _unit(stored: np.ndarray) -> float:
    """The stored value of white in a picture of floats beyond 1."""
    sample = stored.reshape(-1)[:: max(1, stored.size // 2**20)]
    top, middle = np.quantile(sample, (0.99, 0.5))
    whole = bool((sample == np.rint(sample)).all())
    if top < _INTEGER_LIKE[0] or (middle < _INTEGER_LIKE[1] and not whole):
        return 1.0
    return next((scale for scale in _SCALES if 0.35 <= top / scale <= _OVERSHOOT), float(top))


def to_stored(image: Image) -> np.ndarray:
    """The pixels of a picture as values to be stored, (H, W, 3) float32: the inverse of `from_stored`."""
    tone = image.tone or _by_profile(space_of(image.metadata, image.grey)[0])
    return image.pixels if tone == ToneMap() else _banded(image.pixels, tone.decode)


def in_srgb(image: Image) -> np.ndarray:
    """What people see of a picture, (H, W, 3) float32 in [0, 1]: sRGB, to which pictures of other spaces compare."""
    space, _ = space_of(image.metadata, image.grey)
    tone = image.tone or _by_profile(space)
    if space is None:
        return image.pixels if tone == ToneMap() else _banded(to_stored(image), tone.coded).clip(0, 1)
    units = np.array(tone.units)[:, None]
    return _banded(to_stored(image), lambda band: space.to_srgb(band / units)).clip(0, 1)


def expressible(image: Image, format: Format) -> Image:
    """The picture with colours and range that `format` can say; PictureError where they are not known.

    Codes become a profile. Floats of any range become [0, 1], tone-mapped where they hold highlights.
    """
    if image.depth == 32 and format not in ("tiff", image.format) and image.tone:
        image = _in_range(image, image.tone, format)
    coded = next((body for kind, body in image.metadata.colour if kind == b"cICP"), b"")
    space, _ = space_of(image.metadata, image.grey)
    if coded and format not in ("png", "avif", "heic", "jxl"):
        if space is None and coded[:2] not in SRGB_CODES:
            raise PictureError(f"{format.upper()} cannot hold the HDR colours of this picture", "choose PNG or AVIF")
        icc = icc_profile(space, "as coded") if space else b""
        return replace(image, metadata=replace(image.metadata, icc=icc, colour=()))
    if image.metadata.icc[16:20] == b"GRAY" and format in ("webp", "avif"):  # which hold no grey
        pixels = _banded(to_stored(image), space.to_srgb) if space else image.pixels
        return replace(image, pixels=pixels, tone=ToneMap(), metadata=replace(image.metadata, icc=b""))
    return image


def _in_range(image: Image, tone: ToneMap, format: Format) -> Image:
    """Floats as integers of [0, 1] can hold them: in their unit, tone-mapped where they hold highlights."""
    alpha = image.alpha
    if alpha is not None and alpha.max() > 1:
        alpha = (alpha / np.float32(max(tone.units))).astype(alpha.dtype)
    if not _is_bright(tone):
        return replace(image, alpha=alpha, tone=replace(tone, units=(1.0, 1.0, 1.0)))
    space, icc = space_of(image.metadata, image.grey)[0], b"" if image.grey else image.metadata.icc
    if space and not image.grey:
        red, green, blue = (SRGB_CURVE if seen else own for seen, own in zip(tone.curves, space.curves, strict=True))
        icc = icc_profile(Space(space.matrix, (red, green, blue)), "tone-mapped")
    black_at_zero = replace(tone, low=0.0)
    pixels = _banded(image.pixels, lambda band: black_at_zero.encode(tone.decode(band)))
    metadata = replace(image.metadata, icc=icc)
    image = replace(image, pixels=pixels, alpha=alpha, tone=ToneMap(), metadata=metadata)
    return image.noted(f"{format.upper()} has no place for its highlights above white: tone-mapped")


def _banded(pixels: np.ndarray, convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """(H, W, 3) float32 through a function of (3, N) float64, a band at a time."""
    flat = pixels.reshape(-1, 3)
    converted = np.empty_like(flat)
    for start in range(0, len(flat), _BAND):
        band = slice(start, start + _BAND)
        converted[band] = convert(flat[band].T.astype(np.float64)).T
    return converted.reshape(pixels.shape)
