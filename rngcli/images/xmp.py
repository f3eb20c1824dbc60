"""XMP: what of a raw's is still true once it is developed, and packets in several pieces."""

from __future__ import annotations

import hashlib
import struct
from xml.etree import ElementTree

_LARGEST = 2**20  # bytes; words on a photograph are fewer
MORE_MARK = b"http://ns.adobe.com/xmp/extension/\0"
_LARGEST_JOINED = 2**26
_PIECE_HEAD = 35 + 32 + 4 + 4  # bytes before a piece's text
_HAS_MORE = "{http://ns.adobe.com/xmp/note/}HasExtendedXMP"
_COMPANIONS = (
    "{http://ns.adobe.com/hdr-gain-map/1.0/}", "{http://ns.apple.com/HDRGainMap/1.0/}",
    "{http://ns.google.com/photos/1.0/container/}", "{http://ns.google.com/photos/1.0/camera/}",
)  # fmt: skip
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
# What people and cameras say of the photograph. All else is about the raw file or about how another program would
# develop it: read again with the output, those settings would be applied a second time.
_KEPT = {
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://ns.adobe.com/xap/1.0/rights/": "xmpRights",
    "http://ns.adobe.com/photoshop/1.0/": "photoshop",
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/": "Iptc4xmpCore",
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/": "Iptc4xmpExt",
    "http://ns.useplus.org/ldf/xmp/1.0/": "plus",
    "http://ns.adobe.com/lightroom/1.0/": "lr",
    "http://www.digikam.org/ns/1.0/": "digiKam",
    "http://ns.adobe.com/exif/1.0/aux/": "aux",
}
_OF_THE_FILE = {
    "format", "CreatorTool", "ModifyDate", "MetadataDate", "Thumbnails", "ImageRegion", "SidecarForExtension",
    "ICCProfile", "ColorMode", "EmbeddedXMPDigest", "LegacyIPTCDigest", "DocumentAncestors", "History", "TextLayers",
}  # fmt: skip
for _uri, _prefix in {"adobe:ns:meta/": "x", _RDF[1:-1]: "rdf", **_KEPT}.items():
    ElementTree.register_namespace(_prefix, _uri)


def of_the_photograph(packet: bytes) -> bytes:
    """The packet without what describes the raw file or how to develop it; b'' where nothing is left or it is damaged.

    Words, keywords, ratings, rights, places and the lens stay; sizes, thumbnails, regions, histories and develop
    settings go.
    """
    if len(packet) > _LARGEST or b"<!DOCTYPE" in packet:  # XMP has none, and so no entities that could be expanded
        return b""
    try:
        root = ElementTree.fromstring(packet.strip(b"\0"))
        rdf = root if root.tag == f"{_RDF}RDF" else root.find(f"{_RDF}RDF")
        if rdf is None or not _thinned(rdf):
            return b""
        return _packet(root)
    except (ElementTree.ParseError, LookupError, ValueError, RecursionError):
        return b""


def _thinned(rdf: ElementTree.Element) -> int:
    """Leave out, in place, all properties that are not of the photograph; the number of those that are."""
    for description in list(rdf):
        for name in [name for name in description.attrib if name.startswith("{") and not _is_kept(name)]:
            del description.attrib[name]
        for child in [child for child in description if not _is_kept(child.tag)]:
            description.remove(child)
        if not _properties(description):
            rdf.remove(description)
    return sum(map(_properties, rdf))


def _is_kept(name: str) -> bool:
    uri, _, local = name[1:].partition("}")
    return name == f"{_RDF}about" or (uri in _KEPT and local not in _OF_THE_FILE)


def _properties(description: ElementTree.Element) -> int:
    return len(description) + len(description.attrib.keys() - {f"{_RDF}about", "about"})


def joined(packet: bytes, pieces: tuple[bytes, ...]) -> bytes:
    """One packet of a main one and of the pieces that continue it in a JPEG: mark, GUID, size, offset, and text."""
    rest = bytearray()
    for piece in sorted(pieces, key=lambda piece: piece[_PIECE_HEAD - 4 : _PIECE_HEAD]):
        rest += piece[_PIECE_HEAD:]
    try:
        main, more = (_parsed(part) for part in (packet, bytes(rest)))
    except (ElementTree.ParseError, ValueError, RecursionError):
        return packet
    target, source = (root if root.tag == f"{_RDF}RDF" else root.find(f"{_RDF}RDF") for root in (main, more))
    if target is None or source is None:
        return packet
    for description in list(target):
        description.attrib.pop(_HAS_MORE, None)
        for child in [child for child in description if child.tag == _HAS_MORE]:
            description.remove(child)
    target.extend(list(source))
    return _packet(main)


def in_pieces(packet: bytes, room: int) -> tuple[bytes, tuple[bytes, ...]]:
    """A packet too long for one segment of a JPEG as a main one and the pieces that continue it: `joined` reversed.

    ISO 16684-1 and Adobe's XMP specification, part 3: the main packet names the others by their MD5.
    """
    start, end = packet.find(b"<x:xmpmeta"), packet.rfind(b"</x:xmpmeta>")
    text = packet[start : end + len(b"</x:xmpmeta>")] if 0 <= start < end else packet
    name = hashlib.md5(text, usedforsecurity=False).hexdigest().upper()
    note = f'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="{name}"'
    rdf = f'<rdf:RDF xmlns:rdf="{_RDF[1:-1]}"><rdf:Description rdf:about="" {note}/></rdf:RDF>'
    main = (
        f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">{rdf}</x:xmpmeta>'
    )
    size = room - _PIECE_HEAD
    pieces = (
        MORE_MARK + name.encode() + struct.pack(">II", len(text), at) + text[at : at + size]
        for at in range(0, len(text), size)
    )
    return (main + '<?xpacket end="w"?>').encode(), tuple(pieces)


def without_companions(packet: bytes) -> bytes:
    """The packet without what it says of pictures and films that lay behind this one and are not there any more."""
    if not any(uri[1:-1].encode() in packet for uri in _COMPANIONS):
        return packet
    try:
        root = _parsed(packet)
    except (ElementTree.ParseError, ValueError, RecursionError):
        return packet
    for description in list(root.iter(f"{_RDF}Description")):
        for name in [name for name in description.attrib if name.startswith(_COMPANIONS)]:
            del description.attrib[name]
        for child in [child for child in description if child.tag.startswith(_COMPANIONS)]:
            description.remove(child)
    return _packet(root)


def _parsed(packet: bytes) -> ElementTree.Element:
    if len(packet) > _LARGEST_JOINED or b"<!DOCTYPE" in packet:
        raise ValueError("no XMP")
    return ElementTree.fromstring(packet.strip(b"\0"))


def _packet(root: ElementTree.Element) -> bytes:
    body = ElementTree.tostring(root, "unicode")
    return f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{body}<?xpacket end="w"?>'.encode()
