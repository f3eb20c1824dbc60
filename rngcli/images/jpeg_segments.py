"""The segments of a JPEG file, walked by hand: no library tells of all of them, nor of what lies behind the picture."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

APP0, APP1, APP2, APP11, APP13, COMMENT = 0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xFE
ROOM = 65533  # bytes a segment holds
LOSSLESS = 0xC3
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
_SCAN, _END_MARKER = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # in a scan: neither a stuffed byte nor a restart


def segments(data: bytes, at: int = 2) -> Iterator[tuple[int, int, int]]:
    """Each segment before the picture's data as (marker, start, end); its body starts four bytes after its start."""
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in (_SCAN, _END_MARKER):
            return
        size = struct.unpack_from(">H", data, at + 2)[0]
        end = at + 2 + max(size, 2)
        yield marker, at, end
        at = end


def frame_of(data: bytes) -> tuple[int, int, int, int]:
    """Kind of coding (its marker), bits, width and height by the frame header; zeros where none precedes the data."""
    for marker, start, _ in segments(data):
        if marker in _FRAMES and start + 9 <= len(data):
            bits, height, width = struct.unpack_from(">BHH", data, start + 4)
            return marker, bits, width, height
    return 0, 0, 0, 0


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height of a JPEG file by its frame header; (0, 0) where it has none before its data."""
    return frame_of(data)[2:]


def end_of(data: bytes, start: int = 0) -> int:
    """Where the JPEG that begins at `start` ends, behind its end marker; 0 where it has none."""
    at = max([end for _, _, end in segments(data, start + 2)], default=start + 2)
    while at + 2 <= len(data):
        found = _MARKER.search(data, at)
        if not found:
            return 0
        marker = data[found.start() + 1]
        if marker == _END_MARKER:
            return found.end()
        size = data[found.end() : found.end() + 2]
        at = found.end() + max(2, int.from_bytes(size, "big"))
    return 0


def behind(data: bytes) -> tuple[int, str]:
    """How many more JPEG pictures lie behind the first, and whether something else does, in words."""
    at = end_of(data)
    rest = data[at:].strip(b"\0\r\n\x1a ") if at else b""
    other = "the film" if b"ftyp" in rest else f"{len(rest)} bytes of another kind" if rest else ""
    count = 0
    while at:
        at = data.find(_START, at)
        if at < 0:
            break
        count += 1
        at = end_of(data, at)
    return count, "" if count and other != "the film" else other


def segment(marker: int, body: bytes) -> bytes:
    """One segment."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
