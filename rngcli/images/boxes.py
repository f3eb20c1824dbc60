"""The boxes of which AVIF, HEIC and JPEG XL files are made (ISO 14496-12): read them, write them, exchange pictures."""

from __future__ import annotations

import struct
from collections.abc import Iterator


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Each box between two places as (kind, where its body starts, where it ends), as long as they are whole."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        body = start + 8
        if size == 1 and body + 8 <= end:
            size, body = struct.unpack_from(">Q", data, body)[0], body + 8
        stop = start + size if size else end
        if not body <= stop <= end:
            return
        yield kind, body, stop
        start = stop


def box(kind: bytes, body: bytes) -> bytes:
    """One box."""
    return struct.pack(">I4s", 8 + len(body), kind) + body


def found(data: bytes, *path: bytes) -> tuple[int, int]:
    """Where the body of a box starts and ends, by the kinds that lead to it; (0, 0) where there is none."""
    start, end = 0, len(data)
    for kind in path:
        inner = start + 4 if path.index(kind) and path[path.index(kind) - 1] == b"meta" else start  # version and flags
        start, end = next(((a, b) for name, a, b in boxes(data, inner, end) if name == kind), (0, 0))
        if not end:
            break
    return start, end


def properties(data: bytes, kind: bytes) -> list[tuple[int, int]]:
    """Where the properties of a kind, of all items of an AVIF or a HEIC, start and end."""
    return [(a, b) for name, a, b in boxes(data, *found(data, b"meta", b"iprp", b"ipco")) if name == kind]


def regrafted(data: bytes, other: bytes) -> bytes:
    """An AVIF file by libavif with the pictures of another of the same size and channels, its metadata as it was."""
    block = bytearray(data)
    for kind in (b"pixi", b"av1C"):
        for (a, b), (c, d) in zip(properties(data, kind), properties(other, kind), strict=True):
            block[a:b] = other[c:d]
    pictures = {item: other[start : start + size] for item, (_, start, size) in _extents(other)}
    return exchanged(bytes(block), pictures)


def exchanged(data: bytes, items: dict[int, bytes]) -> bytes:
    """An AVIF file by libavif with other contents of some of its items, by their numbers."""
    at = found(data, b"mdat")[0]
    block = bytearray(data[:at])
    for item, (place, start, size) in _extents(data):
        content = items.get(item, data[start : start + size])
        struct.pack_into(">II", block, place, len(block), len(content))
        block += content
    struct.pack_into(">I", block, at - 8, len(block) - at + 8)
    return bytes(block)


def numbers_of(data: bytes, kind: bytes) -> list[int]:
    """The numbers of all items of a kind."""
    start, end = found(data, b"meta", b"iinf")
    entries = (data[a:b] for name, a, b in boxes(data, start + 6, end) if name == b"infe")
    return [int.from_bytes(entry[4:6], "big") for entry in entries if entry[8:12] == kind]


def contents(data: bytes, kind: bytes) -> list[bytes]:
    """What stands in all items of a kind, of an AVIF or a HEIC by anyone; without those in more than one piece."""
    extents = dict(_extents(data))
    known = (extents[number] for number in numbers_of(data, kind) if number in extents)
    return [data[start : start + size] for _, start, size in known]


def _extents(data: bytes) -> Iterator[tuple[int, tuple[int, int, int]]]:
    """Each item's number and where its extent is told, begins, and how long it is (ISO 14496-12, iloc)."""
    at, end = found(data, b"meta", b"iloc")
    if not end:
        return
    version, sizes = struct.unpack_from(">B3xH", data, at)
    wide = 4 if version == 2 else 2
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    count, at = int.from_bytes(data[at + 6 : at + 6 + wide], "big"), at + 6 + wide
    for _ in range(count):
        item, at = int.from_bytes(data[at : at + wide], "big"), at + wide
        method = int.from_bytes(data[at : at + 2], "big") if version else 0
        at += (2 if version else 0) + 2
        base, at = int.from_bytes(data[at : at + base_size], "big"), at + base_size
        extents, at = int.from_bytes(data[at : at + 2], "big"), at + 2
        row = at + (index_size if version else 0)
        at += extents * ((index_size if version else 0) + offset_size + length_size)
        if at > end:
            return
        if extents == 1 and method == 0:
            offset = base + int.from_bytes(data[row : row + offset_size], "big")
            size = int.from_bytes(data[row + offset_size : row + offset_size + length_size], "big")
            yield item, (row, offset, size)
