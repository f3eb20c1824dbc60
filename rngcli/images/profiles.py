"""ICC profiles for pictures whose colours no profile of theirs says: raws, and files that say them in other words."""

from __future__ import annotations

import struct
from functools import lru_cache

import numpy as np

from rngcli.images.spaces import (
    D65,
    DISPLAY_P3,
    PROPHOTO,
    SRGB,
    SRGB_CURVE,
    SRGB_TO_XYZ,
    XY,
    Curve,
    Space,
    to_d50,
)

_D50 = (0.9642, 1.0, 0.8249)
_D65_TO_D50 = (1.0478112, 0.0228866, -0.0501270, 0.0295424, 0.9904844, -0.0170491, -0.0092345, 0.0150436, 0.7521316)
_HEAD, _ROW = 128, 12  # bytes


@lru_cache(maxsize=32)
def icc_profile(space: Space, name: str, white: XY = D65) -> bytes:
    """A display profile (ICC.1:2010, version 4.3) of a space whose white was that; the same bytes every time."""
    columns = SRGB_TO_XYZ @ np.array(space.matrix)
    adapted = _D65_TO_D50 if white == D65 else to_d50(white).ravel()
    tags = {b"chad": _numbers(b"sf32", adapted)} if space is not PROPHOTO else {}
    for channel, column, curve in zip((b"r", b"g", b"b"), columns.T, space.curves, strict=True):
        tags |= {channel + b"XYZ": _numbers(b"XYZ ", column), channel + b"TRC": _curve(curve)}
    return _profile(b"RGB ", name, tags)


def grey_profile(curve: Curve, name: str) -> bytes:
    """A display profile of one channel."""
    return _profile(b"GRAY", name, {b"kTRC": _curve(curve)})


def _profile(kind: bytes, name: str, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"desc": _text(name), b"cprt": _text("CC0"), b"wtpt": _numbers(b"XYZ ", _D50)} | tags
    table, body, at = struct.pack(">I", len(tags)), b"", _HEAD + 4 + _ROW * len(tags)
    for tag, data in tags.items():
        table += struct.pack(">4sII", tag, at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    date = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    head = struct.pack(">I4xI4s4s4s", at + len(body), 0x04300000, b"mntr", kind, b"XYZ ") + date + b"acsp"
    return (head + bytes(28) + _numbers(b"", _D50)[4:]).ljust(_HEAD, b"\0") + table + body


def _numbers(kind: bytes, values: tuple[float, ...] | np.ndarray) -> bytes:
    return kind + bytes(4) + struct.pack(f">{len(values)}i", *(round(float(value) * 65536) for value in values))


def _curve(curve: Curve) -> bytes:
    if curve.table:
        return struct.pack(f">4s4xI{len(curve.table)}H", b"curv", len(curve.table), *(_word(v) for v in curve.table))
    numbers = (curve.g, curve.a, curve.b, curve.c, curve.d, curve.e, curve.f)
    return b"para" + bytes(4) + struct.pack(">H2x", 4) + _numbers(b"", numbers)[4:]


def _word(value: float) -> int:
    return round(min(max(value, 0.0), 1.0) * 65535)


def _text(words: str) -> bytes:
    data = words.encode("utf-16-be")
    return b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(data), 28) + data


PROFILES = {
    "srgb": icc_profile(SRGB, "sRGB IEC61966-2.1"),
    "p3": icc_profile(DISPLAY_P3, "Display P3"),
    "prophoto": icc_profile(PROPHOTO, "ProPhoto RGB"),
}
GREY_PROFILES = {
    "srgb": grey_profile(SRGB_CURVE, "Grey, sRGB curve"),
    "p3": grey_profile(SRGB_CURVE, "Grey, sRGB curve"),
    "prophoto": grey_profile(PROPHOTO.curves[0], "Grey, gamma 1.8"),
}
