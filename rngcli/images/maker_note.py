"""A camera's maker note that moves within its block: most are directories, whose offsets may count from outside.

By hand, since no library at hand moves one; exiftool, which does, knows each maker, this only what all have in common.
"""

from __future__ import annotations

import struct

MAKER_NOTE = 0x927C
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # by TIFF type
_HEADS = (0, 6, 8, 10, 12, 14, 18)  # bytes of a maker's name before the directory
_MOST_TAGS = 512


def relocated(note: bytes, before: int, after: int) -> bytes:
    """The note for another place in its TIFF stream: offsets that count from the stream's beginning go along.

    Notes that count from their own beginning, or that are no directories, stay as they are.
    """
    for start in _HEADS:
        for order in "<>":
            places = _far_values(note, start, order)
            if places is None:
                continue
            offsets = {place: struct.unpack_from(order + "I", note, place)[0] for place in places}
            end = start + 2 + 12 * struct.unpack_from(order + "H", note, start)[0]
            moving = [place for place, offset in offsets.items() if before + end <= offset < before + len(note)]
            if 2 * len(moving) <= len(places):
                return note
            block = bytearray(note)
            for place in moving:
                struct.pack_into(order + "I", block, place, offsets[place] - before + after)
            _told_at_its_end(block, before, after)
            return bytes(block)
    return note


def _told_at_its_end(block: bytearray, before: int, after: int) -> None:
    """Canon's notes end with a TIFF header that says where they lay, by which readers mend notes that were moved."""
    for mark, order in ((b"II*\0", "<"), (b"MM\0*", ">")):
        if block[-8:-4] == mark and struct.unpack_from(order + "I", block, len(block) - 4)[0] == before:
            struct.pack_into(order + "I", block, len(block) - 4, after)


def _far_values(note: bytes, start: int, order: str) -> list[int] | None:
    """Where the offsets of a directory stand, of values that do not fit into its rows; None where there is none."""
    if start + 2 > len(note):
        return None
    count = struct.unpack_from(order + "H", note, start)[0]
    rows = range(start + 2, start + 2 + 12 * count, 12)
    if not 1 <= count <= _MOST_TAGS or rows[-1] + 12 > len(note):
        return None
    found = []
    for row in rows:
        _, kind, values = struct.unpack_from(order + "HHI", note, row)
        size = _SIZES.get(kind, 0) * values
        if not 0 < size <= len(note):
            return None
        found += [row + 8] if size > 4 else []
    return found
