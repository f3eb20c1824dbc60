"""Camera raw: developed by LibRaw in a process of its own, with the camera's tags put together for a 16-bit TIFF."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from struct import pack
from typing import Any

import numpy as np

from rngcli.errors import PictureError
from rngcli.images import ifd, jpeg
from rngcli.images.ifd import Directory, Field
from rngcli.images.metadata import ORIENTATION, Metadata, split_resources
from rngcli.images.model import Image, ReadOptions, check_size, from_samples
from rngcli.images.profiles import PROFILES
from rngcli.images.xmp import of_the_photograph

_MAGICS = (b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")
_CIFF = b"HEAPCCDR"  # Canon's CRW, from its seventh byte on
_DNG_VERSION, _SUBFILE, _SUB_DIRECTORIES, _PHOTOMETRIC = 0xC612, 0xFE, 0x14A, 0x106
_XMP, _IPTC, _PHOTOSHOP, _IPTC_MARK = 0x2BC, 0x83BB, 0x8649, b"\x1c"
_SENSOR_DATA = (32803, 34892)  # colour filter array, linear raw
_MAKE, _MODEL, _DATE, _ARTIST = 0x10F, 0x110, 0x132, 0x13B
_KEPT = {0x10E, _MAKE, _MODEL, _DATE, _ARTIST, 0x8298}  # and the description and the copyright
_EXPOSURE, _APERTURE, _ISO, _TAKEN, _FOCAL, _LENS_MAKE, _LENS = 0x829A, 0x829D, 0x8827, 0x9003, 0x920A, 0xA433, 0xA434
_COLOUR_SPACE, _SRGB, _UNCALIBRATED = 0xA001, 1, 0xFFFF
_NOT_OF_THE_PICTURE = {0x927C, _COLOUR_SPACE, 0xA002, 0xA003, 0xA302}  # maker note, sizes, sensor pattern
_LARGEST_FIELD = 4096
_PATIENCE = 180  # seconds for one raw file
_REMEDY = "convert the raw file to DNG or TIFF first"
_BLACK = 1884  # 16-bit levels: one percent of BT.709's curve, 0.2 % of the light


def is_raw(data: bytes) -> bool:
    """Whether a file is a camera raw, by its content."""
    if data.startswith(_MAGICS) or data[6:14] == _CIFF or data[4:11] == b"ftypcrx":
        return True
    page = ifd.parse(data)
    if page is None:
        return False
    pages = [page, *filter(None, (ifd.parse_at(data, int(at)) for at in page.numbers(_SUB_DIRECTORIES)[:16]))]
    sensor = any(part.number(_PHOTOMETRIC) in _SENSOR_DATA for part in pages)
    thumbnail_first = len(pages) > 1 and page.number(_SUBFILE) & 1 == 1
    return _DNG_VERSION in page.fields or sensor or thumbnail_first or data[8:10] == b"CR"


def decode(data: bytes, options: ReadOptions) -> Image:
    """A raw file as a developed picture: 16 bit, in `options.raw_space`, upright, to be written as TIFF."""
    said, packed = _develop(data, options)
    if "error" in said:
        raise PictureError(f"LibRaw cannot read this raw file ({said['error']})", _REMEDY)
    check_size(said["width"], said["height"], options.max_pixels)
    samples = np.frombuffer(packed, np.uint16)
    if samples.size != said["width"] * said["height"] * 3:
        raise PictureError("LibRaw gave an unfinished picture", _REMEDY)
    if samples.max() < _BLACK:
        raise PictureError("LibRaw makes a black picture of this raw file", _REMEDY)
    pixels = from_samples(samples.reshape(said["height"], said["width"], 3))
    colour_space = _SRGB if options.raw_space == "srgb" else _UNCALIBRATED
    metadata = replace(_metadata(data, said, colour_space), icc=PROFILES[options.raw_space])
    return Image(pixels, "tiff", depth=16, metadata=metadata)


def _develop(data: bytes, options: ReadOptions) -> tuple[dict[str, Any], memoryview]:
    wanted = {"max_pixels": options.max_pixels, "bright": options.raw_bright, "space": options.raw_space}
    command = [sys.executable, "-m", "rngcli.images.libraw", json.dumps(wanted)]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise PictureError(f"LibRaw has not finished after {_PATIENCE} s", _REMEDY) from None
    line, _, _ = done.stdout.partition(b"\n")
    if done.returncode or not line:
        raise PictureError(f"LibRaw died of this raw file (status {done.returncode})", _REMEDY)
    return json.loads(line), memoryview(done.stdout)[len(line) + 1 :]


def _metadata(data: bytes, said: dict[str, Any], colour_space: int) -> Metadata:
    page = source = ifd.parse(data)
    if source is None or _MAKE not in source.fields:
        source = ifd.parse(jpeg.exif_of(bytes.fromhex(said["thumbnail"]))) or _from_libraw(data, said["exposure"])
    order = source.order
    fields = {tag: entry for tag, entry in source.fields.items() if tag in _KEPT and entry.data.strip(b"\0 ")}
    # The developed picture is upright and in the space of its profile, whatever the camera wrote of its own.
    fields[ORIENTATION] = ifd.short_field(order, 1)
    camera = source.children.get(ifd.EXIF_POINTER, Directory(order))
    taken = {tag: entry for tag, entry in camera.fields.items()
             if tag not in _NOT_OF_THE_PICTURE and len(entry.data) <= _LARGEST_FIELD}  # fmt: skip
    taken[_COLOUR_SPACE] = ifd.short_field(order, colour_space)
    children = {ifd.EXIF_POINTER: Directory(order, taken)}
    if ifd.GPS_POINTER in source.children:
        children[ifd.GPS_POINTER] = replace(source.children[ifd.GPS_POINTER], children={})
    exif = ifd.stream(Directory(order, fields, children))
    return replace(_words(page), exif=exif) if page else Metadata(exif)


def _words(page: Directory) -> Metadata:
    """What people have written into a raw: IPTC as it is, and XMP without develop settings, which are now spent."""
    xmp, iptc, photoshop = (page.fields[tag].data if tag in page.fields else b"" for tag in (_XMP, _IPTC, _PHOTOSHOP))
    iptc = iptc or split_resources(photoshop)[0]
    return Metadata(xmp=of_the_photograph(xmp), iptc=iptc if iptc.startswith(_IPTC_MARK) else b"")


def _from_libraw(data: bytes, exposure: dict[str, Any]) -> Directory:
    """The tags of a raw that has no EXIF, from what LibRaw found; Canon's CRW spells maker and model in plain text."""
    fields: dict[int, Field] = {}
    camera: dict[int, Field] = {}
    names = re.search(rb"(Canon)\0(Canon [ -~]{1,40})\0", data) if data[6:14] == _CIFF else None
    if names:
        fields = {_MAKE: ifd.ascii_field(names[1].decode()), _MODEL: ifd.ascii_field(names[2].decode())}
    if "timestamp" in exposure:
        fields[_DATE] = camera[_TAKEN] = ifd.ascii_field(exposure["timestamp"])
    if "artist" in exposure:
        fields[_ARTIST] = ifd.ascii_field(exposure["artist"])
    for tag, name in ((_LENS_MAKE, "lens_make"), (_LENS, "lens_model")):
        if name in exposure:
            camera[tag] = ifd.ascii_field(exposure[name])
    for tag, name in ((_EXPOSURE, "shutter_speed"), (_APERTURE, "aperture"), (_FOCAL, "focal_length")):
        if name in exposure:
            camera[tag] = _rational(exposure[name])
    if "iso_speed" in exposure:
        camera[_ISO] = ifd.short_field("<", min(65535, round(exposure["iso_speed"])))
    return Directory("<", fields, {ifd.EXIF_POINTER: Directory("<", camera)})


def _rational(value: float) -> Field:
    # Cameras mean 1/200 s and f/5.6, not the float next to them.
    ratio = 1 / Fraction(1 / value).limit_denominator(10) if value < 0.3 else Fraction(value).limit_denominator(10)
    return Field(ifd.RATIONAL, 1, pack("<II", ratio.numerator, ratio.denominator))
