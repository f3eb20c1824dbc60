"""XMP: what of a raw's is still true once it is developed, and packets in several pieces."""

from __future__ import annotations

from xml.etree import ElementTree

_LARGEST = 2**20  # bytes; words on a photograph are fewer
_LARGEST_JOINED = 2**26
_PIECE_HEAD = 35 + 32 + 4 + 4  # bytes before a piece's text
_HAS_MORE = "{http://ns.adobe.com/xmp/note/}HasExtendedXMP"
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


def _parsed(packet: bytes) -> ElementTree.Element:
    if len(packet) > _LARGEST_JOINED or b"<!DOCTYPE" in packet:
        raise ValueError("no XMP")
    return ElementTree.fromstring(packet.strip(b"\0"))


def _packet(root: ElementTree.Element) -> bytes:
    body = ElementTree.tostring(root, "unicode")
    return f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{body}<?xpacket end="w"?>'.encode()
