"""What a picture carries beside its pixels, and how it is made true again before the picture is written."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import gcd

from rngcli.images import ifd
from rngcli.images.exif import edited, overwritten, patched

ORIENTATION, SOFTWARE, X_DENSITY, Y_DENSITY, DENSITY_UNIT = 0x0112, 0x0131, 0x011A, 0x011B, 0x0128
_SIZE_TAGS = {0x0100: 0, 0x0101: 1}  # ImageWidth, ImageLength of the first directory
_EXIF_SIZE_TAGS = {0xA002: 0, 0xA003: 1}  # PixelXDimension, PixelYDimension of the EXIF directory
_IPTC_RESOURCE = 0x0404
_STALE_RESOURCES = (0x0409, 0x040C)  # Photoshop's thumbnails
_XMP_THUMBNAILS = re.compile(rb"<xmp:Thumbnails\b.*?</xmp:Thumbnails>", re.DOTALL)
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:=[\"']|>))[1-8](?=[\"'<])")


@dataclass(frozen=True)
class Metadata:
    """The blocks a picture carries, as raw as they came, so that nothing is lost by being understood.

    `exif` is a TIFF stream without JPEG's "Exif" prefix, `iptc` the IIM records, `photoshop` the other image resources,
    `text` and `colour` the text and colour chunks of a PNG as (chunk type, data), `xmp_more` the further segments of a
    packet of XMP that is too long for one segment of a JPEG; `dpi` is horizontal, vertical [1/in]; where only the shape
    of the pixels is known, `aspect` is their number across and down the same length.
    """

    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    photoshop: bytes = b""
    icc: bytes = b""
    comment: bytes = b""
    dpi: tuple[float, float] | None = None
    aspect: tuple[int, int] | None = None
    text: tuple[tuple[bytes, bytes], ...] = ()
    colour: tuple[tuple[bytes, bytes], ...] = ()
    xmp_more: tuple[bytes, ...] = ()

    @property
    def orientation(self) -> int:
        """The EXIF orientation, 1 to 8; 1 where there is none or it is nonsense."""
        tree = ifd.parse(self.exif)
        value = tree.number(ORIENTATION, 1) if tree else 1
        return value if 1 <= value <= 8 else 1


def sane_density(dpi: tuple[float, float] | None) -> tuple[float, float] | None:
    """A density [1/in] that formats can hold, or None."""
    return dpi if dpi and all(0.5 <= value <= 65535 for value in dpi) else None


def density(tree: ifd.Directory) -> tuple[float, float] | None:
    """The density [1/in] that the tags of a TIFF or of EXIF say, or None."""
    across, down, unit = tree.numbers(X_DENSITY), tree.numbers(Y_DENSITY), tree.number(DENSITY_UNIT, 2)
    if not across or not down or unit not in (2, 3):
        return None
    scale = 2.54 if unit == 3 else 1.0
    return sane_density((across[0] * scale, down[0] * scale))


def with_density(exif: bytes, dpi: tuple[float, float]) -> bytes:
    """An EXIF block that says a density [1/in], for formats that say it nowhere else."""
    order = _order(exif)
    across, down = (ifd.Field(ifd.RATIONAL, 1, struct.pack(order + "II", round(v * 10000), 10000)) for v in dpi)
    return edited(exif, {X_DENSITY: across, Y_DENSITY: down, DENSITY_UNIT: ifd.short_field(order, 2)})


def aspect_of(across: int, down: int) -> tuple[int, int] | None:
    """How many pixels lie across and down the same length, where they are not square."""
    if not (0 < across < 2**31 and 0 < down < 2**31) or across == down:
        return None
    shared = gcd(across, down)
    return across // shared, down // shared


def stripped(metadata: Metadata) -> Metadata:
    """What is left when metadata is not wanted: what the pixels mean (profile, colour chunks) and density."""
    return Metadata(icc=metadata.icc, dpi=metadata.dpi, aspect=metadata.aspect, colour=metadata.colour)


def oriented(exif: bytes, orientation: int) -> bytes:
    """An EXIF block that says so, in the place of its old value where there is one, since the block may be full."""
    changes = {ORIENTATION: ifd.short_field(_order(exif), orientation)}
    told = overwritten(exif, changes)
    return told if Metadata(told).orientation == orientation else edited(exif, changes)


def upright(metadata: Metadata) -> Metadata:
    """The metadata of a picture whose pixels have been turned upright: orientation 1, density turned with it."""
    dpi, aspect, exif = metadata.dpi, metadata.aspect, metadata.exif
    if metadata.orientation != 1:
        exif = oriented(exif, 1)
    if metadata.orientation >= 5:
        dpi, aspect = dpi and dpi[::-1], aspect and aspect[::-1]
    return replace(metadata, exif=exif, dpi=dpi, aspect=aspect, xmp=_XMP_ORIENTATION.sub(rb"\g<1>1", metadata.xmp))


def truthful(metadata: Metadata, width: int, height: int, software: str, room: int = 2**31) -> Metadata:
    """The metadata without what the denoising made untrue: no thumbnails, the true size, the software that wrote it.

    An EXIF block that would grow over `room` bytes by that is changed only as far as it does not grow.
    """
    order = _order(metadata.exif)
    size = (width, height)
    changes = {SOFTWARE: ifd.ascii_field(software)}
    tree = ifd.parse(metadata.exif)
    if tree is None:
        exif = ifd.stream(ifd.Directory("<", changes))
    else:
        changes |= {tag: ifd.long_field(order, size[i]) for tag, i in _SIZE_TAGS.items() if tag in tree.fields}
        exif = edited(metadata.exif, changes)
        exif = exif if len(exif) <= room else overwritten(metadata.exif, changes)
        exif = patched(exif, ifd.EXIF_POINTER, {tag: size[i] for tag, i in _EXIF_SIZE_TAGS.items()})
    return replace(metadata, exif=exif, xmp=_XMP_THUMBNAILS.sub(b"", metadata.xmp))


def _order(exif: bytes) -> ifd.ByteOrder:
    start = ifd.header(exif)
    return start[0] if start else "<"


def shortened(exif: bytes, limit: int) -> bytes:
    """An EXIF block of at most `limit` bytes: without its large fields (maker notes, mostly) if it is longer."""
    tree = ifd.parse(exif)
    for largest in (16384, 1024, 64):
        if len(exif) <= limit or tree is None:
            break
        exif = ifd.stream(_without_fields_over(tree, largest))
    return exif if len(exif) <= limit else b""


def _without_fields_over(tree: ifd.Directory, largest: int) -> ifd.Directory:
    fields = {tag: entry for tag, entry in tree.fields.items() if len(entry.data) <= largest}
    children = {tag: _without_fields_over(child, largest) for tag, child in tree.children.items()}
    return replace(tree, fields=fields, children=children)


def split_resources(block: bytes) -> tuple[bytes, bytes]:
    """Photoshop's image resources as (IIM records, the other resources), its stale thumbnails left out."""
    iptc, others = b"", b""
    for number, whole, payload in _resources(block):
        if number == _IPTC_RESOURCE:
            iptc = payload
        elif number not in _STALE_RESOURCES:
            others += whole
    return iptc, others


def joined_resources(metadata: Metadata) -> bytes:
    """The image resources to write: the inverse of `split_resources`."""
    if not metadata.iptc:
        return metadata.photoshop
    head = b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(metadata.iptc))
    return metadata.photoshop + head + metadata.iptc + bytes(len(metadata.iptc) % 2)


def _resources(block: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    at = 0
    while block[at : at + 4] == b"8BIM" and at + 12 <= len(block):
        number = struct.unpack_from(">H", block, at + 4)[0]
        name_end = at + 6 + (block[at + 6] + 2) // 2 * 2
        if name_end + 4 > len(block):
            return
        size = struct.unpack_from(">I", block, name_end)[0]
        end = name_end + 4 + size + size % 2
        yield number, block[at:end].ljust(end - at, b"\0"), block[name_end + 4 : name_end + 4 + size]
        at = end
