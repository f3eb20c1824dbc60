"""Linear DNG: camera RGB, demosaiced and no more, with the tags by which a raw developer treats it as the raw itself.

Adobe's Digital Negative Specification, 1.6; written by tifffile, the sub-directories behind it by `ifd`.
"""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import Any

import numpy as np

from rngcli.errors import PictureError
from rngcli.images import ifd
from rngcli.images.ifd import Directory, Field
from rngcli.images.image import Image, WriteOptions
from rngcli.images.metadata import ORIENTATION
from rngcli.images.opcodes import for_planes

VERSION, LINEAR_RAW = 0xC612, 34892
_BACKWARD, _MODEL, _MATRIX, _NEUTRAL, _WHITE_XY, _ILLUMINANT = 0xC613, 0xC614, 0xC621, 0xC628, 0xC629, 0xC65A
_BLACK_LEVEL, _WHITE_LEVEL, _CROP_ORIGIN, _CROP_SIZE = 0xC61A, 0xC61D, 0xC61F, 0xC620
_PRIVATE, NOTE_SAFETY = 0xC634, 0xC635
_OPCODES_1, _OPCODES_2, _PATTERN = 0xC740, 0xC741, 0x828E  # of the sensor's samples: raw, and linear
MAKER_NOTE, _PHOTOMETRIC = 0x927C, 0x106
_ORIENTATION_OF_FLIP = {0: 1, 1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}  # LibRaw's code
# Of the camera: its name, matrices, white balance, exposure, and the profile in which it is to be developed.
_OF_THE_CAMERA = {
    _MODEL, 0xC615, *range(0xC621, 0xC62B), 0xC62C, 0xC62E, 0xC62F, 0xC630, 0xC633, _PRIVATE, 0xC65A, 0xC65B,
    0xC68B, 0xC6BF, 0xC6F3, 0xC6F4, 0xC6F6, *range(0xC6F8, 0xC6FF), 0xC714, 0xC715, 0xC725, 0xC726, 0xC7A3, 0xC7A4,
    0xC7A5, 0xC7A6, *range(0xCD2D, 0xCD3B),
}  # fmt: skip
_OF_THE_FRAME = {0xC61E, 0xC632, 0xC65C, 0xC74E, 0xC7B5}  # scales, antialiasing filter, corrections of the lens
_OF_THE_OWNER = {0xC62F, 0xC68B, _PRIVATE}  # serial number, the raw's name, maker note
_PEDESTAL = 128  # levels below black, for what is left of the noise there; LibRaw gets dark by as many
_FULL = 65535


def camera_tags(data: bytes, source: Directory, sensor: Directory | None, said: dict[str, Any]) -> Directory:
    """The tags of the camera for the DNG of a raw.

    `source` is the directory with its EXIF, `sensor` that of its samples, `said` LibRaw's answer. Raises PictureError
    where nobody knows the camera's colours.
    """
    page = ifd.parse(data)
    order = page.order if page else "<"
    fields: dict[int, Field] = {}
    if page and VERSION in page.fields:
        fields = {tag: page.fields[tag] for tag in _OF_THE_CAMERA & page.fields.keys()}
        fields |= {tag: sensor.fields[tag] for tag in _OF_THE_FRAME & sensor.fields.keys()} if sensor else {}
    if said["channels"] == 3 and _MATRIX not in fields:
        if not np.any(said["matrix"]):
            raise PictureError("LibRaw knows no colour matrix of this camera", "leave out --format dng")
        fields |= {_MATRIX: _rationals(order, np.ravel(said["matrix"])), _ILLUMINANT: ifd.short_field(order, 21)}
    if not fields.keys() & {_NEUTRAL, _WHITE_XY}:
        fields[_NEUTRAL] = _rationals(order, 1 / np.array(said["gains"][: said["channels"]]), ifd.RATIONAL)
    if opcodes := shading(sensor, said)[0]:
        fields[_OPCODES_2] = Field(ifd.UNDEFINED, len(opcodes), opcodes)
    if _MODEL not in fields:
        fields[_MODEL] = ifd.ascii_field(f"{source.text(0x10F)} {source.text(0x110)}".strip() or "unknown")
    note = source.children.get(ifd.EXIF_POINTER, source).fields.get(MAKER_NOTE)
    if note and _PRIVATE not in fields and not note_may_move(source):
        private = _adobe_maker_note(data, note, source.order)
        fields[_PRIVATE] = Field(ifd.BYTE, len(private), private)
    turn = page.number(ORIENTATION, 1) if page and VERSION in page.fields else _ORIENTATION_OF_FLIP.get(said["flip"], 1)
    fields[ORIENTATION] = ifd.short_field(order, turn)
    top, left, height, width = said["crop"]
    crop = {_CROP_ORIGIN: ifd.long_field(order, left, top), _CROP_SIZE: ifd.long_field(order, width, height)}
    return Directory(order, fields | crop)


def shading(sensor: Directory | None, said: dict[str, Any]) -> tuple[bytes, bool]:
    """Opcode list 2 of a raw for its linear DNG, and whether there are corrections that a DNG of it cannot hold."""
    left = sensor is not None and _OPCODES_1 in sensor.fields
    if sensor is None or _OPCODES_2 not in sensor.fields:
        return b"", left
    pattern = sensor.fields[_PATTERN].data if _PATTERN in sensor.fields else b""
    try:
        opcodes, lost = for_planes(sensor.fields[_OPCODES_2].data, pattern, said["height"], said["width"])
    except struct.error:
        return b"", True
    return opcodes if len(opcodes) > 4 else b"", left or lost > 0


def note_may_move(source: Directory) -> bool:
    """Whether the maker note says of itself that none of its offsets are of the file."""
    return source.number(NOTE_SAFETY) == 1


def _adobe_maker_note(data: bytes, note: Field, order: ifd.ByteOrder) -> bytes:
    """A maker note with its place in the old file, to which its offsets refer, as Adobe's converter keeps it."""
    mark = b"II" if order == "<" else b"MM"
    body = mark + struct.pack(">I", max(data.find(note.data), 0)) + note.data
    return b"Adobe\0MakN" + struct.pack(">I", len(body)) + body


def _rationals(order: ifd.ByteOrder, values: np.ndarray, kind: int = ifd.SIGNED_RATIONAL) -> Field:
    ratios = [Fraction(float(value)).limit_denominator(100000) for value in values]
    numbers = [part for ratio in ratios for part in (ratio.numerator, ratio.denominator)]
    unit = "I" if kind == ifd.RATIONAL else "i"
    return Field(kind, len(ratios), struct.pack(f"{order}{len(numbers)}{unit}", *numbers))


def encode(image: Image, options: WriteOptions) -> bytes:
    """A linear DNG of a raw that was read for it: pixels are camera RGB, black at 0 and the sensor's white at 1."""
    from tifffile import imwrite

    if image.camera is None:
        raise PictureError("only camera raw files become a DNG", "leave out --format dng")
    camera, order = image.camera, image.camera.order
    scale = (_FULL - _PEDESTAL) / max(1.0, float(image.pixels.max()))
    samples = np.rint(np.clip(image.pixels * scale + _PEDESTAL, 0, _FULL)).astype(np.uint16)
    samples = samples[..., 0] if image.grey else samples
    levels = 1 if image.grey else 3
    exif = ifd.parse(image.metadata.exif) or Directory(order)
    fields = {tag: ifd.reordered(entry, exif.order, order) for tag, entry in exif.fields.items()}
    left_out = _OF_THE_OWNER if options.strip_metadata else set()
    fields |= {tag: entry for tag, entry in camera.fields.items() if tag not in left_out}
    fields |= {
        VERSION: Field(ifd.BYTE, 4, bytes((1, 4, 0, 0))), _BACKWARD: Field(ifd.BYTE, 4, bytes((1, 3, 0, 0))),
        _BLACK_LEVEL: ifd.short_field(order, *[_PEDESTAL] * levels),
        _WHITE_LEVEL: ifd.short_field(order, *[round(_PEDESTAL + scale)] * levels),
    }  # fmt: skip
    if image.metadata.xmp:
        fields[0x2BC] = Field(ifd.BYTE, len(image.metadata.xmp), image.metadata.xmp)
    if image.metadata.iptc:
        fields[0x83BB] = Field(ifd.UNDEFINED, len(image.metadata.iptc), image.metadata.iptc)
    file = io.BytesIO()
    imwrite(
        file, samples, byteorder=order, photometric="minisblack" if image.grey else LINEAR_RAW,
        planarconfig=None if image.grey else "contig",
        metadata=None, software=False, subfiletype=0,
        extratags=[ifd.extra_tag(*item, order) for item in fields.items()],
    )  # fmt: skip
    return _completed(file.getvalue(), exif.children)


def _completed(data: bytes, children: dict[int, Directory]) -> bytes:
    """The file with its directory written anew, behind the samples: with what tifffile does not write.

    That is sub-directories, and linear raw of one channel.
    """
    tree = ifd.parse(data)
    if tree is None:
        raise ValueError("no directory")
    order, place = tree.order, len(data) + len(data) % 2
    fields = tree.fields | {_PHOTOMETRIC: ifd.short_field(order, LINEAR_RAW)}
    head = data[:4] + struct.pack(order + "I", place)
    return head + data[8:].ljust(place - 8, b"\0") + ifd.serialise(Directory(order, fields, children), place, order)
