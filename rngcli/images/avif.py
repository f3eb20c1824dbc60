"""AVIF: 8 bit through Pillow; of 10 and 12 bit the pixels by imagecodecs, in the container that Pillow makes.

Pillow's AVIF knows the metadata but 8 bit only, that of imagecodecs knows all depths but no metadata.
"""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import AvifImagePlugin

from rngcli.images import webp
from rngcli.images.boxes import contents, exchanged, numbers_of, properties, regrafted
from rngcli.images.exif import bare
from rngcli.images.image import (
    Depth,
    Encoding,
    Image,
    ReadOptions,
    WriteOptions,
    alpha_samples,
    from_samples,
    stretched,
    to_samples,
)
from rngcli.images.metadata import Metadata, oriented

_DEEP, _TWELVE, _GREY = 0x40, 0x20, 0x10  # flags of an av1C box
_SRGB_CODES = b"\x01\x0d"
_NEW_QUALITY = 85
_SPEED = 6  # of 10, as Pillow has it for 8 bit; the encoder's own takes minutes a picture


def decode(data: bytes, options: ReadOptions) -> Image:
    """An AVIF file as stored, with 8, 10 or 12 bits."""
    picture = AvifImagePlugin.AvifImageFile(io.BytesIO(data))
    flags = next((data[start + 2] for start, end in properties(data, b"av1C") if end > start + 2), 0)
    if flags & _DEEP:
        webp.check_still(picture, "avif", options)
        image = _deep(data, 12 if flags & _TWELVE else 10, webp.blocks_of(picture))
    else:
        image = webp.of_pillow(picture, "avif", options, Encoding())
    if not image.metadata.icc:
        image = replace(image, metadata=replace(image.metadata, colour=_colour_codes(data)))
    image = replace(image, metadata=_with_exif(image.metadata, data))
    return replace(image, grey=True) if flags & _GREY else image


def _with_exif(metadata: Metadata, data: bytes) -> Metadata:
    """EXIF as it stands in the file; Pillow writes it anew where its orientation is another than that of the boxes."""
    block = next(iter(contents(data, b"Exif")), b"")
    exif = bare(block[4 + int.from_bytes(block[:4], "big") :])
    if not exif or Metadata(exif).orientation == metadata.orientation:
        return replace(metadata, exif=exif) if exif else metadata
    return replace(metadata, exif=oriented(exif, metadata.orientation))


def _deep(data: bytes, depth: Depth, metadata: Metadata) -> Image:
    from imagecodecs import avif_decode

    samples = avif_decode(data)
    if samples.ndim == 2 or samples.shape[2] < 3:
        colours, alpha = np.atleast_3d(samples)[..., 0], samples[..., 1] if samples.ndim == 3 else None
    else:
        colours, alpha = samples[..., :3], samples[..., 3] if samples.shape[2] == 4 else None
    alpha = None if alpha is None else stretched(np.ascontiguousarray(alpha), depth)
    return Image(from_samples(colours, depth), "avif", depth, alpha=alpha, metadata=metadata)


def _colour_codes(data: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """The primaries and transfer of an AVIF, which Pillow does not tell, as PNG's cICP chunk would say them."""
    for start, end in properties(data, b"colr"):
        codes = data[start + 4 : start + 8]
        if data[start : start + 4] == b"nclx" and end >= start + 8 and not codes[0] and not codes[2]:
            return ((b"cICP", bytes((codes[1], codes[3], 0, 1))),)
    return ()


def encode(image: Image, options: WriteOptions) -> bytes:
    """An AVIF file at `quality` or 85, without colour subsampling; of 8, 10 or 12 bit, whichever holds the picture."""
    depth = min(image.depth, 12)
    samples = to_samples(image.pixels, depth, grey=image.grey and image.alpha is None)
    if image.alpha is not None:
        samples = np.dstack([samples, alpha_samples(image.alpha, depth)])
    quality = options.quality or _NEW_QUALITY
    settings = {} if samples.ndim == 2 else {"subsampling": "4:4:4"}
    if depth == 8:
        data = webp.by_pillow(samples, image.metadata, "AVIF", quality=quality, **settings)
    else:
        data = _encoded_deep(samples, depth, image.metadata, quality)
    # Pillow writes EXIF anew, and maker notes with it.
    block = bytes(4) + image.metadata.exif
    data = exchanged(data, dict.fromkeys(numbers_of(data, b"Exif") if image.metadata.exif else (), block))
    codes = next((body[:2] for kind, body in image.metadata.colour if kind == b"cICP"), _SRGB_CODES)
    for start, _ in properties(data, b"colr"):
        if data[start : start + 4] == b"nclx":
            data = data[: start + 4] + bytes((0, codes[0], 0, codes[1])) + data[start + 8 :]
    return data


def _encoded_deep(samples: np.ndarray, depth: int, metadata: Metadata, quality: int) -> bytes:
    from imagecodecs import avif_encode

    if samples.ndim == 3 and samples.shape[2] == 4 and samples[..., 3].min() == 2**depth - 1:
        samples = np.ascontiguousarray(samples[..., :3])  # libavif leaves out such alpha
    deep = bytes(avif_encode(samples, level=quality, bitspersample=depth, speed=_SPEED))
    container = webp.by_pillow(
        np.zeros(samples.shape, np.uint8), metadata, "AVIF", speed=10, quality=0,
        subsampling="4:0:0" if samples.ndim == 2 else "4:4:4",
    )  # fmt: skip
    return regrafted(container, deep)
