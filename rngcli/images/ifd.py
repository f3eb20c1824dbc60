"""The tag directory of TIFF, which EXIF and most camera raws share: read it and write it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from rngcli.images.maker_note import MAKER_NOTE, relocated

ByteOrder = Literal["<", ">"]

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SIGNED_RATIONAL, IFD, LONG8, IFD8 = 1, 2, 3, 4, 5, 7, 10, 13, 16, 18
EXIF_POINTER, GPS_POINTER, INTEROP_POINTER = 0x8769, 0x8825, 0xA005
_POINTERS = (EXIF_POINTER, GPS_POINTER, INTEROP_POINTER)
_UNIT = {1: "B", 2: "B", 3: "H", 4: "I", 5: "I", 6: "b", 7: "B", 8: "h", 9: "i", 10: "i", 11: "f", 12: "d", 13: "I"}
_UNIT |= {16: "Q", 17: "q", 18: "Q"}
_PAIRS = (RATIONAL, SIGNED_RATIONAL)
_MAX_DEPTH = 3


class Bytes(Protocol):
    """What slices like bytes: a file in memory, or one on disk that is read as it is asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, place: slice, /) -> bytes: ...


@dataclass(frozen=True)
class Field:
    """One tag: `data` holds `count` values of TIFF type `type`, in the byte order of its directory; `at` is where."""

    type: int
    count: int
    data: bytes
    at: int = field(default=0, compare=False)  # offset in the stream it was read from


@dataclass(frozen=True)
class Directory:
    """Tags by number, sub-directories by the tag that points to them, and where the next directory lies (0: none)."""

    order: ByteOrder = "<"
    fields: dict[int, Field] = field(default_factory=dict)
    children: dict[int, Directory] = field(default_factory=dict)
    next: int = 0

    def numbers(self, tag: int) -> tuple[float, ...]:
        """The values of a numeric tag, rationals as quotients (0 where the denominator is 0); () where it is absent."""
        found = self.fields.get(tag)
        return _unpack(found, self.order) if found else ()

    def number(self, tag: int, default: int = 0) -> int:
        """The first value of a tag as an integer, or `default`."""
        values = self.numbers(tag)
        return int(values[0]) if values else default

    def text(self, tag: int) -> str:
        """The text of an ASCII tag, or ''."""
        found = self.fields.get(tag)
        return found.data.split(b"\0")[0].decode("utf-8", "replace").strip() if found else ""


def ascii_field(text: str) -> Field:
    """A text tag, ended by the NUL that TIFF wants."""
    data = text.encode("utf-8") + b"\0"
    return Field(ASCII, len(data), data)


def short_field(order: ByteOrder, *values: int) -> Field:
    """A tag of unsigned 16-bit values."""
    return Field(SHORT, len(values), struct.pack(f"{order}{len(values)}H", *values))


def long_field(order: ByteOrder, *values: int) -> Field:
    """A tag of unsigned 32-bit values, or of 64-bit ones (BigTIFF) where 32 bits do not hold them."""
    if max(values, default=0) < 2**32:
        return Field(LONG, len(values), struct.pack(f"{order}{len(values)}I", *values))
    return Field(LONG8, len(values), struct.pack(f"{order}{len(values)}Q", *values))


def header(data: Bytes) -> tuple[ByteOrder, bool, int] | None:
    """Byte order, whether BigTIFF, and the offset of the first directory; None where `data` is no TIFF stream."""
    if len(data) < 8 or data[:2] not in (b"II", b"MM"):
        return None
    order: ByteOrder = "<" if data[:2] == b"II" else ">"
    magic = _number(data, order + "H", 2)
    if magic == 43 and len(data) >= 16:
        return order, True, _number(data, order + "Q", 8)
    # 42 is TIFF; 'RO', 'RS' and 0x55 are Olympus and Panasonic raws, which keep the rest of the format.
    return (order, False, _number(data, order + "I", 4)) if magic in (42, 0x4F52, 0x5352, 0x55) else None


def _number(data: Bytes, form: str, at: int) -> int:
    return int(struct.unpack(form, data[at : at + struct.calcsize(form)])[0])


def parse(data: Bytes) -> Directory | None:
    """The first directory of a TIFF stream with its EXIF, GPS and interoperability directories, if any.

    Damaged input is never an error: a tag whose values lie outside of `data` is left out, and so is a sub-directory
    that points back to where the reader has been.
    """
    start = header(data)
    return parse_at(data, start[2]) if start else None


def parse_at(data: Bytes, offset: int) -> Directory | None:
    """The directory at `offset` of a TIFF stream, as `parse` gives it."""
    start = header(data)
    return _directory(data, start[0], start[1], offset, set(), 0) if start else None


def _directory(data: Bytes, order: ByteOrder, big: bool, offset: int, seen: set[int], depth: int) -> Directory | None:
    count_format, entry_size, inline = ("Q", 20, 8) if big else ("H", 12, 4)
    first = offset + struct.calcsize("=" + count_format)
    if offset in seen or offset < 1 or first > len(data):
        return None
    seen.add(offset)
    count = _number(data, order + count_format, offset)
    end = first + count * entry_size
    if count == 0 or count > 0xFFFF or end > len(data):
        return None
    fields = dict(_entries(data, order, range(first, end, entry_size), inline))
    after = data[end : end + inline]
    following = int.from_bytes(after, "little" if order == "<" else "big") if len(after) == inline else 0
    children = {}
    for tag in (tag for tag in _POINTERS if tag in fields and depth < _MAX_DEPTH):
        pointer = fields.pop(tag)
        values = _unpack(pointer, order)
        child = _directory(data, order, big, int(values[0]), seen, depth + 1) if values else None
        if child:
            children[tag] = child
    return Directory(order, fields, children, following)


def _entries(data: Bytes, order: ByteOrder, places: range, inline: int) -> Iterator[tuple[int, Field]]:
    word = order + ("Q" if inline == 8 else "I")
    budget = 2 * len(data)  # honest tags share no bytes; crafted ones could all name the whole file
    for place in places:
        tag, kind = struct.unpack(order + "HH", data[place : place + 4])
        count = _number(data, word, place + 4)
        if kind not in _UNIT:
            continue
        size = count * size_of(kind)
        at = place + 4 + inline
        if size > inline:
            at = _number(data, word, at)
        if 0 < size <= budget and at + size <= len(data):
            budget -= size
            yield tag, Field(kind, count, data[at : at + size], at)


def size_of(kind: int) -> int:
    """Bytes of one value of a TIFF type."""
    return struct.calcsize("=" + _UNIT[kind]) * (2 if kind in _PAIRS else 1)


def _unpack(entry: Field, order: ByteOrder) -> tuple[float, ...]:
    per_value = 2 if entry.type in _PAIRS else 1
    values = struct.unpack(f"{order}{entry.count * per_value}{_UNIT[entry.type]}", entry.data)
    if per_value == 1:
        return values
    return tuple(a / b if b else 0.0 for a, b in zip(values[::2], values[1::2], strict=True))


def reordered(entry: Field, source: ByteOrder, target: ByteOrder) -> Field:
    """The same values in another byte order."""
    width = struct.calcsize("=" + _UNIT[entry.type])
    if source == target or width == 1:
        return entry
    swapped = b"".join(entry.data[at : at + width][::-1] for at in range(0, len(entry.data), width))
    return replace(entry, data=swapped)


def extra_tag(tag: int, entry: Field, order: ByteOrder) -> tuple[int, int, int, Any, bool]:
    """A tag as tifffile takes it; of packed rationals it would count the numerators and denominators."""
    if entry.type not in _PAIRS:
        return tag, entry.type, entry.count, entry.data, True
    return tag, entry.type, entry.count, struct.unpack(f"{order}{2 * entry.count}{_UNIT[entry.type]}", entry.data), True


def serialise(tree: Directory, base: int, order: ByteOrder, big: bool = False) -> bytes:
    """The bytes of a directory and its sub-directories, to be put at offset `base` of a TIFF stream."""
    inline, word = (8, "Q") if big else (4, "I")
    fields = {tag: reordered(entry, tree.order, order) for tag, entry in tree.fields.items()}
    fields |= {tag: Field(IFD if not big else 18, 1, b"") for tag in tree.children}
    size = struct.calcsize(f"={'Q' if big else 'H'}") + len(fields) * (8 + 2 * inline - 4 if big else 12) + inline
    table = struct.pack(order + ("Q" if big else "H"), len(fields))
    tail = b""
    for tag in sorted(fields):
        entry = fields[tag]
        data, kind = entry.data, entry.type
        if tag in tree.children:
            place = base + size + len(tail)
            tail += even(serialise(tree.children[tag], place, order, big))
            data, kind = struct.pack(order + word, place), 18 if big else LONG
        elif len(data) > inline:
            place = base + size + len(tail)
            tail += even(relocated(data, entry.at, place) if tag == MAKER_NOTE and entry.at else data)
            data = struct.pack(order + word, place)
        table += struct.pack(order + "HH" + word, tag, kind, entry.count) + data.ljust(inline, b"\0")
    return table + bytes(inline) + tail


def with_children(data: bytes, children: dict[int, Directory]) -> bytes:
    """A TIFF stream and behind it its sub-directories, for which its first directory has tags that point nowhere."""
    start = header(data)
    if not children or start is None:
        return data
    (order, big, at), block = start, bytearray(data)
    inline, word, count = (8, "Q", "Q") if big else (4, "I", "H")
    first = at + struct.calcsize("=" + count)
    rows = struct.unpack_from(order + count, data, at)[0]
    for place in range(first, first + rows * (4 + 2 * inline), 4 + 2 * inline):
        tag = struct.unpack_from(order + "H", data, place)[0]
        if tag in children:
            block += bytes(len(block) % 2)
            struct.pack_into(order + "HH" + 2 * word, block, place, tag, IFD8 if big else LONG, 1, len(block))
            block += serialise(children[tag], len(block), order, big)
    return bytes(block)


def stream(tree: Directory) -> bytes:
    """A whole TIFF stream (an EXIF block) with nothing but this directory in it."""
    mark = b"II*\0" if tree.order == "<" else b"MM\0*"
    return mark + struct.pack(tree.order + "I", 8) + serialise(tree, 8, tree.order)


def even(data: bytes) -> bytes:
    """Padded to the even length that keeps what follows on a word boundary, as TIFF wants."""
    return data + bytes(len(data) % 2)
