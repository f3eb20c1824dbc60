"""Words on a picture in the forms that formats have for them: IPTC, texts of a PNG, comments; all of them as XMP."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree
from xml.sax.saxutils import escape

Words = dict[str, list[str]]  # by XMP property

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_SPACES = {
    "dc": "http://purl.org/dc/elements/1.1/", "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
}  # fmt: skip
_LISTS = {"dc:title": "Alt", "dc:description": "Alt", "dc:rights": "Alt", "dc:subject": "Bag", "dc:creator": "Seq"}
# IPTC's data sets of record 2 as the IPTC's own guideline maps them.
_OF_IPTC = {
    5: "dc:title", 25: "dc:subject", 40: "photoshop:Instructions", 80: "dc:creator", 85: "photoshop:AuthorsPosition",
    90: "photoshop:City", 92: "Iptc4xmpCore:Location", 95: "photoshop:State", 100: "Iptc4xmpCore:CountryCode",
    101: "photoshop:Country", 103: "photoshop:TransmissionReference", 105: "photoshop:Headline",
    110: "photoshop:Credit", 115: "photoshop:Source", 116: "dc:rights", 120: "dc:description",
    122: "photoshop:CaptionWriter", 55: "photoshop:DateCreated",
}  # fmt: skip
_ABOUT_ITSELF = (0,)  # the version of the record
_OF_PNG = {"Title": "dc:title", "Author": "dc:creator", "Description": "dc:description", "Copyright": "dc:rights"}
COMMENT = "Comment"
_LARGEST = 2**20  # bytes of an unpacked text
_END = re.compile(rb"</(?:\w+:)?RDF\s*>")


def words_of_iptc(block: bytes) -> tuple[Words, list[str]]:
    """What IPTC says as XMP would, and the data sets for which XMP has no property, as they are numbered."""
    words: Words = {}
    others = []
    utf8 = any(number == (1, 90) and value == b"\x1b%G" for number, value in _data_sets(block))
    for (record, number), value in _data_sets(block):
        name = _OF_IPTC.get(number) if record == 2 else None
        text = value.decode("utf-8" if utf8 else "latin-1", "replace").strip("\0 ")
        if number == 55 and len(text) == 8:
            text = f"{text[:4]}-{text[4:6]}-{text[6:]}"
        if name and text:
            words.setdefault(name, []).append(text)
        elif record >= 2 and number not in _ABOUT_ITSELF and text:
            others.append(f"{record}:{number}")
    return words, sorted(set(others))


def _data_sets(block: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    at = 0
    while at + 5 <= len(block) and block[at] == 0x1C:
        record, number, size = struct.unpack_from(">BBH", block, at + 1)
        at += 5
        if size & 0x8000:  # the size of an extended data set follows in so many bytes
            count = size & 0x7FFF
            size, at = int.from_bytes(block[at : at + count], "big"), at + count
        yield (record, number), block[at : at + size]
        at += size


def words_of_png(chunks: tuple[tuple[bytes, bytes], ...]) -> tuple[Words, str, list[str]]:
    """What a PNG's texts say as XMP would, its comment, and the keywords of all others."""
    words: Words = {}
    comment, others = "", []
    for kind, body in chunks:
        keyword, text = text_of(kind, body)
        if keyword in _OF_PNG and text:
            words.setdefault(_OF_PNG[keyword], []).append(text)
        elif keyword == COMMENT:
            comment = text
        elif keyword and keyword != "Software":
            others.append(keyword)
    return words, comment, others


def text_of(kind: bytes, body: bytes) -> tuple[str, str]:
    """Keyword and text of a tEXt, zTXt or iTXt chunk; '' for both where it is none or damaged."""
    keyword, _, rest = body.partition(b"\0")
    try:
        if kind == b"zTXt":
            rest = zlib.decompressobj().decompress(rest[1:], _LARGEST)
        elif kind == b"iTXt":
            text = rest[2:].split(b"\0", 2)[2]
            text = zlib.decompressobj().decompress(text, _LARGEST) if rest[:1] == b"\1" else text
            return keyword.decode("latin-1"), text.decode("utf-8", "replace")
    except (zlib.error, IndexError):
        return "", ""
    return (keyword.decode("latin-1"), rest.decode("latin-1")) if kind in (b"tEXt", b"zTXt") else ("", "")


def with_words(packet: bytes, words: Mapping[str, list[str]]) -> bytes | None:
    """A packet of XMP that says these words too, where it says nothing of their kind; None where it is damaged."""
    try:
        said = _said(packet) if packet else set()
    except (ElementTree.ParseError, ValueError, RecursionError):
        return None
    new = {name: texts for name, texts in words.items() if name not in said}
    if not new:
        return packet
    spaces = "".join(f' xmlns:{prefix}="{uri}"' for prefix, uri in {"rdf": _RDF, **_SPACES}.items())
    body = "".join(_property(name, texts) for name, texts in new.items())
    description = f'<rdf:Description rdf:about=""{spaces}>{body}</rdf:Description>'.encode()
    if not packet:
        head = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        rdf = f'<rdf:RDF xmlns:rdf="{_RDF}">'.encode() + description + b"</rdf:RDF>"
        return head + rdf + b'</x:xmpmeta><?xpacket end="w"?>'
    end = _END.search(packet)
    return packet[: end.start()] + description + packet[end.start() :] if end else None


def _said(packet: bytes) -> set[str]:
    if len(packet) > 2**26 or b"<!DOCTYPE" in packet:
        raise ValueError("no XMP")
    prefixes = {uri: prefix for prefix, uri in _SPACES.items()}
    said = set()
    for description in ElementTree.fromstring(packet.strip(b"\0")).iter(f"{{{_RDF}}}Description"):
        for name in (*description.attrib, *(child.tag for child in description)):
            uri, _, local = name[1:].partition("}")
            said.add(f"{prefixes.get(uri, '')}:{local}")
    return said


def _property(name: str, texts: list[str]) -> str:
    kind = _LISTS.get(name)
    if not kind:
        return f"<{name}>{_clean(texts[0])}</{name}>"
    language = ' xml:lang="x-default"' if kind == "Alt" else ""
    chosen = texts[:1] if kind == "Alt" else texts
    items = "".join(f"<rdf:li{language}>{_clean(text)}</rdf:li>" for text in chosen)
    return f"<{name}><rdf:{kind}>{items}</rdf:{kind}></{name}>"


def _clean(text: str) -> str:
    return escape("".join(c for c in text if c >= " " or c in "\t\n\r"))
