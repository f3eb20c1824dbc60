"""Camera raw: developed by LibRaw in a process of its own, with the camera's tags put together for a TIFF or DNG."""

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
from rngcli.images.dng import LINEAR_RAW, MAKER_NOTE, NOTE_SAFETY, VERSION, camera_tags, note_may_move, shading
from rngcli.images.ifd import Bytes, Directory, Field
from rngcli.images.image import Image, ReadOptions, check_size, from_samples
from rngcli.images.metadata import ORIENTATION, Metadata, split_resources
from rngcli.images.profiles import GREY_PROFILES, PROFILES
from rngcli.images.tone import ToneMap
from rngcli.images.xmp import of_the_photograph

_MAGICS = (b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")
_CIFF = b"HEAPCCDR"  # Canon's CRW, from its seventh byte on
_SUBFILE, _SUB_DIRECTORIES, _PHOTOMETRIC, _COMPRESSION = 0xFE, 0x14A, 0x106, 0x103
_XMP, _IPTC, _PHOTOSHOP, _IPTC_MARK = 0x2BC, 0x83BB, 0x8649, b"\x1c"
_SENSOR_DATA = (32803, LINEAR_RAW)  # the first is a colour filter array
_FINISHED = (0, 1, 2, 3, 5, 6, 8)  # grey, RGB, palette, CMYK, YCbCr, Lab
_PACKINGS = {9: "VC-5", 34892: "lossy JPEG", 52546: "JPEG XL"}
_MAKE, _MODEL, _DATE, _ARTIST = 0x10F, 0x110, 0x132, 0x13B
_KEPT = {0x10E, _MAKE, _MODEL, _DATE, _ARTIST, 0x8298}  # and the description and the copyright
_EXPOSURE, _APERTURE, _ISO, _TAKEN, _FOCAL, _LENS_MAKE, _LENS = 0x829A, 0x829D, 0x8827, 0x9003, 0x920A, 0xA433, 0xA434
_COLOUR_SPACE, _SRGB, _UNCALIBRATED = 0xA001, 1, 0xFFFF
_NOT_OF_THE_PICTURE = {MAKER_NOTE, _COLOUR_SPACE, 0xA002, 0xA003, 0xA302}  # maker note, sizes, sensor pattern
_LARGEST_FIELD = 4096
_PATIENCE = 180  # seconds for one raw file
_REMEDY = "convert the raw file to DNG or TIFF first"
_REMEDY_DNG = "develop it with a raw converter and give rng the TIFF"
_DARKEST = 1 / 64  # the least light that is made white: six stops
_BLACK, _BLACK_LIGHT = 1884, 0.0022  # 16-bit levels of sRGB's curve, and the same in light


def is_raw(data: Bytes) -> bool:
    """Whether a file is a camera raw, by its content; a finished TIFF may carry the tags of the DNG it was made of."""
    if data[:16].startswith(_MAGICS) or data[6:14] == _CIFF or data[4:11] == b"ftypcrx":
        return True
    page = ifd.parse(data)
    if page is None:
        return False
    pages = _pages(data, page)
    thumbnail_first = page.number(_SUBFILE) & 1 == 1 and (len(pages) > 1 or VERSION in page.fields)
    unfinished = VERSION in page.fields and page.number(_PHOTOMETRIC, -1) not in _FINISHED
    sensor = any(part.number(_PHOTOMETRIC) in _SENSOR_DATA for part in pages)
    return sensor or thumbnail_first or unfinished or data[8:10] == b"CR"


def _pages(data: Bytes, page: Directory) -> list[Directory]:
    return [page, *filter(None, (ifd.parse_at(data, int(at)) for at in page.numbers(_SUB_DIRECTORIES)[:16]))]


def _sensor_page(data: bytes) -> Directory | None:
    """The directory of the sensor's samples in full size; None in raws of other structures."""
    page = ifd.parse(data)
    pages = [part for part in _pages(data, page) if part.number(_PHOTOMETRIC) in _SENSOR_DATA] if page else []
    return next((part for part in pages if part.number(_SUBFILE) & 1 == 0), None)


def decode(data: bytes, options: ReadOptions) -> Image:
    """A raw file as a developed picture: 16 bit, in `options.raw_space`, upright, to be written as TIFF.

    With `options.raw_linear`, as linear camera RGB, black at 0 and the sensor's white at 1, to be written as DNG.
    """
    said, packed = _develop(data, options)
    remedy = _REMEDY_DNG if _is_dng(data) else _REMEDY
    if "error" in said:
        raise PictureError(_refusal(data, said["error"]), remedy)
    check_size(said["width"], said["height"], options.max_pixels)
    shape = said["height"], said["width"], said["channels"]
    samples = np.frombuffer(packed, np.uint16)
    if samples.size != shape[0] * shape[1] * shape[2] or shape[2] not in (1, 3):
        raise PictureError("LibRaw gave an unfinished picture", remedy)
    if samples.max() < _BLACK or said.get("high", 1) < _BLACK_LIGHT:
        raise PictureError("LibRaw makes a black picture of this raw file", remedy)
    image = (_linear if options.raw_linear else _finished)(data, options, said, samples.reshape(shape))
    if not said["hot"]:
        return image
    return image.noted(f"{said['hot']} hot or dead pixels replaced; --keep-hot-pixels leaves them")


def _is_dng(data: bytes) -> bool:
    page = ifd.parse(data)
    return page is not None and VERSION in page.fields


def _refusal(data: bytes, error: str) -> str:
    sensor = _sensor_page(data)
    packing = _PACKINGS.get(sensor.number(_COMPRESSION)) if sensor and _is_dng(data) else None
    if packing:
        return f"a DNG with {packing} data, which LibRaw {rawpy_version()} does not read ({error})"
    return f"LibRaw cannot read this raw file ({error})"


def rawpy_version() -> str:
    """LibRaw's, of which rawpy is the binding."""
    import rawpy

    return ".".join(map(str, rawpy.libraw_version))


def _finished(data: bytes, options: ReadOptions, said: dict[str, Any], samples: np.ndarray) -> Image:
    grey = said["channels"] == 1
    space = _SRGB if options.raw_space == "srgb" else _UNCALIBRATED
    metadata = replace(_metadata(data, said, space), icc=(GREY_PROFILES if grey else PROFILES)[options.raw_space])
    pixels = from_samples(samples[..., 0] if grey else samples)
    return Image(pixels, "tiff", depth=16, grey=grey, metadata=metadata)


def _linear(data: bytes, options: ReadOptions, said: dict[str, Any], samples: np.ndarray) -> Image:
    grey, sensor, gains = said["channels"] == 1, _sensor_page(data), said["gains"]
    light = from_samples(samples[..., 0] if grey else samples) * np.float32(said["high"] - said["low"])
    balanced = light + np.float32(said["low"])
    pixels, white = balanced / np.array(gains, np.float32), _white(balanced)
    source = _source(data, said)
    image = Image(
        pixels, "dng", 16, grey, metadata=_metadata_for_dng(data, source),
        tone=ToneMap.of_light(tuple(white / gain for gain in gains)), camera=camera_tags(data, source, sensor, said),
    )  # fmt: skip
    if shading(sensor, said)[1]:
        return image.noted("a linear DNG has no place for some corrections of its sensor (opcode lists 1, 2): left out")
    return image


def _white(balanced: np.ndarray) -> float:
    """The light (H, W, C) that is to be white for the networks: less than the sensor's, 1, of an exposure in the dark.

    A DNG is for somebody who may lift it by some stops; so what is seen then must be what the networks see. Twice the
    light that one pixel in a hundred exceeds, which leaves pictures that are exposed well as they are.
    """
    return float(np.clip(2 * np.quantile(balanced[::4, ::4], 0.99), _DARKEST, 1))


def _develop(data: bytes, options: ReadOptions) -> tuple[dict[str, Any], memoryview]:
    wanted = {"max_pixels": options.max_pixels, "bright": options.raw_bright, "space": options.raw_space}
    wanted |= {"linear": options.raw_linear, "keep_hot_pixels": options.keep_hot_pixels}
    command = [sys.executable, "-m", "rngcli.images.libraw", json.dumps(wanted)]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise PictureError(f"LibRaw has not finished after {_PATIENCE} s", _REMEDY) from None
    line, _, _ = done.stdout.partition(b"\n")
    if done.returncode or not line:
        raise PictureError(f"LibRaw died of this raw file (status {done.returncode})", _REMEDY)
    return json.loads(line), memoryview(done.stdout)[len(line) + 1 :]


def _source(data: bytes, said: dict[str, Any]) -> Directory:
    """The directory that holds the camera's tags: of the raw itself, else of its thumbnail, else made of LibRaw's."""
    page = ifd.parse(data)
    if page is not None and _MAKE in page.fields:
        return page
    return ifd.parse(jpeg.exif_of(bytes.fromhex(said["thumbnail"]))) or _from_libraw(data, said["exposure"])


def _metadata(data: bytes, said: dict[str, Any], colour_space: int) -> Metadata:
    page, source = ifd.parse(data), _source(data, said)
    order = source.order
    fields = _shot(source)
    # The developed picture is upright and in the space of its profile, whatever the camera wrote of its own.
    fields[ORIENTATION] = ifd.short_field(order, 1)
    camera = source.children.get(ifd.EXIF_POINTER, Directory(order))
    taken = {tag: entry for tag, entry in camera.fields.items()
             if tag not in _NOT_OF_THE_PICTURE and len(entry.data) <= _LARGEST_FIELD}  # fmt: skip
    taken[_COLOUR_SPACE] = ifd.short_field(order, colour_space)
    children = {ifd.EXIF_POINTER: Directory(order, taken)} | _place(source)
    exif = ifd.stream(Directory(order, fields, children))
    return replace(_words(page), exif=exif) if page else Metadata(exif)


def _metadata_for_dng(data: bytes, source: Directory) -> Metadata:
    """All that the raw carries, which is still true: its pixels were not developed. But a maker note may not move."""
    order, page = source.order, ifd.parse(data)
    fields = _shot(source)
    camera = source.children.get(ifd.EXIF_POINTER, Directory(order))
    left_out = set() if note_may_move(source) else {MAKER_NOTE}
    taken = {tag: entry for tag, entry in camera.fields.items() if tag not in left_out}
    if MAKER_NOTE in taken:
        fields[NOTE_SAFETY] = source.fields[NOTE_SAFETY]
    exif = ifd.stream(Directory(order, fields, {ifd.EXIF_POINTER: Directory(order, taken)} | _place(source)))
    words = _words(page) if page else Metadata()
    xmp = page.fields[_XMP].data if page and _XMP in page.fields else b""
    return replace(words, exif=exif, xmp=xmp)


def _shot(source: Directory) -> dict[int, Field]:
    return {tag: entry for tag, entry in source.fields.items() if tag in _KEPT and entry.data.strip(b"\0 ")}


def _place(source: Directory) -> dict[int, Directory]:
    place = source.children.get(ifd.GPS_POINTER)
    return {ifd.GPS_POINTER: replace(place, children={})} if place else {}


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
