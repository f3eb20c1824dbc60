"""Colour spaces as matrix and curves, from an ICC profile or from the codes of a PNG or AVIF."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rngcli.images.metadata import Metadata

# Linear sRGB to XYZ, adapted to D50 as ICC profiles are (IEC 61966-2-1, Bradford).
SRGB_TO_XYZ = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
XY = tuple[float, float]  # chromaticity (CIE 1931)
D65: XY = (0.3127, 0.3290)
_D50_XYZ = np.array([0.9642, 1.0, 0.8249])
_CONES = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])  # Bradford
_PRIMARIES = {  # by number of ITU-T H.273, which PNG (cICP) and AVIF (nclx) use
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
SRGB_CODES = (b"\x02\x02", b"\x01\x0d", b"\x01\x02", b"\x02\x0d")  # primaries and transfer; 2 is "not said"
_SEEN = 1 / 255  # difference below which a space is as good as sRGB
_IDENTITY = (1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)  # g, a, b, c, d, e, f


@dataclass(frozen=True)
class Curve:
    """One channel's tone curve, code value to linear light, both with full scale at 1, odd about 0.

    (a·x + b)^g + e from d on, c·x + f below it (ICC.1, parametricCurveType); or a table, linear in between.
    """

    g: float = 1.0
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0
    e: float = 0.0
    f: float = 0.0
    table: tuple[float, ...] = ()

    def linear(self, code: np.ndarray) -> np.ndarray:
        """Code values, any shape, as linear light."""
        size = np.abs(code)
        if self.table:
            light = np.interp(size, np.linspace(0, 1, len(self.table)), self.table) * np.maximum(size, 1)
        else:
            light = _power(self.a * size + self.b, self.g) + self.e
            if self.d > 0:
                np.copyto(light, self.c * size + self.f, where=size < self.d)
        return np.copysign(light, code)

    def code(self, light: np.ndarray) -> np.ndarray:
        """Linear light, any shape, as code values."""
        size = np.abs(light)
        if self.table:
            code, beyond = np.interp(size, self.table, np.linspace(0, 1, len(self.table))), size / self.table[-1]
            return np.copysign(np.where(beyond > 1, beyond, code), light)
        code = (_power(size - self.e, 1 / self.g) - self.b) / self.a
        if self.d > 0:
            low = (size - self.f) / self.c if self.c else np.zeros_like(size)
            np.copyto(code, low, where=size < self.c * self.d + self.f)
        return np.copysign(code, light)


def _power(base: np.ndarray, exponent: float) -> np.ndarray:
    """A power to seven digits, as float64: in float32 it takes a tenth of the time."""
    return np.power(np.maximum(base, 0, dtype=np.float32), np.float32(exponent)).astype(np.float64)


SRGB_CURVE = Curve(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_TRANSFERS = {  # by number of ITU-T H.273
    1: Curve(1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081),
    4: Curve(2.2),
    8: Curve(),
    13: SRGB_CURVE,
}
_TRANSFERS |= dict.fromkeys((6, 14, 15), _TRANSFERS[1])


@dataclass(frozen=True)
class Space:
    """A colour space: a curve for each channel, then `matrix` (3, 3 as rows) to linear sRGB."""

    matrix: tuple[tuple[float, ...], ...]
    curves: tuple[Curve, Curve, Curve]

    def to_srgb(self, stored: np.ndarray) -> np.ndarray:
        """(3, N) float64 code values of this space as sRGB, beyond [0, 1] where sRGB is too small."""
        light = [curve.linear(channel) for curve, channel in zip(self.curves, stored, strict=True)]
        # By hand: BLAS is ten times slower on matrices of three rows.
        return SRGB_CURVE.code(np.stack([r * light[0] + g * light[1] + b * light[2] for r, g, b in self.matrix]))


def to_d50(white: XY) -> np.ndarray:
    """The matrix (3, 3) that adapts XYZ under a white to D50, as Bradford found it and ICC profiles want it."""
    ratio = (_CONES @ _D50_XYZ) / (_CONES @ _xyz(*white))
    return np.linalg.solve(_CONES, ratio[:, None] * _CONES)


def space_of_primaries(white: XY, primaries: tuple[XY, ...], curve: Curve) -> Space:
    """The space of three primaries under a white; LinAlgError or ValueError where there is none of them."""
    if min(y for _, y in (white, *primaries)) < 1e-4:
        raise ValueError("a chromaticity without light")
    space = _of_primaries(to_d50(white) @ _to_xyz(primaries, white), curve)
    if not abs(np.linalg.det(np.array(space.matrix))) > 1e-3:
        raise ValueError("primaries on a line")
    return space


def _of_primaries(columns: np.ndarray, curve: Curve) -> Space:
    """The space of three primaries, (3, 3) with the XYZ of each, adapted to D50, as a column."""
    return Space(tuple(map(tuple, np.linalg.solve(SRGB_TO_XYZ, columns).tolist())), (curve,) * 3)


def _coded(primaries: int, transfer: int) -> Space | None:
    """The space of two codes of ITU-T H.273; None where one of them is not of a matrix and a curve."""
    if primaries not in _PRIMARIES or transfer not in _TRANSFERS:
        return None
    matrix = np.linalg.solve(_to_xyz(_PRIMARIES[1]), _to_xyz(_PRIMARIES[primaries]))
    return Space(tuple(map(tuple, matrix.tolist())), (_TRANSFERS[transfer],) * 3)


def _xyz(x: float, y: float) -> np.ndarray:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _to_xyz(primaries: tuple[XY, ...], white: XY = D65) -> np.ndarray:
    columns = np.array([_xyz(*primary) for primary in primaries]).T
    return columns * np.linalg.solve(columns, _xyz(*white))


SRGB = Space(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (SRGB_CURVE,) * 3)
DISPLAY_P3 = Space(_coded(12, 13).matrix, (SRGB_CURVE,) * 3)  # type: ignore[union-attr]
PROPHOTO = _of_primaries(  # ROMM RGB (ISO 22028-2), with the plain power that Adobe's profile has
    np.array([[0.7976749, 0.1351917, 0.0313534], [0.2880402, 0.7118741, 0.0000857], [0.0, 0.0, 0.8252100]]), Curve(1.8)
)


def space_of(metadata: Metadata, grey: bool) -> tuple[Space | None, str]:
    """The colour space of a picture, None where it is sRGB or not known, and what the user should be told."""
    cicp = next((body for kind, body in metadata.colour if kind == b"cICP" and len(body) == 4), b"")
    return _space_of(cicp, metadata.icc, grey)


@lru_cache(maxsize=32)
def _space_of(cicp: bytes, icc: bytes, grey: bool) -> tuple[Space | None, str]:
    if cicp and cicp[:2] not in SRGB_CODES:
        space = _coded(cicp[0], cicp[1])
        known = space is not None
        return space, "" if known else "its colours are HDR or of a rare kind: the networks see them as they are stored"
    if not icc:
        return None, ""
    try:
        space = _profiled(icc, grey)
    except (struct.error, ValueError, KeyError, IndexError, np.linalg.LinAlgError):
        return None, "its colour profile cannot be computed with: the networks see the values as they are stored"
    return (None if _is_srgb(space) else space), ""


def _is_srgb(space: Space) -> bool:
    levels = np.linspace(0, 1, 6)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3).T
    return bool(np.abs(space.to_srgb(colours) - colours).max() < _SEEN)


def _profiled(icc: bytes, grey: bool) -> Space:
    """The space of a matrix or grey profile (ICC.1); KeyError where it has only tables, ValueError where damaged."""
    count = struct.unpack_from(">I", icc, 128)[0]
    rows = (struct.unpack_from(">4sII", icc, at) for at in range(132, 132 + 12 * min(count, 100), 12))
    tags = {name: icc[at : at + size] for name, at, size in rows}
    kind = icc[16:20]
    if kind == b"GRAY" and grey:
        return Space(SRGB.matrix, (_curve(tags[b"kTRC"]),) * 3)
    if kind != b"RGB " or icc[20:24] != b"XYZ ":
        raise ValueError("no RGB profile over XYZ")
    columns = [np.array(struct.unpack_from(">3i", tags[name], 8)) / 65536 for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    matrix = np.linalg.solve(SRGB_TO_XYZ, np.stack(columns, axis=1))
    if not abs(np.linalg.det(matrix)) > 1e-3:
        raise ValueError("primaries on a line")
    red, green, blue = (_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC"))
    return Space(tuple(map(tuple, matrix.tolist())), (red, green, blue))


def _curve(tag: bytes) -> Curve:
    if tag[:4] == b"para":
        kind = struct.unpack_from(">H", tag, 8)[0]
        values = [v / 65536 for v in struct.unpack_from(f">{(1, 3, 4, 5, 7)[kind]}i", tag, 12)]
        return _checked(_parametric(kind, values))
    count = struct.unpack_from(">I", tag, 8)[0]
    if tag[:4] != b"curv" or count > 65536:
        raise ValueError("no curve")
    table = struct.unpack_from(f">{count}H", tag, 12)
    if count < 2:
        return _checked(Curve(table[0] / 256 if table else 1.0))
    return _checked(Curve(table=tuple(value / 65535 for value in table)))


def _parametric(kind: int, values: list[float]) -> Curve:
    if kind not in (1, 2):
        g, a, b, c, d, e, f = (*values, *_IDENTITY[len(values) :])
        return Curve(g, a, b, c, d, e, f)
    # Kind 1 is 0 below -b/a; kind 2 is c below it, and c is added above it too.
    offset = values[3] if kind == 2 else 0.0
    g, a, b = values[:3]
    return Curve(g, a, b, 0.0, -b / a if a else 0.0, offset, offset)


def _checked(curve: Curve) -> Curve:
    light = curve.linear(np.linspace(0, 1, 256))
    rising = np.isfinite(light).all() and (np.diff(light) >= 0).all() and light[-1] > 0.1
    if not (rising and curve.g > 0 and curve.a > 0):
        raise ValueError("no tone curve")
    return curve
