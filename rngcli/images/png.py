"""PNG: pixels of 8 bit read by Pillow, all else by imagecodecs, chunks by hand.

No library carries every chunk of text and colour as it came, nor leaves a damaged one out and keeps the rest.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image as Pillow
from PIL import PngImagePlugin

from rngcli.errors import PictureError
from rngcli.images.chromaticity import icc_of_png
from rngcli.images.exif import bare as bare_exif
from rngcli.images.image import (
    Depth,
    Image,
    ReadOptions,
    WriteOptions,
    alpha_samples,
    check_size,
    from_samples,
    to_samples,
)
from rngcli.images.metadata import Metadata, aspect_of, sane_density
from rngcli.images.raw_profiles import with_raw_profiles

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP_KEY = b"XML:com.adobe.xmp\0"
_COLOUR_CHUNKS = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"tIME")
_MAX_UNPACKED = 64 * 2**20  # bytes of a profile or a packet of XMP, far above any honest one
_FAST = 1
_NO_END = (b"IEND", b"absent")
_DAMAGED = b"----"


def decode(data: bytes, options: ReadOptions) -> Image:
    """A PNG file as stored; palettes and 1, 2 or 4 bit greys become 8 bit pictures."""
    from imagecodecs import png_decode

    chunks = list(_chunks(data))
    unended = chunks.pop() == _NO_END
    damaged = [body.decode("latin-1") for kind, body in chunks if kind == _DAMAGED]
    chunks = [chunk for chunk in chunks if chunk[0] != _DAMAGED]
    chunks += [(b"IEND", b"")]
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise PictureError("a PNG without a header", "the file is damaged")
    width, height, bits, colour = struct.unpack_from(">IIBB", chunks[0][1])
    check_size(width, height, options.max_pixels)
    if any(kind == b"acTL" and body[:4] != b"\0\0\0\1" for kind, body in chunks):
        raise PictureError("an animated PNG", "rng works on single pictures")
    bare = SIGNATURE + b"".join(_chunk(*chunk) for chunk in chunks if chunk[0][:1].isupper())
    key = next((body for kind, body in chunks if kind == b"tRNS"), b"")
    samples = png_decode(bare) if bits == 16 else _samples8(bare, key, colour)
    if bits == 16 and key and colour in (0, 2):
        samples = _with_key(samples, key)
    metadata = _metadata(chunks, grey=colour in (0, 4))
    image = _image(samples, metadata)
    if damaged:
        image = image.noted(f"damaged parts of the file were left out: {', '.join(damaged)}")
    if unended:
        image = image.noted("the file ends without its end chunk: the picture is whole")
    if any(kind == b"caBX" for kind, _ in chunks):
        image = image.noted("its content credentials (C2PA) were left out")
    if colour == 3:
        return image.noted("a palette picture: written as RGB")
    return image if bits >= 8 else image.noted(f"a grey picture of {bits} bit: written with 8")


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + size]
        check = data[at + 8 + size : at + 12 + size]
        if len(check) < 4:
            raise PictureError(f"the file ends inside of its {kind.decode('latin-1')!r} chunk", "it is truncated")
        if struct.unpack(">I", check)[0] == zlib.crc32(kind + body):
            yield kind, body
        elif not kind[:1].isupper():  # left out; a damaged picture is not guessed at
            yield _DAMAGED, kind
        else:
            raise PictureError(f"a wrong checksum in its {kind.decode('latin-1')!r} chunk", "the file is damaged")
        if kind == b"IEND":
            return
        at += 12 + size
    yield _NO_END


def _samples8(bare: bytes, key: bytes, colour: int) -> np.ndarray:
    if key:
        at = bare.index(b"IDAT") - 4
        bare = bare[:at] + _chunk(b"tRNS", key) + bare[at:]
    picture: Pillow.Image = PngImagePlugin.PngImageFile(io.BytesIO(bare))
    picture.load()
    grey = colour in (0, 4)
    mode = "LA" if grey else "RGBA"
    return np.asarray(picture.convert(mode if colour in (4, 6) or key else mode[:-1]))


def _with_key(samples: np.ndarray, key: bytes) -> np.ndarray:
    """16-bit samples with the alpha that a tRNS chunk means: 0 where a pixel is of the key's colour."""
    colour = samples if samples.ndim == 3 else samples[..., None]
    if len(key) < 2 * colour.shape[2]:
        raise PictureError("a transparent colour that is too short", "the file is damaged")
    transparent = (colour == np.frombuffer(key, ">u2", colour.shape[2])).all(axis=2)
    alpha = np.where(transparent, 0, 65535).astype(np.uint16)
    return np.dstack([colour, alpha])


def _image(samples: np.ndarray, metadata: Metadata) -> Image:
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    grey = channels < 3
    colours = samples[..., 0] if channels == 2 else samples[..., :3] if channels == 4 else samples
    alpha = np.ascontiguousarray(samples[..., -1]) if channels in (2, 4) else None
    depth: Depth = 16 if samples.dtype == np.uint16 else 8
    return Image(from_samples(colours), "png", depth, grey, alpha, metadata=metadata)


def _metadata(chunks: list[tuple[bytes, bytes]], grey: bool) -> Metadata:
    exif = xmp = icc = b""
    dpi = None
    text = []
    aspect = None
    for kind, body in chunks:
        if kind == b"eXIf":
            exif = bare_exif(body)
        elif kind == b"iCCP":
            icc = _inflated(body.partition(b"\0")[2][1:])
        elif kind == b"pHYs" and len(body) == 9:
            across, down = struct.unpack_from(">II", body)
            if body[8] == 1:
                dpi = (across * 0.0254, down * 0.0254)
            else:
                aspect = aspect_of(across, down)
        elif kind == b"iTXt" and body.startswith(_XMP_KEY):
            xmp = _xmp(body)
        elif kind in _TEXT_CHUNKS:
            text.append((kind, body))
    colour = tuple(chunk for chunk in chunks if chunk[0] in _COLOUR_CHUNKS)
    icc = icc or icc_of_png(colour, grey)
    known = Metadata(exif=exif, xmp=xmp, icc=icc, dpi=sane_density(dpi), aspect=aspect, text=tuple(text), colour=colour)
    return with_raw_profiles(known)


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _MAX_UNPACKED)
    except zlib.error:
        return b""  # a damaged profile or packet of text is no reason to give up the picture


def _xmp(body: bytes) -> bytes:
    packed, rest = body[len(_XMP_KEY)], body[len(_XMP_KEY) + 2 :]
    packet = rest.partition(b"\0")[2].partition(b"\0")[2]  # behind the language and the translated keyword
    return _inflated(packet) if packed else packet


def encode(image: Image, options: WriteOptions) -> bytes:
    """A PNG file of 8 bits, or of 16 where the picture has more than 8."""
    depth: Depth = 8 if image.depth == 8 else 16
    samples = to_samples(image.pixels, depth, image.grey)
    if image.alpha is not None:
        samples = np.dstack([samples, alpha_samples(image.alpha, depth)])
    bare = list(_chunks(_packed(samples)))
    extra = _extra(image.metadata, image.grey, options.software)
    return SIGNATURE + b"".join(_chunk(*chunk) for chunk in (bare[0], *extra, *bare[1:]))


def _packed(samples: np.ndarray) -> bytes:
    """What packs photographs four times as fast as level 6, into no more bytes: measured on Kodak's, 8 and 16 bit."""
    from imagecodecs import PNG, png_encode

    samples = np.ascontiguousarray(samples)
    if samples.dtype == np.uint8:
        return bytes(png_encode(samples, level=_FAST))
    # At 16 bit matches are chance: runs of what the filter has made zero are all there is to find.
    return bytes(png_encode(samples, level=_FAST, strategy=PNG.STRATEGY.RLE, filter=PNG.FILTER.PAETH))


def _extra(metadata: Metadata, grey: bool, software: str) -> list[tuple[bytes, bytes]]:
    # A PNG has either an sRGB chunk or a profile, and none where its other chunks say the same.
    chunks = [chunk for chunk in metadata.colour if not (metadata.icc and chunk[0] == b"sRGB")]
    if metadata.icc and metadata.icc != icc_of_png(metadata.colour, grey):
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.dpi:
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in metadata.dpi), 1)))
    elif metadata.aspect:
        chunks.append((b"pHYs", struct.pack(">IIB", *metadata.aspect, 0)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
        chunks.append((b"tEXt", b"Software\0" + software.encode("latin-1", "replace")))
    if metadata.xmp:
        chunks.append((b"iTXt", _XMP_KEY + b"\0\0\0\0" + metadata.xmp))
    return chunks + [chunk for chunk in metadata.text if not chunk[1].startswith(b"Software\0")]


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(kind + body))
