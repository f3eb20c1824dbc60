"""TIFF and BigTIFF by tifffile and imagecodecs: integers of 2 to 16 bit and floats, in strips or tiles, packed or not.

Tags are read by `ifd`, so that the camera's go out as they came in.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rngcli.errors import PictureError
from rngcli.images import ifd, segments
from rngcli.images.chromaticity import icc_of_tiff
from rngcli.images.ifd import ByteOrder, Bytes, Directory
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
from rngcli.images.metadata import DENSITY_UNIT, X_DENSITY, Y_DENSITY, Metadata, aspect_of, density, split_resources

if TYPE_CHECKING:
    from tifffile import TiffPage

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # its lines on damaged files name no picture

_KIND, _OLD_KIND, _WIDTH, _XMP, _IPTC, _PHOTOSHOP, _ICC = 0xFE, 0xFF, 0x100, 0x2BC, 0x83BB, 0x8649, 0x8773
_LAYERS = 0x935C  # Photoshop's, which would show the picture as it was before the denoising
_LAYOUT = {_KIND, _OLD_KIND, _WIDTH, 0x101, 0x102, 0x103, 0x106, 0x10A, 0x111, 0x115, 0x116, 0x117, 0x118, 0x119, 0x11C}
_LAYOUT |= {0x120, 0x121, 0x122, 0x123, 0x12D, 0x13D, 0x13E, 0x13F, 0x140, 0x142, 0x143, 0x144, 0x145, 0x14A, 0x152}
_LAYOUT |= {0x153, 0x154, 0x155, 0x15B, 0x211, 0x212, 0x213, 0x214}
_NOT_EXIF = _LAYOUT | {_XMP, _IPTC, _PHOTOSHOP, _ICC, _LAYERS}
_LEFT_OUT = {_LAYERS: "Photoshop's layers", 0x14A: "its sub-pictures"}
_WRITTEN_BY_TIFFFILE = {X_DENSITY, Y_DENSITY, DENSITY_UNIT}
CLASSIC_LIMIT = 2**32 - 2**25  # bytes of samples above which a file must be a BigTIFF
STRIP_SIZE = 2**20  # bytes, before packing
_MOST_CHANNELS = 8
_MOST_PAGES = 2**16
_INVERTED, _RGB, _PALETTE, _YCBCR = 0, 2, 3, 6  # photometric interpretations


def decode(data: bytes, options: ReadOptions) -> Image:
    """A TIFF file of one picture as stored."""
    from tifffile import TiffFile

    pages, thumbnails = pages_of(data)
    if len(pages) > 1:
        raise PictureError("a TIFF of several pages", "split it into single pictures first")
    with TiffFile(io.BytesIO(data)) as file:
        return decode_page(data, file.pages.first, pages[0][1], options, thumbnails)


def pages_of(data: Bytes) -> tuple[list[tuple[int, Directory]], bool]:
    """The pages of a TIFF, each with its number in the file, and whether smaller versions lie among them, left out."""
    first = ifd.parse(data)
    if first is None or _WIDTH not in first.fields:
        raise PictureError("a TIFF without a picture in it", "the file is damaged")
    pages, number, seen, page = [(0, first)], 0, set[int](), first
    while page.next and page.next not in seen and len(seen) < _MOST_PAGES:
        seen.add(page.next)
        following = ifd.parse_at(data, page.next)
        if following is None:
            break
        page, number = following, number + 1
        if not page.number(_KIND) & 1 and page.number(_OLD_KIND) != 2:
            pages.append((number, page))
    return pages, len(pages) <= number


def decode_page(data: Bytes, page: TiffPage, tags: Directory, options: ReadOptions, thumbnails: bool = False) -> Image:
    """A page of a TIFF file as stored; `thumbnails` were found beside it."""
    check_size(page.imagewidth, page.imagelength, options.max_pixels)
    segments.check_packing(page)
    _check_kind(page)
    return told(_image(segments.unpacked(data, page), page, tags), page, tags, thumbnails)


def told(image: Image, page: TiffPage, tags: Directory, thumbnails: bool) -> Image:
    """The picture with a note of what is left out of its page, or changed."""
    lost = [name for tag, name in _LEFT_OUT.items() if tag in tags.fields]
    lost += ["the smaller versions on its further pages"] if thumbnails else []
    if lost:
        image = image.noted(f"{' and '.join(lost)} were left out")
    if page.photometric == _PALETTE:
        return image.noted("a palette picture: written as RGB")
    bits = page.bitspersample
    return image if bits in (8, 16, 32) else image.noted(f"a TIFF of {bits} bit: written with {image.depth}")


def _check_kind(page: TiffPage) -> None:
    kind, channels, bits = page.photometric, page.samplesperpixel, page.bitspersample
    if kind not in (0, 1, _RGB, _PALETTE) and not (kind == _YCBCR and page.compression == segments.JPEG):
        names = {4: "a mask", 5: "CMYK", 6: "YCbCr", 8: "CIELab", 9: "ICCLab", 10: "ITULab", 32803: "sensor data"}
        raise PictureError(f"a TIFF of {names.get(kind, f'colour kind {kind}')}", "convert it to RGB first")
    if channels - _colours(page) not in (0, 1, len(page.extrasamples)) or channels > _MOST_CHANNELS:
        raise PictureError(f"a TIFF of {channels} channels", "rng works on grey and RGB, with or without alpha")
    if page.imagedepth > 1:
        raise PictureError(f"a TIFF of {page.imagedepth} planes", "split it into single pictures first")
    known = {1: range(2, 17), 3: (16, 32)}.get(page.sampleformat, ())
    if bits not in known:
        what = {1: "unsigned integers", 2: "signed integers", 3: "floats"}.get(page.sampleformat, "unknown samples")
        raise PictureError(f"a TIFF of {bits} bit {what}", "rng reads integers of 2 to 16 bit, floats of 16 and 32")


def _image(samples: np.ndarray, page: TiffPage, tags: Directory) -> Image:
    bits = page.bitspersample
    if page.photometric == _PALETTE:
        samples, bits = _coloured(samples, page), 8
    if page.photometric == _INVERTED:
        full = 1 if samples.dtype.kind == "f" else 2**bits - 1
        samples[..., 0] = full - samples[..., 0]
    if samples.dtype == np.float16:
        samples, bits = samples.astype(np.float32), 32
    colours = 3 if page.photometric == _PALETTE else _colours(page)
    alpha, extras = _further(samples[..., colours:], page.extrasamples)
    depth: Depth = 8 if bits <= 8 else 16 if bits <= 16 else 32
    return Image(
        pixels=from_samples(samples[..., 0] if colours == 1 else samples[..., :3], bits),
        format="tiff",
        depth=depth,
        grey=colours == 1,
        alpha=None if alpha is None else stretched(alpha, bits),
        premultiplied=alpha is not None and 1 in page.extrasamples,
        extras=extras if extras is None else stretched(extras, bits),
        metadata=metadata_of(tags, grey=colours == 1),
        encoding=Encoding(uncompressed=page.compression == 1),
    )


def _colours(page: TiffPage) -> int:
    return 3 if page.photometric in (_RGB, _YCBCR) else 1


def _further(samples: np.ndarray, kinds: tuple[int, ...]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Alpha (H, W) and what else there is beside colours (H, W, n): a sample of an unknown kind is no transparency."""
    count = samples.shape[2]
    at = next((i for i, kind in enumerate(kinds) if kind in (1, 2)), None if kinds else 0)
    alpha = np.ascontiguousarray(samples[..., at]) if at is not None and at < count else None
    rest = [i for i in range(count) if i != at]
    return alpha, np.ascontiguousarray(samples[..., rest]) if rest else None


def _coloured(samples: np.ndarray, page: TiffPage) -> np.ndarray:
    palette = page.colormap  # (3, 2^bits) uint16
    if palette is None or palette.shape != (3, 2**page.bitspersample) or samples.shape[2] != 1:
        raise PictureError("a palette TIFF without its palette", "convert it to RGB first")
    return (palette.T // 256).astype(np.uint8)[samples[..., 0]]


def metadata_of(page: Directory, grey: bool) -> Metadata:
    """All that a page says beside its picture."""

    def block(tag: int) -> bytes:
        return page.fields[tag].data if tag in page.fields else b""

    # Types from 16 on exist in BigTIFF only.
    fields = {tag: entry for tag, entry in page.fields.items() if tag not in _NOT_EXIF and entry.type < 16}
    exif = ifd.stream(replace(page, fields=fields)) if fields or page.children else b""
    iptc, photoshop = split_resources(block(_PHOTOSHOP))
    icc = block(_ICC) or icc_of_tiff(page, grey)
    known, aspect = density(page), None
    if not known and page.number(DENSITY_UNIT, 2) == 1:
        across, down = (page.numbers(tag)[:1] or (0,) for tag in (X_DENSITY, Y_DENSITY))
        aspect = aspect_of(round(1000 * across[0]), round(1000 * down[0]))
    return Metadata(exif, block(_XMP), block(_IPTC) or iptc, photoshop, icc, dpi=known, aspect=aspect)


@dataclass(frozen=True)
class PageForm:
    """What all pages of a file have in common, and `kind`, what a page says of itself (NewSubfileType)."""

    order: ByteOrder
    big: bool
    kind: int = 0


def encode(image: Image, options: WriteOptions, form: PageForm | None = None) -> bytes:
    """A TIFF file of the depth of the picture, deflated unless its source was not; a BigTIFF above 4 GiB.

    `form`: that of the file whose page it will be.
    """
    from tifffile import TiffWriter

    depth: Depth = image.depth if image.depth in (8, 32) else 16
    samples = to_samples(image.pixels, depth, image.grey)
    if image.alpha is not None:
        samples = np.dstack([samples, alpha_samples(image.alpha, depth)])
    kinds = () if image.alpha is None else (1 if image.premultiplied else 2,)
    if image.extras is not None:
        samples = np.dstack([samples, *(alpha_samples(plane, depth) for plane in np.moveaxis(image.extras, 2, 0))])
        kinds += (0,) * image.extras.shape[2]
    source = ifd.parse(image.metadata.exif) or Directory()
    form = form or PageForm(source.order, samples.nbytes > CLASSIC_LIMIT)
    file, packed = io.BytesIO(), not image.encoding.uncompressed
    with TiffWriter(file, bigtiff=form.big, byteorder=form.order) as writer:
        writer.write(
            samples,
            photometric="minisblack" if image.grey else "rgb",
            planarconfig=None if samples.ndim == 2 else "contig",
            extrasamples=kinds or None,
            compression="zlib" if packed else None,
            predictor=packed,
            rowsperstrip=max(1, STRIP_SIZE // samples[0].nbytes),
            maxworkers=1,
            metadata=None,
            software=False,
            subfiletype=form.kind,
            extratags=_tags(image.metadata, source, form.order),
            **_density(image.metadata),
        )
    return ifd.with_children(file.getvalue(), source.children)


def _tags(metadata: Metadata, source: Directory, order: ByteOrder) -> list[tuple[int | str, int, int, bytes, bool]]:
    """The tags that tifffile takes as they are: number or name, TIFF type, count, value, in the first page only."""
    fields = {tag: entry for tag, entry in source.fields.items() if tag not in _NOT_EXIF | _WRITTEN_BY_TIFFFILE}
    in_order = {tag: ifd.reordered(entry, source.order, order) for tag, entry in fields.items()}
    tags: list[Any] = [ifd.extra_tag(tag, entry, order) for tag, entry in in_order.items()]
    # IPTC has a tag of its own here, and a second copy among the resources would be one too many.
    blocks = {_XMP: (ifd.BYTE, metadata.xmp), _IPTC: (ifd.UNDEFINED, metadata.iptc)}
    blocks |= {_PHOTOSHOP: (ifd.BYTE, metadata.photoshop), _ICC: (ifd.UNDEFINED, metadata.icc)}
    tags += [(tag, kind, len(data), data, True) for tag, (kind, data) in blocks.items() if data]
    # By name, since tifffile takes no pointers by number; they point once the directories lie behind the file.
    names = {ifd.EXIF_POINTER: "ExifTag", ifd.GPS_POINTER: "GPSTag", ifd.INTEROP_POINTER: "InteroperabilityTag"}
    return tags + [(names[tag], ifd.LONG, 1, bytes(4), True) for tag in source.children]


def _density(metadata: Metadata) -> dict[str, Any]:
    if metadata.aspect and not metadata.dpi:
        return {"resolution": [(value, 1) for value in metadata.aspect], "resolutionunit": "NONE"}
    if not metadata.dpi:
        return {}
    return {"resolution": [(round(value * 10000), 10000) for value in metadata.dpi], "resolutionunit": "INCH"}
