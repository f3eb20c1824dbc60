"""TIFF and BigTIFF of 8 and 16 bit integers and of floats, in strips or tiles; written in strips.

Built on `ifd` rather than on a TIFF library, so that the camera's tags go out as they came in and a crafted file meets
limits before it meets a decoder.
"""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import numpy as np
from PIL import TiffImagePlugin

from rngcli.errors import PictureError
from rngcli.images import ifd, strips
from rngcli.images.ifd import Directory, Field
from rngcli.images.metadata import DENSITY_UNIT, X_DENSITY, Y_DENSITY, Metadata, density, split_resources
from rngcli.images.model import (
    Depth,
    Encoding,
    Image,
    ReadOptions,
    WriteOptions,
    alpha_samples,
    check_size,
    from_samples,
    to_samples,
)

_KIND, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS = 0xFE, 0x100, 0x101, 0x102, 0x103, 0x106, 0x111
_CHANNELS, _ROWS, _SIZES, _PLANAR = 0x115, 0x116, 0x117, 0x11C
_PREDICTOR, _PALETTE, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_SIZES = 0x13D, 0x140, 0x142, 0x143, 0x144, 0x145
_EXTRA, _FORMAT, _XMP, _IPTC, _PHOTOSHOP, _ICC, _LAYERS = 0x152, 0x153, 0x2BC, 0x83BB, 0x8649, 0x8773, 0x935C
_LAYOUT = {_KIND, 0xFF, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, 0x10A, _OFFSETS, _CHANNELS, _ROWS, _SIZES}
_LAYOUT |= {0x118, 0x119, _PLANAR, 0x120, 0x121, 0x122, 0x123, 0x12D, _PREDICTOR, 0x13E, 0x13F, _PALETTE, _TILE_WIDTH}
_LAYOUT |= {_TILE_HEIGHT, _TILES, _TILE_SIZES, 0x14A, _EXTRA, _FORMAT, 0x154, 0x155, 0x15B, 0x211, 0x212, 0x213, 0x214}
# Photoshop's layers would show the picture as it was before the denoising.
_NOT_EXIF = _LAYOUT | {_XMP, _IPTC, _PHOTOSHOP, _ICC, _LAYERS}
_CLASSIC_LIMIT = 2**32 - 2**25  # bytes of samples above which a file must be a BigTIFF


def decode(data: bytes, options: ReadOptions) -> Image:
    """A TIFF file of one picture as stored."""
    page = ifd.parse(data)
    if page is None or _WIDTH not in page.fields:
        raise PictureError("a TIFF without a picture in it", "the file is damaged")
    check_size(page.number(_WIDTH), page.number(_HEIGHT), options.max_pixels)
    thumbnails = _thumbnail_pages(data, page)
    photometric = page.number(_PHOTOMETRIC, 1)
    _check_kind(page, photometric)
    if page.number(_COMPRESSION, 1) == strips.JPEG:
        image = _image(_by_libtiff(data), page)
    else:
        image = _image(_colours(strips.unpacked(data, _layout(page)), page, photometric), page)
    if thumbnails:
        image = image.noted("the smaller versions on its further pages were left out")
    return image.noted("a palette picture: written as RGB") if photometric == 3 else image


def _thumbnail_pages(data: bytes, page: Directory) -> int:
    """How many further pages there are, all of them smaller versions of the first; other pages are refused."""
    seen: set[int] = set()
    offset = page.next
    while offset and offset not in seen:
        seen.add(offset)
        following = ifd.parse_at(data, offset)
        if following is None:
            break
        if not following.number(_KIND) & 1 and following.number(0xFF) != 2:
            raise PictureError("a TIFF of several pages", "split it into single pictures first")
        offset = following.next
    return len(seen)


def _check_kind(page: Directory, photometric: int) -> None:
    if photometric == 5:
        raise PictureError("a CMYK TIFF", "rng works in RGB: convert the picture first")
    if photometric not in (0, 1, 2, 3) and not (photometric == 6 and page.number(_COMPRESSION, 1) == strips.JPEG):
        names = {4: "a mask", 6: "YCbCr", 8: "CIELab", 9: "ICCLab", 10: "ITULab", 32803: "sensor data"}
        name = names.get(photometric, f"colour kind {photometric}")
        raise PictureError(f"a TIFF of {name}", "convert it to RGB first")


def _layout(page: Directory) -> strips.Layout:
    channels = page.number(_CHANNELS, 1)
    if channels - (3 if page.number(_PHOTOMETRIC, 1) == 2 else 1) not in (0, 1):
        raise PictureError(f"a TIFF of {channels} channels", "rng works on grey and RGB, with or without alpha")
    height, width = page.number(_HEIGHT), page.number(_WIDTH)
    tiled = _TILES in page.fields
    rows = min(page.number(_ROWS, height) or height, height)
    return strips.Layout(
        height=height,
        width=width,
        channels=channels,
        dtype=_dtype(page),
        segment=(page.number(_TILE_HEIGHT), page.number(_TILE_WIDTH)) if tiled else (rows, width),
        tiled=tiled,
        planar=page.number(_PLANAR, 1) == 2 and channels > 1,
        compression=page.number(_COMPRESSION, 1),
        predictor=page.number(_PREDICTOR, 1),
        offsets=tuple(map(int, page.numbers(_TILES if tiled else _OFFSETS))),
        sizes=tuple(map(int, page.numbers(_TILE_SIZES if tiled else _SIZES))),
    )


def _dtype(page: Directory) -> np.dtype:
    bits, kinds = set(page.numbers(_BITS) or (1,)), set(page.numbers(_FORMAT) or (1,))
    codes = {(8, 1): "u1", (16, 1): "u2", (16, 3): "f2", (32, 3): "f4"}
    for (bit, kind), code in codes.items():
        if bits == {bit} and kinds == {kind}:
            return np.dtype(page.order + code)
    found = "/".join(f"{bit:g}" for bit in sorted(bits))
    what = {1: "unsigned integers", 2: "signed integers", 3: "floats"}.get(page.number(_FORMAT, 1), "unknown samples")
    raise PictureError(f"a TIFF of {found} bit {what}", "rng reads integers of 8 and 16 bit, floats of 16 and 32")


def _by_libtiff(data: bytes) -> np.ndarray:
    picture = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
    if picture.mode not in ("L", "RGB"):
        raise PictureError(f"a {picture.mode} TIFF with JPEG compression", "convert it to RGB first")
    picture.load()
    return np.atleast_3d(np.asarray(picture))


def _colours(samples: np.ndarray, page: Directory, photometric: int) -> np.ndarray:
    if photometric == 0:
        full = 1 if samples.dtype.kind == "f" else np.iinfo(samples.dtype).max
        samples[..., 0] = full - samples[..., 0]
    if photometric != 3:
        return samples
    palette = np.array(page.numbers(_PALETTE), np.float64)
    if samples.dtype != np.uint8 or palette.size != 3 * 256 or samples.shape[2] != 1:
        raise PictureError("a palette TIFF without a palette of 256 colours", "convert it to RGB first")
    return (palette.reshape(3, 256).T // 256).astype(np.uint8)[samples[..., 0]]


def _image(samples: np.ndarray, page: Directory) -> Image:
    if samples.dtype == np.float16:
        samples = samples.astype(np.float32)
    channels = samples.shape[2]
    depth: Depth = 8 if samples.dtype == np.uint8 else 16 if samples.dtype == np.uint16 else 32
    return Image(
        pixels=from_samples(samples[..., 0] if channels < 3 else samples[..., :3]),
        format="tiff",
        depth=depth,
        grey=channels < 3,
        alpha=np.ascontiguousarray(samples[..., -1]) if channels in (2, 4) else None,
        premultiplied=page.number(_EXTRA) == 1,
        metadata=_metadata(page),
        encoding=Encoding(uncompressed=page.number(_COMPRESSION, 1) == strips.NONE),
    )


def _metadata(page: Directory) -> Metadata:
    def block(tag: int) -> bytes:
        return page.fields[tag].data if tag in page.fields else b""

    # Types from 16 on exist in BigTIFF only.
    fields = {tag: entry for tag, entry in page.fields.items() if tag not in _NOT_EXIF and entry.type < 16}
    exif = ifd.stream(replace(page, fields=fields)) if fields or page.children else b""
    iptc, photoshop = split_resources(block(_PHOTOSHOP))
    return Metadata(exif, block(_XMP), block(_IPTC) or iptc, photoshop, block(_ICC), dpi=density(page))


def encode(image: Image, options: WriteOptions) -> bytes:
    """A TIFF file of the depth of the picture, deflated unless its source was not; a BigTIFF above 4 GiB."""
    samples = np.atleast_3d(to_samples(image.pixels, image.depth, image.grey))
    if image.alpha is not None:
        samples = np.dstack([samples, alpha_samples(image.alpha, image.depth)])
    source = ifd.parse(image.metadata.exif) or Directory()
    order, big = source.order, samples.nbytes > _CLASSIC_LIMIT
    head = 16 if big else 8
    body = list(strips.packed(samples, order, compress=not image.encoding.uncompressed))
    sizes = [len(strip) for strip in body]
    offsets = [head + sum_before for sum_before in np.cumsum([0, *sizes]).tolist()]
    fields = {tag: entry for tag, entry in source.fields.items() if tag not in _NOT_EXIF}
    fields |= _blocks(image.metadata) | _structure(image, samples, order)
    fields |= {_OFFSETS: ifd.long_field(order, *offsets[:-1]), _SIZES: ifd.long_field(order, *sizes)}
    place = offsets[-1] + offsets[-1] % 2
    end = ifd.serialise(replace(source, fields=fields), place, order, big)
    return b"".join([_header(order, big, place), *body, bytes(place - offsets[-1]), end])


def _header(order: ifd.ByteOrder, big: bool, place: int) -> bytes:
    mark = b"II" if order == "<" else b"MM"
    return mark + (struct.pack(order + "HHHQ", 43, 8, 0, place) if big else struct.pack(order + "HI", 42, place))


def _structure(image: Image, samples: np.ndarray, order: ifd.ByteOrder) -> dict[int, Field]:
    height, width, channels = samples.shape
    compressed = not image.encoding.uncompressed
    shorts = {
        _BITS: (image.depth,) * channels,
        _COMPRESSION: (strips.DEFLATE if compressed else strips.NONE,),
        _PHOTOMETRIC: (1 if image.grey else 2,),
        _CHANNELS: (channels,),
        _PLANAR: (1,),
        _FORMAT: (3 if image.depth == 32 else 1,) * channels,
    }
    if compressed and image.depth != 32:
        shorts[_PREDICTOR] = (2,)
    if image.alpha is not None:
        shorts[_EXTRA] = (1 if image.premultiplied else 2,)
    longs = {_KIND: 0, _WIDTH: width, _HEIGHT: height, _ROWS: min(strips.rows_per_strip(samples), height)}
    fields = {tag: ifd.short_field(order, *values) for tag, values in shorts.items()}
    return fields | {tag: ifd.long_field(order, value) for tag, value in longs.items()} | _resolution(image, order)


def _resolution(image: Image, order: ifd.ByteOrder) -> dict[int, Field]:
    if not image.metadata.dpi:
        return {}
    across, down = (struct.pack(order + "II", round(value * 10000), 10000) for value in image.metadata.dpi)
    return {
        X_DENSITY: Field(ifd.RATIONAL, 1, across),
        Y_DENSITY: Field(ifd.RATIONAL, 1, down),
        DENSITY_UNIT: ifd.short_field(order, 2),
    }


def _blocks(metadata: Metadata) -> dict[int, Field]:
    blocks = {_XMP: (ifd.BYTE, metadata.xmp), _IPTC: (ifd.UNDEFINED, metadata.iptc)}
    # IPTC has a tag of its own here, and a second copy among the resources would be one too many.
    blocks |= {_PHOTOSHOP: (ifd.BYTE, metadata.photoshop), _ICC: (ifd.UNDEFINED, metadata.icc)}
    return {tag: Field(kind, len(data), data) for tag, (kind, data) in blocks.items() if data}
