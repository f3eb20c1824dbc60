"""JPEG: pixels through Pillow, segments by hand.

Pillow joins, drops or rewrites some of what stands in segments; read and written by hand, every profile, tag and
comment travels as it came.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageFile, JpegImagePlugin

from rngcli.errors import PictureError
from rngcli.images import ifd
from rngcli.images.metadata import Metadata, density, fitted, joined_resources, sane_density, split_resources
from rngcli.images.model import Encoding, Image, ReadOptions, WriteOptions, check_size, from_samples, to_samples

_EXIF, _XMP, _ICC, _IRB = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0", b"Photoshop 3.0\0"
_XMP_MORE = b"http://ns.adobe.com/xmp/extension/\0"
_APP1, _APP2, _APP13, _COMMENT = 0xE1, 0xE2, 0xED, 0xFE
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_ROOM = 65533  # bytes a segment holds
_NEW_QUALITY = 95


def decode(data: bytes, options: ReadOptions) -> Image:
    """A JPEG file as stored: 8 bit, RGB or grey."""
    picture = JpegImagePlugin.JpegImageFile(io.BytesIO(_bare(data)))
    check_size(*picture.size, options.max_pixels)
    if picture.mode not in ("L", "RGB"):
        raise PictureError(f"a {picture.mode} JPEG", "rng works in RGB: convert the picture first")
    picture.load()
    tables = tuple(tuple(table) for _, table in sorted(picture.quantization.items()))
    encoding = Encoding(tables, _subsampling(picture), progressive=bool(picture.info.get("progressive")))
    return Image(
        pixels=from_samples(np.asarray(picture)),
        format="jpeg",
        grey=picture.mode == "L",
        metadata=_metadata(data, picture.info.get("dpi")),
        encoding=encoding,
    )


def _subsampling(picture: JpegImagePlugin.JpegImageFile) -> int:
    known = JpegImagePlugin.get_sampling(picture)
    return known if known in (0, 1, 2) else 0  # what Pillow cannot write becomes 4:4:4, which loses nothing


def _bare(data: bytes) -> bytes:
    """The file without its metadata, of which Pillow would warn where it is damaged."""
    parts, after = [], 0
    for marker, start, end in _segments(data):
        if marker in (_APP1, _APP2, _APP13, _COMMENT):
            parts.append(data[after:start])
            after = end
    return b"".join([*parts, data[after:]])


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Each segment before the picture's data as (marker, start, end); its body starts four bytes after its start."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in (0xDA, 0xD9):
            return
        size = struct.unpack_from(">H", data, at + 2)[0]
        end = at + 2 + max(size, 2)
        yield marker, at, end
        at = end


def _metadata(data: bytes, dpi: tuple[float, float] | None) -> Metadata:
    exif = xmp = comment = resources = b""
    profile: dict[int, bytes] = {}
    xmp_more: list[bytes] = []
    for marker, start, end in _segments(data):
        body = data[start + 4 : end]
        if marker == _APP1 and body.startswith(_EXIF) and not exif:
            exif = body[len(_EXIF) :]
        elif marker == _APP1 and body.startswith(_XMP) and not xmp:
            xmp = body[len(_XMP) :]
        elif marker == _APP1 and body.startswith(_XMP_MORE):
            xmp_more.append(body)
        elif marker == _APP2 and body.startswith(_ICC) and len(body) > 14:
            profile[body[12]] = body[14:]
        elif marker == _APP13 and body.startswith(_IRB):
            resources += body[len(_IRB) :]
        elif marker == _COMMENT:
            comment = body
    iptc, photoshop = split_resources(resources)
    icc = b"".join(part for _, part in sorted(profile.items()))
    tree = ifd.parse(exif)
    known = sane_density(dpi) or (density(tree) if tree else None)
    return Metadata(exif, xmp, iptc, photoshop, icc, comment, known, xmp_more=tuple(xmp_more))


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height of a JPEG file by its frame header; (0, 0) where it has none before its data."""
    for marker, start, _ in _segments(data):
        if marker in _FRAMES and start + 9 <= len(data):
            height, width = struct.unpack_from(">HH", data, start + 5)
            return width, height
    return 0, 0


def exif_of(data: bytes) -> bytes:
    """The EXIF block of a JPEG file, or of the beginning of one; b'' where it has none."""
    return _metadata(data, None).exif


def encode(image: Image, options: WriteOptions) -> bytes:
    """A JPEG file in the tables and subsampling of the source, or at `options.quality`; at 95 without either."""
    if image.alpha is not None:
        raise PictureError("JPEG holds no transparency", "choose PNG, TIFF or WebP")
    if max(image.pixels.shape[:2]) > 65500:
        raise PictureError("JPEG holds no more than 65500 pixels a side", "choose PNG or TIFF")
    picture = Pillow.fromarray(to_samples(image.pixels, 8, image.grey))
    choices = {
        "optimize": True,
        "progressive": image.encoding.progressive,
        "dpi": image.metadata.dpi or (0, 0),
        "extra": _extra(image.metadata),
        **_compression(image, options.quality),
    }
    try:
        return _saved(picture, choices)
    except OSError:
        # Optimised tables need the whole file in one buffer; Pillow gives a byte a pixel, too little for noise.
        ImageFile.MAXBLOCK = max(ImageFile.MAXBLOCK, 6 * picture.width * picture.height + 2**16)
        return _saved(picture, choices)


def _saved(picture: Pillow.Image, choices: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", **choices)
    return file.getvalue()


def _compression(image: Image, quality: int | None) -> dict[str, object]:
    source = image.encoding
    subsampling = 0 if source.subsampling is None else source.subsampling
    sampling = {} if image.grey else {"subsampling": subsampling}
    if quality is None and source.tables:
        # A grey picture needs one table; a source with fewer tables than a colour picture uses repeats its last.
        return {"qtables": [list(table) for table in source.tables[: 1 if image.grey else 4]], **sampling}
    return {"quality": quality or _NEW_QUALITY, **sampling}


def _extra(metadata: Metadata) -> bytes:
    exif = fitted(metadata.exif, _ROOM - len(_EXIF))
    extra = _segment(_APP1, _EXIF + exif) if exif else b""
    if metadata.xmp and len(metadata.xmp) <= _ROOM - len(_XMP):
        extra += _segment(_APP1, _XMP + metadata.xmp)
        extra += b"".join(_segment(_APP1, body) for body in metadata.xmp_more)
    resources = joined_resources(metadata)
    extra += b"".join(_segment(_APP13, _IRB + part) for part in _parts(resources, _ROOM - len(_IRB)))
    profile = _parts(metadata.icc, _ROOM - len(_ICC) - 2)
    for number, part in enumerate(profile, 1):
        extra += _segment(_APP2, _ICC + bytes((number, len(profile))) + part)
    return extra + (_segment(_COMMENT, metadata.comment) if metadata.comment else b"")


def _parts(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
