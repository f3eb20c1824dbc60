"""DNG's lists of corrections: those of a mosaic's samples, said of the planes of linear RGB where that is possible.

Adobe's Digital Negative Specification, chapter 7; always big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

_HEAD = struct.Struct(">4I")  # number, version, flags, size
_AREA = struct.Struct(">8I")  # top, left, bottom, right, first plane, planes, pitch of rows, pitch of columns
_GAIN_MAP, _MAP_PLANES_AT = 9, _AREA.size + 40


def for_planes(data: bytes, pattern: Sequence[int], height: int, width: int) -> tuple[bytes, int]:
    """The opcode list of a Bayer mosaic for the linear RGB made of it, and how many corrections it could not take over.

    `pattern` are the colours of the mosaic's four places. Gain maps (shading) of one place become those of one plane;
    of the two greens, the first. Raises struct.error where the list is damaged.
    """
    kept: dict[int, bytes] = {}
    left = 0
    for number, version, flags, body in _opcodes(data):
        plane = _plane(number, body, pattern)
        if plane is None:
            left += 1
            continue
        first, planes = (0, len(set(pattern))) if plane < 0 else (plane, 1)
        area = _AREA.pack(0, 0, height, width, first, planes, 1, 1)
        kept.setdefault(plane, _HEAD.pack(number, version, flags, len(body)) + area + body[_AREA.size :])
    return struct.pack(">I", len(kept)) + b"".join(kept.values()), left


def _opcodes(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    at = 4
    for _ in range(min(struct.unpack_from(">I", data)[0], 1000)):
        number, version, flags, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if at + size > len(data):
            raise struct.error("an opcode that ends behind its list")
        yield number, version, flags, data[at : at + size]
        at += size


def _plane(number: int, body: bytes, pattern: Sequence[int]) -> int | None:
    """The plane of RGB that a gain map of a mosaic is about, -1 for all; None for any other correction."""
    if number != _GAIN_MAP or len(pattern) != 4:
        return None
    top, left, _, _, first, _, rows, columns = _AREA.unpack_from(body)
    if struct.unpack_from(">I", body, _MAP_PLANES_AT)[0] != 1 or first or top > 1 or left > 1:
        return None
    if (rows, columns) == (1, 1):
        return -1 if (top, left) == (0, 0) else None
    return pattern[2 * top + left] if (rows, columns) == (2, 2) else None
