"""WebP and AVIF, both through Pillow: 8 bit, RGB with or without alpha."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import AvifImagePlugin, ImageFile, WebPImagePlugin
from PIL import Image as Pillow

from rngcli.errors import PictureError
from rngcli.images.metadata import Metadata
from rngcli.images.model import (
    Encoding,
    Format,
    Image,
    ReadOptions,
    WriteOptions,
    alpha_samples,
    check_size,
    from_samples,
    to_samples,
)

_PREFIX = b"Exif\0\0"
_HEAD = 2**16  # bytes in which the boxes that describe an AVIF lie
_NEW_QUALITY = {"webp": 92, "avif": 85}


def decode_webp(data: bytes, options: ReadOptions) -> Image:
    """A WebP file as stored; `encoding.lossless` tells whether it lost nothing."""
    picture = WebPImagePlugin.WebPImageFile(io.BytesIO(data))
    return _image(picture, "webp", options, Encoding(lossless=b"VP8L" in data[:256] or _has_chunk(data, b"VP8L")))


def decode_avif(data: bytes, options: ReadOptions) -> Image:
    """An AVIF file as stored. One of more than 8 bits is read with 8, which the notes say."""
    picture = AvifImagePlugin.AvifImageFile(io.BytesIO(data))
    image = _image(picture, "avif", options, Encoding())
    if not image.metadata.icc:
        image = replace(image, metadata=replace(image.metadata, colour=_colour_codes(data)))
    at = data.find(b"av1C", 0, _HEAD)
    deep = at >= 0 and len(data) > at + 6 and data[at + 6] & 0x40
    return image.noted("an AVIF of more than 8 bit: read and written with 8") if deep else image


def _colour_codes(data: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """The primaries and transfer of an AVIF, which Pillow does not tell, as PNG's cICP chunk would say them."""
    at = data.find(b"colrnclx", 0, _HEAD)
    codes = data[at + 8 : at + 12]
    if at < 0 or len(codes) < 4 or codes[0] or codes[2]:
        return ()
    return ((b"cICP", bytes((codes[1], codes[3], 0, 1))),)


def _image(picture: ImageFile.ImageFile, name: Format, options: ReadOptions, encoding: Encoding) -> Image:
    check_size(*picture.size, options.max_pixels)
    if getattr(picture, "n_frames", 1) > 1:
        raise PictureError(f"an animated {name.upper()}", "rng works on single pictures")
    picture.load()
    samples = np.asarray(picture if picture.mode in ("RGB", "RGBA") else picture.convert("RGB"))
    alpha = np.ascontiguousarray(samples[..., 3]) if samples.shape[2] == 4 else None
    exif = picture.info.get("exif", b"").removeprefix(_PREFIX)
    metadata = Metadata(exif=exif, xmp=picture.info.get("xmp", b""), icc=picture.info.get("icc_profile", b""))
    return Image(from_samples(samples[..., :3]), name, alpha=alpha, metadata=metadata, encoding=encoding)


def _has_chunk(data: bytes, kind: bytes) -> bool:
    at = 12
    while at + 8 <= len(data):
        if data[at : at + 4] == kind:
            return True
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return False


def encode_webp(image: Image, options: WriteOptions) -> bytes:
    """A WebP file: lossless where the source was and no quality is asked for, else at `quality` or 92."""
    if max(image.pixels.shape[:2]) > 16383:
        raise PictureError("WebP holds no more than 16383 pixels a side", "choose PNG or TIFF")
    lossless = image.encoding.lossless and options.quality is None
    return _encoded(image, "WEBP", quality=options.quality or _NEW_QUALITY["webp"], lossless=lossless, exact=True)


def encode_avif(image: Image, options: WriteOptions) -> bytes:
    """An AVIF file at `quality` or 85, without colour subsampling."""
    data = _encoded(image, "AVIF", quality=options.quality or _NEW_QUALITY["avif"], subsampling="4:4:4")
    at = data.find(b"colrnclx", 0, _HEAD)
    codes = next((body for kind, body in image.metadata.colour if kind == b"cICP"), b"")
    if at < 0 or not codes:
        return data
    return data[: at + 8] + bytes((0, codes[0], 0, codes[1])) + data[at + 12 :]


def _encoded(image: Image, name: str, **settings: object) -> bytes:
    samples = to_samples(image.pixels, 8, grey=False)
    if image.alpha is not None:
        samples = np.dstack([samples, alpha_samples(image.alpha, 8)])
    file = io.BytesIO()
    carried = {"icc_profile": image.metadata.icc, "xmp": image.metadata.xmp, "exif": image.metadata.exif}
    Pillow.fromarray(samples).save(file, name, **{key: value for key, value in carried.items() if value}, **settings)
    return file.getvalue()
