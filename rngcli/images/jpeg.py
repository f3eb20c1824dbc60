"""JPEG: pixels through Pillow, segments by hand.

Pillow joins, drops or rewrites some of what stands in segments; read and written by hand, every profile, tag and
comment travels as it came.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageFile, JpegImagePlugin

from rngcli.errors import PictureError
from rngcli.images import ifd
from rngcli.images.image import Depth, Encoding, Image, ReadOptions, WriteOptions, check_size, from_samples, to_samples
from rngcli.images.jpeg_segments import (
    APP1,
    APP2,
    APP11,
    APP13,
    COMMENT,
    LOSSLESS,
    ROOM,
    behind,
    end_of,
    frame_of,
    segment,
    segments,
)
from rngcli.images.metadata import Metadata, aspect_of, density, joined_resources, sane_density, split_resources
from rngcli.images.xmp import MORE_MARK, in_pieces, without_companions

_EXIF, _XMP, _ICC, _IRB = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0", b"Photoshop 3.0\0"
_JFIF = b"JFIF\0"
_LEFT_OUT = {(APP11, b"JP"): "content credentials (C2PA)", (APP1, b"FLIR\0"): "thermal data (FLIR)"}
_NEW_QUALITY = 95
_PADDING = 2**16  # bytes


def decode(data: bytes, options: ReadOptions) -> Image:
    """A JPEG file as stored: RGB or grey, of 8 bit, or of 12 or more in the rare kinds of coding."""
    kind, bits, width, height = frame_of(data)
    if bits > 8 or kind == LOSSLESS:
        check_size(width, height, options.max_pixels)
        image = _rare(data, bits)
    else:
        image = _common(data, options)
    metadata = image.metadata
    found = {what for marker, start, end in segments(data) for (one, mark), what in _LEFT_OUT.items()
             if marker == one and data[start + 4 : end].startswith(mark)}  # fmt: skip
    pictures, other = behind(data)
    if pictures or other:
        found.add(f"{other} behind it" if other else f"{pictures} more behind it (gain map, depth, second view)")
        metadata = replace(metadata, xmp=without_companions(metadata.xmp))
    image = replace(image, metadata=metadata)
    return (
        image.noted(f"of the file only the picture is kept; left out: {', '.join(sorted(found))}") if found else image
    )


def _common(data: bytes, options: ReadOptions) -> Image:
    bare = _bare(data)
    picture = JpegImagePlugin.JpegImageFile(io.BytesIO(bare))
    check_size(*picture.size, options.max_pixels)
    if picture.mode not in ("L", "RGB"):
        raise PictureError(f"a {picture.mode} JPEG", "rng works in RGB: convert the picture first")
    unended = not end_of(bare)
    samples = _without_end(bare) if unended else np.asarray(picture)
    tables = tuple(tuple(table) for _, table in sorted(picture.quantization.items()))
    told = picture.info
    metadata = _metadata(data, told.get("dpi"))
    if told.get("jfif_unit") == 0:
        metadata = replace(metadata, aspect=aspect_of(*told["jfif_density"]))
    image = Image(
        pixels=from_samples(samples),
        format="jpeg",
        grey=picture.mode == "L",
        metadata=metadata,
        encoding=Encoding(tables, _subsampling(picture), progressive=bool(told.get("progressive"))),
    )
    return image.noted("the file ends without its end marker: the picture is whole") if unended else image


def _without_end(bare: bytes) -> np.ndarray:
    """The samples of a file that lacks its end marker and nothing else: whatever follows, the picture is the same."""
    bare = bare.rstrip(b"\xff")
    one, two = (
        np.asarray(JpegImagePlugin.JpegImageFile(io.BytesIO(bare + bytes([filler]) * _PADDING + b"\xff\xd9")))
        for filler in (0x55, 0x2B)
    )
    if not np.array_equal(one, two):
        raise PictureError("the JPEG ends too early", "it is truncated")
    return one


def _rare(data: bytes, bits: int) -> Image:
    """A JPEG of more than 8 bit, or a lossless one: Pillow reads neither."""
    from imagecodecs import jpeg8_decode

    samples = jpeg8_decode(data)
    if samples.ndim == 3 and samples.shape[2] != 3:
        raise PictureError(f"a JPEG of {samples.shape[2]} channels", "rng works in RGB: convert the picture first")
    depth: Depth = 8 if bits <= 8 else 12 if bits <= 12 else 16
    image = Image(from_samples(samples, bits), "jpeg", depth, grey=samples.ndim == 2, metadata=_metadata(data, None))
    return image.noted(f"a JPEG of {bits} bit: written as JPEG it has 8") if depth > 8 else image


def _subsampling(picture: JpegImagePlugin.JpegImageFile) -> int:
    known = JpegImagePlugin.get_sampling(picture)
    return known if known in (0, 1, 2) else 0  # what Pillow cannot write becomes 4:4:4, which loses nothing


def _bare(data: bytes) -> bytes:
    """The file without its metadata, of which Pillow would warn where it is damaged."""
    parts, after = [], 0
    for marker, start, end in segments(data):
        if marker in (APP1, APP2, APP13, COMMENT):
            parts.append(data[after:start])
            after = end
    return b"".join([*parts, data[after:]])


def _metadata(data: bytes, dpi: tuple[float, float] | None) -> Metadata:
    exif = xmp = comment = resources = b""
    profile: dict[int, bytes] = {}
    xmp_more: list[bytes] = []
    for marker, start, end in segments(data):
        body = data[start + 4 : end]
        if marker == APP1 and body.startswith(_EXIF) and not exif:
            exif = body[len(_EXIF) :]
        elif marker == APP1 and body.startswith(_XMP) and not xmp:
            xmp = body[len(_XMP) :]
        elif marker == APP1 and body.startswith(MORE_MARK):
            xmp_more.append(body)
        elif marker == APP2 and body.startswith(_ICC) and len(body) > 14:
            profile[body[12]] = body[14:]
        elif marker == APP13 and body.startswith(_IRB):
            resources += body[len(_IRB) :]
        elif marker == COMMENT:
            comment = body
    iptc, photoshop = split_resources(resources)
    icc = b"".join(part for _, part in sorted(profile.items()))
    tree = ifd.parse(exif)
    known = sane_density(dpi) or (density(tree) if tree else None)
    return Metadata(exif, xmp, iptc, photoshop, icc, comment, known, xmp_more=tuple(xmp_more))


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
        **_compression(image, options.quality),
    }
    aspect = None if image.metadata.dpi else image.metadata.aspect
    try:
        data = _saved(picture, choices)
    except OSError:
        # Optimised tables need the whole file in one buffer; Pillow gives a byte a pixel, too little for noise.
        ImageFile.MAXBLOCK = max(ImageFile.MAXBLOCK, 6 * picture.width * picture.height + 2**16)
        data = _saved(picture, choices)
    return _with_segments(_shaped(data, aspect), _extra(image.metadata))


def _with_segments(data: bytes, extra: bytes) -> bytes:
    """The file with more segments behind its first; Pillow would want room for them and the picture in one buffer."""
    _, _, at = next(segments(data))
    return data[:at] + extra + data[at:]


def _shaped(data: bytes, aspect: tuple[int, int] | None) -> bytes:
    """The file with the shape of its pixels in its JFIF header, which Pillow writes for a density only."""
    at = data.find(_JFIF, 0, 64) + len(_JFIF) + 2
    if not aspect or max(aspect) > 65535 or at < len(_JFIF) + 2:
        return data
    return data[:at] + struct.pack(">BHH", 0, *aspect) + data[at + 5 :]


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
    extra = segment(APP1, _EXIF + metadata.exif) if metadata.exif else b""
    xmp, more = metadata.xmp, metadata.xmp_more
    if len(xmp) > ROOM - len(_XMP):
        xmp, more = in_pieces(xmp, ROOM)
    if xmp:
        extra += segment(APP1, _XMP + xmp) + b"".join(segment(APP1, body) for body in more)
    resources = joined_resources(metadata)
    extra += b"".join(segment(APP13, _IRB + part) for part in _parts(resources, ROOM - len(_IRB)))
    profile = _parts(metadata.icc, ROOM - len(_ICC) - 2)
    for number, part in enumerate(profile, 1):
        extra += segment(APP2, _ICC + bytes((number, len(profile))) + part)
    return extra + (segment(COMMENT, metadata.comment) if metadata.comment else b"")


def _parts(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]
