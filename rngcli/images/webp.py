"""WebP through Pillow: 8 bit, RGB with or without alpha. What AVIF does likewise stands here for both."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as Pillow
from PIL import ImageFile, WebPImagePlugin

from rngcli.errors import PictureError
from rngcli.images.exif import bare
from rngcli.images.image import (
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
from rngcli.images.metadata import Metadata

_NEW_QUALITY = 92


def decode(data: bytes, options: ReadOptions) -> Image:
    """A WebP file as stored; `encoding.lossless` tells whether it lost nothing."""
    encoding = Encoding(lossless=b"VP8L" in data[:256] or _has_chunk(data, b"VP8L"))
    return of_pillow(WebPImagePlugin.WebPImageFile(io.BytesIO(data)), "webp", options, encoding)


def of_pillow(picture: ImageFile.ImageFile, name: Format, options: ReadOptions, encoding: Encoding) -> Image:
    """A picture that Pillow has opened, 8 bit, after a look at what its header claims."""
    check_still(picture, name, options)
    picture.load()
    samples = np.asarray(picture if picture.mode in ("RGB", "RGBA") else picture.convert("RGB"))
    alpha = np.ascontiguousarray(samples[..., 3]) if samples.shape[2] == 4 else None
    return Image(from_samples(samples[..., :3]), name, alpha=alpha, metadata=blocks_of(picture), encoding=encoding)


def check_still(picture: ImageFile.ImageFile, name: Format, options: ReadOptions) -> None:
    """Refuse what is too large or moves."""
    check_size(*picture.size, options.max_pixels)
    if getattr(picture, "n_frames", 1) > 1:
        raise PictureError(f"an animated {name.upper()}", "rng works on single pictures")


def blocks_of(picture: ImageFile.ImageFile) -> Metadata:
    """The blocks that Pillow found in a WebP or an AVIF."""
    exif = bare(picture.info.get("exif", b""))
    return Metadata(exif=exif, xmp=picture.info.get("xmp", b""), icc=picture.info.get("icc_profile", b""))


def _has_chunk(data: bytes, kind: bytes) -> bool:
    at = 12
    while at + 8 <= len(data):
        if data[at : at + 4] == kind:
            return True
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return False


def encode(image: Image, options: WriteOptions) -> bytes:
    """A WebP file: lossless where the source was and no quality is asked for, else at `quality` or 92."""
    if max(image.pixels.shape[:2]) > 16383:
        raise PictureError("WebP holds no more than 16383 pixels a side", "choose PNG or TIFF")
    lossless = image.encoding.lossless and options.quality is None
    samples = to_samples(image.pixels, 8, grey=False)
    if image.alpha is not None:
        samples = np.dstack([samples, alpha_samples(image.alpha, 8)])
    return by_pillow(
        samples, image.metadata, "WEBP", quality=options.quality or _NEW_QUALITY, lossless=lossless, exact=True
    )


def by_pillow(samples: np.ndarray, metadata: Metadata, name: str, **settings: object) -> bytes:
    """A file by Pillow of samples (H, W), (H, W, 3) or (H, W, 4) uint8, with the blocks that the format holds."""
    file = io.BytesIO()
    carried = {"icc_profile": metadata.icc, "xmp": metadata.xmp, "exif": metadata.exif}
    Pillow.fromarray(samples).save(file, name, **{key: value for key, value in carried.items() if value}, **settings)
    return file.getvalue()
