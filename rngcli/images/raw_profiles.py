"""EXIF, IPTC, XMP and ICC in the texts of a PNG, as ImageMagick and its kin write them: hexadecimal, under a name."""

from __future__ import annotations

from dataclasses import replace

from rngcli.images.exif import bare
from rngcli.images.metadata import Metadata, split_resources
from rngcli.images.words import text_of

_PREFIX = "Raw profile type "
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_IPTC_MARK = b"\x1c"


def with_raw_profiles(metadata: Metadata) -> Metadata:
    """The metadata with such texts as the blocks that they are, where the chunk of its own is not there."""
    others = []
    for kind, body in metadata.text:
        keyword, text = text_of(kind, body)
        block = _block(text) if keyword.startswith(_PREFIX) else b""
        if block:
            metadata = _with_block(metadata, keyword.removeprefix(_PREFIX).lower(), block)
        else:
            others.append((kind, body))
    return replace(metadata, text=tuple(others))


def _block(text: str) -> bytes:
    """The bytes of such a text: its name, their number, and they themselves, in lines."""
    try:
        _, size, digits = text.strip().split(None, 2)
        block = bytes.fromhex("".join(digits.split()))
        return block if len(block) == int(size) else b""
    except ValueError:
        return b""


def _with_block(metadata: Metadata, name: str, block: bytes) -> Metadata:
    if name == "xmp" or block.startswith(_XMP):
        return replace(metadata, xmp=metadata.xmp or block.removeprefix(_XMP))
    if name in ("exif", "app1"):
        return replace(metadata, exif=metadata.exif or bare(block))
    if name in ("icc", "icm"):
        return replace(metadata, icc=metadata.icc or block)
    if name in ("iptc", "8bim"):
        iptc, photoshop = (block, b"") if block.startswith(_IPTC_MARK) else split_resources(block)
        return replace(metadata, iptc=metadata.iptc or iptc, photoshop=metadata.photoshop or photoshop)
    return metadata
