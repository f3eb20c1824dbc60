"""XMP of a raw file, and what of it is still true once the raw has been developed by another program."""

from __future__ import annotations

from xml.etree import ElementTree

_LARGEST = 2**20  # bytes; words on a photograph are fewer
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
        body = ElementTree.tostring(root, "unicode")
    except (ElementTree.ParseError, LookupError, ValueError, RecursionError):
        return b""
    return f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{body}<?xpacket end="w"?>'.encode()


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
