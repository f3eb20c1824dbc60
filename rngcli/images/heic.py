"""HEIC and HEIF by pillow-heif: 8, 10 and 12 bit, with or without alpha."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np

from rngcli.errors import PictureError
from rngcli.images.image import (
    Depth,
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
from rngcli.images.metadata import Metadata, aspect_of, upright
from rngcli.images.xmp import without_companions

_PREFIX = b"Exif\0\0"
_NEW_QUALITY = 90
_CHROMA = {444: 0, 422: 1, 420: 2}  # Pillow's number of a subsampling
# Every phone shows 4:2:0; not every one shows the others.
_NEW_CHROMA = 420


def decode(data: bytes, options: ReadOptions) -> Image:
    """A HEIF file, upright: its decoder turns it, and the turn told in its boxes outranks that of EXIF."""
    import pillow_heif

    try:
        # As they are stored: the 16 bits that pillow-heif would make of them end short of white.
        file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
        picture = file[file.primary_index]
        check_size(*picture.size, options.max_pixels)
        samples = np.asarray(picture)
    except (ValueError, EOFError, SyntaxError, RuntimeError, IndexError, OSError) as error:
        raise PictureError(f"the HEIF picture cannot be decoded ({error})", "the file is damaged") from None
    told: dict[str, Any] = picture.info
    depth = _depth(told["bit_depth"])
    image = Image(
        pixels=from_samples(samples if samples.ndim == 2 else samples[..., :3], depth),
        format="heic",
        depth=depth,
        grey=samples.ndim == 2,
        alpha=stretched(np.ascontiguousarray(samples[..., 3]), depth) if samples.shape[2:] == (4,) else None,
        premultiplied=picture.premultiplied_alpha,
        metadata=_metadata(told),
        encoding=Encoding(subsampling=_CHROMA.get(told.get("chroma", 0))),
    )
    return _noted(image, len(file), told)


def _depth(bits: int) -> Depth:
    if bits not in (8, 10, 12):
        raise PictureError(f"a HEIF of {bits} bit", "rng reads those of 8, 10 and 12")
    return bits  # type: ignore[return-value]


def _metadata(told: dict[str, Any]) -> Metadata:
    exif = (told.get("exif") or b"").removeprefix(_PREFIX)
    metadata = Metadata(exif=exif, xmp=told.get("xmp", b""), icc=told.get("icc_profile", b""))
    codes = told.get("nclx_profile")
    if codes and not metadata.icc:
        numbers = codes["color_primaries"], codes["transfer_characteristics"]
        metadata = replace(metadata, colour=((b"cICP", bytes((*map(int, numbers), 0, 1))),))
    across, down = reversed(told.get("pixel_aspect_ratio") or (1, 1))
    return upright(replace(metadata, aspect=aspect_of(across, down)))


def _noted(image: Image, pictures: int, told: dict[str, Any]) -> Image:
    if pictures > 1:
        image = image.noted(f"the first of {pictures} pictures in the file: the others were left out")
    if told.get("aux") or told.get("depth_images"):
        image = replace(image, metadata=replace(image.metadata, xmp=without_companions(image.metadata.xmp)))
        image = image.noted("what lies beside the picture (gain map, depth, mattes) was left out")
    return image


def encode(image: Image, options: WriteOptions) -> bytes:
    """A HEIC file at `quality` or 90, in the subsampling of the source; of 8, 10 or 12 bit, whichever holds it."""
    import pillow_heif

    depth = min(image.depth, 12)
    grey = image.grey and image.alpha is None
    samples = to_samples(image.pixels, depth, grey)
    if image.alpha is not None:
        samples = np.dstack([samples, alpha_samples(image.alpha, depth)])
    mode = "L" if grey else "RGB" if image.alpha is None else "RGBa" if image.premultiplied else "RGBA"
    number = image.encoding.subsampling
    chroma = _NEW_CHROMA if number is None else [444, 422, 420][number]
    file, metadata = io.BytesIO(), upright(image.metadata)  # by its XMP, too, pillow-heif would turn it
    told: dict[str, Any] = {"exif": metadata.exif and _PREFIX + metadata.exif, "xmp": metadata.xmp}
    told["icc_profile"] = metadata.icc
    told["pixel_aspect_ratio"] = metadata.aspect and metadata.aspect[::-1]
    codes = next((body for kind, body in metadata.colour if kind == b"cICP"), b"")
    if codes:
        told |= {"color_primaries": codes[0], "transfer_characteristics": codes[1], "matrix_coefficients": 6}
    pillow_heif.encode(
        mode if depth == 8 else f"{mode};{depth}", samples.shape[1::-1], np.ascontiguousarray(samples).tobytes(), file,
        quality=options.quality or _NEW_QUALITY, bit_depth=depth, chroma=chroma,
        **{key: value for key, value in told.items() if value},
    )  # fmt: skip
    return file.getvalue()
