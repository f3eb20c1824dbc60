"""ICC profiles for colours that a file tells without one: by white, primaries and a curve, or by a word of EXIF."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from rngcli.errors import PictureError
from rngcli.images import ifd
from rngcli.images.profiles import grey_profile, icc_profile
from rngcli.images.spaces import D65, SRGB_CURVE, XY, Curve, Space, space_of_primaries

Corners = tuple[XY, XY, XY]
BT709: Corners = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
BT2020: Corners = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
P3: Corners = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE: Corners = ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060))
ADOBE_CURVE = Curve(2 + 51 / 256)
BT709_CURVE = Curve(1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_SRGB_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # at D65
_NEAR = 0.002
_PNG_SRGB, _PNG_BT709 = (
    struct.pack(">I", 45455),
    struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
)
_TIFF_COLOURS = (0x13E, 0x13F, 0x12D)
_COLOUR_SPACE = 0xA001
_STEPS = 1024


def icc_of_png(chunks: Sequence[tuple[bytes, bytes]], grey: bool) -> bytes:
    """The profile that gAMA and cHRM amount to; b'' where they say sRGB, or where sRGB or cICP outrank them."""
    told = dict(chunks)
    if b"sRGB" in told or b"cICP" in told or not (b"gAMA" in told or b"cHRM" in told):
        return b""
    try:
        gamma = struct.unpack(">I", told.get(b"gAMA", _PNG_SRGB))[0] / 100_000
        values = [value / 100_000 for value in struct.unpack(">8I", told.get(b"cHRM", _PNG_BT709))]
    except struct.error:
        return b""
    curve = SRGB_CURVE if 0.44 < gamma < 0.47 else Curve(1 / gamma) if 0.1 < gamma < 10 else SRGB_CURVE
    return _of_numbers(values, curve, grey)


def icc_of_tiff(page: ifd.Directory, grey: bool) -> bytes:
    """The profile that WhitePoint, PrimaryChromaticities and TransferFunction amount to; b'' where there are none."""
    white, corners, table = (page.numbers(tag) for tag in _TIFF_COLOURS)
    if not (white or corners or table):
        return b""
    curve = SRGB_CURVE
    if len(table) in (256, 65536, 3 * 256, 3 * 65536):
        one = table[: len(table) // 3 if len(table) % 3 == 0 else None]
        curve = Curve(table=tuple(value / 65535 for value in one[:: max(1, len(one) // 4096)]))
    values = [*(white if len(white) == 2 else D65), *(corners if len(corners) == 6 else sum(BT709, ()))]
    return _of_numbers(values, curve, grey)


def icc_of_exif(exif: bytes) -> bytes:
    """Adobe RGB where the camera says so in DCF's way: its colours are not sRGB, its rules are R03."""
    tree = ifd.parse(exif)
    camera = tree.children.get(ifd.EXIF_POINTER) if tree else None
    rules = camera.children.get(ifd.INTEROP_POINTER) if camera else None
    if camera is None or rules is None or rules.text(1) != "R03" or camera.number(_COLOUR_SPACE) == 1:
        return b""
    return icc_of(D65, ADOBE, ADOBE_CURVE)


def _of_numbers(values: Sequence[float], curve: Curve, grey: bool) -> bytes:
    white, *corners = zip(values[::2], values[1::2], strict=True)
    red, green, blue = corners
    return icc_of(white, (red, green, blue), curve, grey)


@lru_cache(maxsize=16)
def icc_of(white: XY, primaries: Corners, curve: Curve, grey: bool = False) -> bytes:
    """A display profile; b'' for sRGB, which needs none, and for colours that no display can have."""
    near = np.abs(np.array([white, *primaries]) - [D65, *BT709]).max() < _NEAR
    levels = np.linspace(0, 1, _STEPS)
    if (near or grey) and np.abs(curve.linear(levels) - SRGB_CURVE.linear(levels)).max() < 1e-3:
        return b""
    if grey:
        return grey_profile(curve, "Grey, as the file says")
    try:
        return icc_profile(space_of_primaries(white, primaries, curve), "As the file says", white)
    except (ValueError, np.linalg.LinAlgError, struct.error):
        return b""


def corners_of(space: Space) -> Corners:
    """The primaries (CIE xy) of a space as seen at D65; those of a well-known one exactly."""
    columns = _SRGB_TO_XYZ @ np.array(space.matrix)
    red, green, blue = ((float(x), float(y)) for x, y in (columns[:2] / columns.sum(axis=0)).T)
    found = red, green, blue
    known = (corners for corners in (BT709, BT2020, P3) if np.abs(np.subtract(corners, found)).max() < _NEAR)
    return next(known, found)


def srgb_by_tables(pixels: np.ndarray, icc: bytes) -> np.ndarray:
    """Values (H, W, 3) under a profile of tables as sRGB, by littleCMS at 16 bit; PictureError where it is damaged."""
    from imagecodecs import CmsError, cms_profile, cms_transform

    samples = np.rint(pixels.clip(0, 1) * 65535).astype(np.uint16)
    try:
        seen = cms_transform(samples, icc, cms_profile("srgb"), colorspace="rgb", outcolorspace="rgb")
    except (CmsError, ValueError):
        cause = "JPEG XL cannot be told the colour profile of this picture"
        raise PictureError(cause, "choose TIFF or PNG") from None
    return seen.astype(np.float32) / np.float32(65535)


def to_srgb(corners: Corners) -> np.ndarray:
    """The matrix (3, 3) from linear light of primaries, white at D65, to linear sRGB."""
    if corners == BT709:
        return np.eye(3)
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in corners]).T
    white = _SRGB_TO_XYZ.sum(axis=1)
    return np.linalg.solve(_SRGB_TO_XYZ, columns * np.linalg.solve(columns, white))
