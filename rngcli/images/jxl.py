"""JPEG XL by imagecodecs, with EXIF and XMP in the boxes around its codestream.

The codestream's own header is read here, since imagecodecs tells nothing of it but the pixels: sizes must be known
before a decoder runs, and colours before they mean anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from rngcli.errors import PictureError
from rngcli.images.boxes import box, boxes
from rngcli.images.chromaticity import BT709, BT709_CURVE, BT2020, D65, P3, corners_of, icc_of, srgb_by_tables, to_srgb
from rngcli.images.exif import bare
from rngcli.images.image import (
    Encoding,
    Image,
    ReadOptions,
    WriteOptions,
    alpha_samples,
    check_size,
    from_samples,
    stretched,
    to_samples,
)
from rngcli.images.jxl_header import HLG, PQ, SRGB, Colours, read_header, write_header
from rngcli.images.metadata import Metadata, upright
from rngcli.images.spaces import SRGB_CURVE, Curve, space_of

CODESTREAM, CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a"
_BRAND = box(b"ftyp", b"jxl \0\0\0\0jxl ")
_LARGEST_PACKED = 2**22  # bytes of unpacked metadata
_NEW_QUALITY = 92
_HEAD = 4096  # bytes of a codestream in which its header lies, but for a profile
_CURVES = {1: BT709_CURVE, 8: Curve(), SRGB: SRGB_CURVE, 17: Curve(2.6)}  # by number of ITU-T H.273
_BAND = 256  # rows that are converted at once


def decode(data: bytes, options: ReadOptions) -> Image:
    """A JPEG XL file, upright: its decoder turns it, and its own orientation outranks that of EXIF."""
    from imagecodecs import jpegxl_decode

    header = read_header(_codestream(data)[:_HEAD])
    check_size(header.width, header.height, options.max_pixels)
    if header.animated:
        raise PictureError("an animated JPEG XL", "rng works on single pictures")
    if header.profiled:
        cause = "a JPEG XL with an ICC profile in its codestream, which its decoder does not hand out"
        raise PictureError(cause, "convert it to PNG first: djxl a.jxl a.png")
    samples = np.atleast_3d(jpegxl_decode(data, keeporientation=False))
    grey = header.colours.grey
    colours = 1 if grey else 3
    if samples.ndim != 3 or samples.shape[2] < colours:
        raise PictureError("a JPEG XL of several pictures", "rng works on single pictures")
    samples = samples.astype(np.float32) if samples.dtype == np.float16 else samples
    bits = 32 if header.floats else header.bits
    alpha = np.ascontiguousarray(samples[..., colours]) if header.alpha and samples.shape[2] > colours else None
    return Image(
        pixels=from_samples(samples[..., 0] if grey else samples[..., :3], bits),
        format="jxl",
        depth=32 if header.floats else next((d for d in (8, 10, 12) if d >= bits), 16),
        grey=grey,
        alpha=None if alpha is None else stretched(alpha, bits),
        premultiplied=header.premultiplied,
        metadata=replace(upright(_metadata(data)), **_colour_blocks(header.colours)),
        encoding=Encoding(lossless=header.lossless and b"jbrd" not in {kind for kind, _, _ in boxes(data)}),
    )


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height of a JPEG XL file by its header."""
    header = read_header(_codestream(data)[:_HEAD])
    return header.width, header.height


def _codestream(data: bytes) -> bytes:
    if data.startswith(CODESTREAM):
        return data
    parts = [(kind, data[a:b]) for kind, a, b in boxes(data) if kind in (b"jxlc", b"jxlp")]
    stream = b"".join(body if kind == b"jxlc" else body[4:] for kind, body in parts)  # jxlp: a number first
    if not stream.startswith(CODESTREAM):
        raise PictureError("a JPEG XL without a picture in it", "the file is damaged or truncated")
    return stream


def _colour_blocks(colours: Colours) -> dict[str, Any]:
    """What says the same of the colours in other formats: a profile, codes for HDR, nothing for sRGB."""
    if colours.transfer in (PQ, HLG):
        numbers = {BT709: 1, BT2020: 9, P3: 12}.get(colours.primaries, 2), colours.transfer
        return {"colour": ((b"cICP", bytes((*map(int, numbers), 0, 1))),)}
    exponent = colours.transfer if isinstance(colours.transfer, float) else 0
    curve = Curve(exponent) if exponent else _CURVES.get(int(colours.transfer), SRGB_CURVE)
    return {"icc": icc_of(colours.white, colours.primaries, curve, colours.grey)}


def _metadata(data: bytes) -> Metadata:
    exif = xmp = b""
    for kind, start, end in boxes(data) if data.startswith(CONTAINER) else ():
        body = data[start:end]
        if kind == b"brob":
            kind, body = body[:4], _unpacked(body[4:])
        if kind == b"Exif" and not exif:
            exif = bare(body[4 + int.from_bytes(body[:4], "big") :])
        elif kind == b"xml " and not xmp:
            xmp = body
    return Metadata(exif=exif, xmp=xmp)


def _unpacked(packed: bytes) -> bytes:
    from imagecodecs import BrotliError, brotli_decode

    try:
        return bytes(brotli_decode(packed, out=_LARGEST_PACKED))
    except BrotliError:
        return b""


def encode(image: Image, options: WriteOptions) -> bytes:
    """A JPEG XL file: lossless where the source was and no quality is asked for, or HDR; else at `quality` or 92."""
    from imagecodecs import jpegxl_encode

    colours, pixels = _labelled(image)
    lossless = (image.encoding.lossless and options.quality is None) or colours.transfer in (PQ, HLG)
    depth = image.depth
    if not lossless:
        # As the linear sRGB that imagecodecs will call it, in floats, since colours beyond sRGB are negative there.
        pixels, depth = _linear_srgb(pixels, colours), 32
    samples = to_samples(pixels, depth, image.grey)
    if image.alpha is not None:
        samples = np.dstack([samples, alpha_samples(image.alpha, depth)])
    distance = None if lossless else _distance(options.quality or _NEW_QUALITY)
    bits = depth if depth in (10, 12) else None
    data = bytes(jpegxl_encode(samples, lossless=lossless, distance=distance, bitspersample=bits))
    stream = _codestream(data)
    header = read_header(stream)
    rest = stream[header.end :]
    header = replace(header, colours=colours, bits=image.depth, floats=image.depth == 32)
    head = write_header(replace(header, premultiplied=image.premultiplied))
    return _contained(head + rest, data, upright(image.metadata))


def _labelled(image: Image) -> tuple[Colours, np.ndarray]:
    """The colours to name in the file, and the pixels (H, W, 3) in them: in a curve that can be named."""
    code = next((body for kind, body in image.metadata.colour if kind == b"cICP"), b"\2\2")
    if code[1] in (PQ, HLG):
        return Colours(image.grey, D65, {9: BT2020, 12: P3}.get(code[0], BT709), code[1]), image.pixels
    space, unknown = space_of(image.metadata, image.grey)
    if unknown:
        return Colours(image.grey), srgb_by_tables(image.pixels, image.metadata.icc)
    if space is None:
        return Colours(image.grey), image.pixels
    curve = space.curves[0]
    colours = Colours(image.grey, D65, corners_of(space))
    if curve == Curve(curve.g) and space.curves == (curve,) * 3:
        return replace(colours, transfer=8 if curve.g == 1 else float(curve.g)), image.pixels
    return colours, _by_bands(image.pixels, lambda band: np.stack(
        [SRGB_CURVE.code(one.linear(channel)) for one, channel in zip(space.curves, band, strict=True)]
    ))  # fmt: skip


def _linear_srgb(pixels: np.ndarray, colours: Colours) -> np.ndarray:
    curve = Curve(colours.transfer) if isinstance(colours.transfer, float) else _CURVES[colours.transfer]
    matrix = np.eye(3) if colours.grey else to_srgb(colours.primaries)
    return _by_bands(pixels, lambda band: np.tensordot(matrix, curve.linear(band), 1))


def _by_bands(pixels: np.ndarray, convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """(H, W, 3) converted as (3, rows, W) float64, band by band."""
    out = np.empty_like(pixels)
    for top in range(0, len(pixels), _BAND):
        band = np.moveaxis(pixels[top : top + _BAND], 2, 0).astype(np.float64)
        out[top : top + _BAND] = np.moveaxis(convert(band), 0, 2)
    return out


def _contained(stream: bytes, data: bytes, metadata: Metadata) -> bytes:
    """The codestream with metadata and with what the encoder has said of its level."""
    parts = boxes(data) if data.startswith(CONTAINER) else ()
    level = b"".join(box(kind, data[start:end]) for kind, start, end in parts if kind == b"jxll")
    exif = box(b"Exif", bytes(4) + metadata.exif) if metadata.exif else b""
    xmp = box(b"xml ", metadata.xmp) if metadata.xmp else b""
    return CONTAINER + _BRAND + level + exif + xmp + box(b"jxlc", stream)


def _distance(quality: int) -> float:
    """libjxl's distance (1: hardly visible) for a quality of 1 to 100, as cjxl has it."""
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09 if quality < 100 else 0.0
    return 53 / 3000 * quality**2 - 23 / 20 * quality + 25
