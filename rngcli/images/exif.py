"""An EXIF block edited without moving anything in it: maker notes point to absolute places of the block.

By hand, since every library at hand (Pillow, piexif, tifffile) writes a block anew, and the makers' notes with it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from rngcli.images.ifd import LONG, SHORT, ByteOrder, Field, even, header, parse, parse_at


def edited(data: bytes, changes: Mapping[int, Field]) -> bytes:
    """An EXIF block with other values in its first directory, its thumbnail gone and all else where it was.

    The new first directory is appended to the block.
    """
    start, tree = header(data), parse(data)
    if start is None or tree is None or start[1]:
        return data
    if not tree.next and all(tree.fields.get(tag) == entry for tag, entry in changes.items()):
        return data
    order, _, offset = start
    block = bytearray(_without_thumbnail(data, tree.next))
    block += bytes(-len(block) % 2)
    old = _raw_entries(block, order, offset)
    table_at = len(block)
    rows = {tag: row for tag, row in old.items() if tag not in changes}
    tail_at = table_at + 2 + 12 * (len(rows) + len(changes)) + 4
    tail = b""
    for tag, entry in changes.items():
        value = entry.data.ljust(4, b"\0")
        if len(entry.data) > 4:
            value = struct.pack(order + "I", tail_at + len(tail))
            tail += even(entry.data)
        rows[tag] = struct.pack(order + "HHI", tag, entry.type, entry.count) + value
    table = struct.pack(order + "H", len(rows)) + b"".join(rows[tag] for tag in sorted(rows)) + bytes(4)
    struct.pack_into(order + "I", block, 4, table_at)
    block[offset : offset + 2 + 12 * len(old) + 4] = bytes(min(2 + 12 * len(old) + 4, table_at - offset))
    return bytes(block) + table + tail


def overwritten(data: bytes, changes: Mapping[int, Field]) -> bytes:
    """As `edited`, but the block grows by nothing: what does not fit in the place of an old value is not changed."""
    start, tree = header(data), parse(data)
    if start is None or tree is None or start[1]:
        return data
    order, _, offset = start
    places = _row_places(data, order, offset)
    block = bytearray(_without_thumbnail(data, tree.next))
    end = places[-1] + 12 if places else len(block)
    block[end : end + 4] = bytes(len(block[end : end + 4]))  # where the directory of the thumbnail lay
    for place in places:
        tag = struct.unpack_from(order + "H", data, place)[0]
        old, new = tree.fields.get(tag), changes.get(tag)
        if old and new and new.type == old.type and len(new.data) <= len(old.data):
            block[old.at : old.at + len(old.data)] = new.data.ljust(len(old.data), b"\0")
    return bytes(block)


def bare(data: bytes) -> bytes:
    """An EXIF block without the mark that JPEG puts before it, and some programs in other files, too."""
    return data.removeprefix(b"Exif\0\0")


def patched(data: bytes, pointer: int, values: Mapping[int, int]) -> bytes:
    """An EXIF block in which single integers of a sub-directory were overwritten where they stood."""
    start = header(data)
    if start is None or start[1]:
        return data
    order = start[0]
    rows = _raw_entries(data, order, start[2])
    block = bytearray(data)
    if pointer not in rows:
        return data
    child = struct.unpack(order + "I", rows[pointer][8:])[0]
    for place in _row_places(data, order, child):
        tag, kind, count = struct.unpack_from(order + "HHI", data, place)
        if tag in values and count == 1 and kind in (SHORT, LONG) and (kind == LONG or values[tag] < 65536):
            struct.pack_into(order + ("H" if kind == SHORT else "I"), block, place + 8, values[tag])
    return bytes(block)


def _row_places(data: bytes | bytearray, order: ByteOrder, offset: int) -> range:
    if not 0 < offset <= len(data) - 2:
        return range(0)
    count = struct.unpack_from(order + "H", data, offset)[0]
    return range(offset + 2, min(offset + 2 + 12 * count, len(data) - 11), 12)


def _raw_entries(data: bytes | bytearray, order: ByteOrder, offset: int) -> dict[int, bytes]:
    rows = {}
    for place in _row_places(data, order, offset):
        rows[struct.unpack_from(order + "H", data, place)[0]] = bytes(data[place : place + 12])
    return rows


def _without_thumbnail(data: bytes, offset: int) -> bytes:
    thumbnail = parse_at(data, offset) if offset else None
    if thumbnail is None:
        return data
    at, size = thumbnail.number(0x201), thumbnail.number(0x202)
    # Only what is surely a JPEG is wiped: a crafted length must not wipe the tags themselves.
    if not (8 < at < len(data) and 0 < size <= len(data) - at and data[at : at + 2] == b"\xff\xd8"):
        return data
    kept = data[:at] + bytes(size) + data[at + size :]
    return kept[:at] if not kept[at:].strip(b"\0") else kept
