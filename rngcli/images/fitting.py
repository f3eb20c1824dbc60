"""A picture as a file of a format will hold it: what the format lacks is said in another way or named in a note."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rngcli.images.colour import expressible, to_stored
from rngcli.images.image import Format, Image, WriteOptions, alpha_samples, straight, turned
from rngcli.images.jpeg_segments import ROOM
from rngcli.images.metadata import shortened, stripped, truthful, upright, with_density
from rngcli.images.spaces import space_of
from rngcli.images.words import COMMENT, Words, with_words, words_of_iptc, words_of_png
from rngcli.images.xmp import joined

_TURNED_BY_DECODERS = ("heic", "jxl")  # where the tag of EXIF does not count
_HOLD_PREMULTIPLIED = ("tiff", "heic", "jxl")
_HOLD_ASPECT = ("png", "jpeg", "tiff", "heic")
_DENSITY_IN_EXIF = ("webp", "avif", "heic", "jxl")
_EXIF_ROOM = ROOM - len(b"Exif\0\0")
_HOLD_IPTC = ("jpeg", "tiff")


def as_held(image: Image, format: Format, options: WriteOptions) -> Image:
    """The picture with pixels as stored, metadata made true, turned exactly once; further notes say what is lost.

    In the format it came in, pixels and orientation tag stay as they were. Viewers of another format may not honour the
    tag, a stripped picture has none, and in HEIC and JPEG XL it is not the tag that counts: there the pixels are turned
    and the tag is 1.
    """
    image = expressible(image, format)
    image = replace(image, pixels=to_stored(image))
    if image.alpha is not None:
        image = _with_alpha(image, image.alpha, format)
    if image.extras is not None and format != "tiff":
        image = replace(image, extras=None).noted(f"{format.upper()} has no place for its further channels: left out")
    if image.metadata.orientation != 1 and (
        format != image.format or format in _TURNED_BY_DECODERS or options.strip_metadata
    ):
        image = _upright(image)
    height, width = image.pixels.shape[:2]
    if options.strip_metadata:
        return replace(image, metadata=stripped(image.metadata))
    room = _EXIF_ROOM if format == "jpeg" else 2**31
    image = replace(image, metadata=truthful(image.metadata, width, height, options.software, room))
    if len(image.metadata.exif) > room:
        image = _with_less_exif(image, room)
    if format == "jxl" and image.metadata.icc and space_of(image.metadata, image.grey)[1]:
        image = image.noted("JPEG XL has no place for a colour profile of tables: written as sRGB")
    if image.metadata.aspect and format not in _HOLD_ASPECT:
        image = image.noted(f"{format.upper()} cannot say that its pixels are not square, {_ratio(image)}: left out")
    return image if format == image.format else _translated(image, format)


def _with_less_exif(image: Image, room: int) -> Image:
    exif = shortened(image.metadata.exif, room)
    image = replace(image, metadata=replace(image.metadata, exif=exif))
    return image.noted(f"its EXIF is longer than the {room} bytes of a JPEG: its largest tags were left out")


def _ratio(image: Image) -> str:
    across, down = image.metadata.aspect or (1, 1)
    return f"{down}:{across}"


def losses(image: Image, format: Format, options: WriteOptions | None = None) -> tuple[str, ...]:
    """What a file of `format` cannot keep of a picture that it holds, one line each."""

    def corner(plane: np.ndarray | None) -> np.ndarray | None:
        return None if plane is None else plane[:1, :1]

    small = replace(image, pixels=image.pixels[:1, :1], alpha=corner(image.alpha), extras=corner(image.extras))
    return as_held(replace(small, notes=()), format, options or WriteOptions()).notes


def _with_alpha(image: Image, alpha: np.ndarray, format: Format) -> Image:
    if image.premultiplied and format not in _HOLD_PREMULTIPLIED:
        image = replace(image, pixels=straight(image.pixels, alpha), premultiplied=False)
    if format == "jpeg" and alpha_samples(alpha, 8).min() == 255:
        return replace(image, alpha=None)
    return image


def _upright(image: Image) -> Image:
    def there(plane: np.ndarray | None) -> np.ndarray | None:
        return None if plane is None else turned(plane, image.metadata.orientation)

    return replace(
        image, pixels=turned(image.pixels, image.metadata.orientation), alpha=there(image.alpha),
        extras=there(image.extras), metadata=upright(image.metadata),
    )  # fmt: skip


def _translated(image: Image, format: Format) -> Image:
    """The words of a picture that changes its format."""
    metadata, words, lost = image.metadata, Words(), list[str]()
    if metadata.xmp_more and format != "jpeg":
        metadata = replace(metadata, xmp=joined(metadata.xmp, metadata.xmp_more), xmp_more=())
    if metadata.iptc and format not in _HOLD_IPTC:
        words, sets = words_of_iptc(metadata.iptc)
        lost += [f"IPTC {', '.join(sets)}"] if sets else []
        metadata = replace(metadata, iptc=b"", photoshop=b"")
    texts, comment, others = words_of_png(metadata.text)
    if format != "png":
        words = {**texts, **words}
        lost += [f"PNG's {', '.join(others)}"] if others else []
        metadata = replace(metadata, text=(), comment=metadata.comment or comment.encode())
    if metadata.comment and format == "png":
        text = (b"iTXt", COMMENT.encode() + b"\0\0\0\0\0" + metadata.comment.decode("utf-8", "replace").encode())
        metadata = replace(metadata, comment=b"", text=(*metadata.text, text))
    elif metadata.comment and format != "jpeg":
        lost.append(f"its comment, {_shortened(metadata.comment)}")
    if metadata.dpi and format in _DENSITY_IN_EXIF:
        metadata = replace(metadata, exif=with_density(metadata.exif, metadata.dpi))
    xmp = with_words(metadata.xmp, words) if words else metadata.xmp
    if xmp is None:
        lost.append("IPTC, since its XMP is damaged")
    image = replace(image, metadata=replace(metadata, xmp=metadata.xmp if xmp is None else xmp))
    return image.noted(f"{format.upper()} has no place for {'; '.join(lost)}: left out") if lost else image


def _shortened(comment: bytes) -> str:
    text = " ".join(comment.decode("utf-8", "replace").split())
    return f"{text[:40]}…" if len(text) > 40 else text
