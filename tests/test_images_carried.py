"""What goes with a picture and has no place, too little place, or a place of its own elsewhere: carried or named."""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zlib
from dataclasses import replace

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import PngImagePlugin

from rngcli import images
from rngcli.errors import PictureError
from rngcli.images import Image, Metadata, ifd
from rngcli.images.jpeg_segments import segments
from rngcli.images.maker_note import relocated
from tests.test_images import png16_by_hand, smooth
from tests.test_images_metadata import IPTC, XMP, exif_block

TARGETS = ("jpeg", "png", "tiff", "webp", "avif", "heic", "jxl")
PIXELS = smooth().astype(np.float32) / 255


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    return png16_by_hand(smooth().astype(np.uint16) * 257, 2, *chunks)


def jpeg_of(**more: object) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(smooth()).save(file, "JPEG", quality=92, **more)
    return file.getvalue()


# EXIF in other places.


def raw_profile(name: str, block: bytes) -> bytes:
    """A text as ImageMagick writes it: the name, the number of bytes, hexadecimal digits in lines of 72."""
    digits = block.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    return f"\n{name}\n{len(block):8}\n{lines}\n".encode()


def packed(keyword: str, text: bytes, kind: str) -> tuple[bytes, bytes]:
    body = {"tEXt": b"\0" + text, "zTXt": b"\0\0" + zlib.compress(text), "iTXt": b"\0\1\0\0\0" + zlib.compress(text)}[
        kind
    ]
    return kind.encode(), keyword.encode() + body


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt"])
@pytest.mark.parametrize("name", ["exif", "APP1"])
@pytest.mark.parametrize("prefix", [b"Exif\0\0", b""])
def test_exif_in_a_text_of_a_png_is_exif(kind, name, prefix):
    text = raw_profile(name, prefix + exif_block(6))
    image = images.decode(png_of(packed(f"Raw profile type {name}", text, kind)))
    assert image.metadata.exif == exif_block(6)
    assert not image.metadata.text
    for target in TARGETS:
        back = images.decode(images.encode(image, target))
        assert ifd.parse(back.metadata.exif).text(0x10F) == "Kamerawerk"
        assert back.metadata.orientation == (6 if target == "png" else 1)
        assert back.pixels.shape[:2] == ((48, 64) if target == "png" else (64, 48))


def test_other_blocks_in_texts_of_a_png():
    from tests.test_images_colour import PROFILES

    chunks = [packed(f"Raw profile type {name}", raw_profile(name, block), "zTXt")
              for name, block in (("xmp", XMP), ("iptc", IPTC), ("icc", PROFILES["adobe"]))]  # fmt: skip
    metadata = images.decode(png_of(*chunks)).metadata
    assert (metadata.xmp, metadata.iptc, metadata.icc) == (XMP, IPTC, PROFILES["adobe"])


@pytest.mark.parametrize("text", [b"exif", b"\nexif\n  9\n00", b"\nexif\n x\n00", b"\nexif\n 2\nzz00"])
def test_a_damaged_text_stays_a_text(text):
    metadata = images.decode(png_of(packed("Raw profile type exif", text, "tEXt"))).metadata
    assert not metadata.exif
    assert metadata.text


def test_exif_with_the_mark_of_jpeg():
    webp = io.BytesIO()
    Pillow.fromarray(smooth()).save(webp, "WEBP", exif=b"Exif\0\0" + exif_block(6))
    for data in (png_of((b"eXIf", b"Exif\0\0" + exif_block(6))), webp.getvalue()):
        image = images.decode(data)
        assert image.metadata.exif == exif_block(6)
        assert ifd.parse(images.decode(images.encode(image, image.format)).metadata.exif).text(0x110) == "K 1"


# Blocks that are full.


def full_exif(size: int, software: bytes = b"") -> bytes:
    """A block of exactly so many bytes, most of them a maker note."""

    def of(count: int) -> bytes:
        camera = ifd.Directory("<", {0x927C: ifd.Field(ifd.UNDEFINED, count, b"M" * count)})
        fields = {0x10F: ifd.ascii_field("Kamerawerk"), 0x112: ifd.short_field("<", 1)}
        fields |= {0x131: ifd.Field(ifd.ASCII, len(software), software)} if software else {}
        return ifd.stream(ifd.Directory("<", fields, {ifd.EXIF_POINTER: camera}))

    return of(size - len(of(1000)) + 1000)


@pytest.mark.parametrize("software", [b"", b"a long name of a program\0"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_full_block_keeps_its_maker_note(software, orientation):
    block = full_exif(65526, software).replace(
        struct.pack("<HHIH", 0x112, 3, 1, 1), struct.pack("<HHIH", 0x112, 3, 1, orientation)
    )
    image = images.decode(jpeg_of(exif=b"Exif\0\0" + block))
    assert images.losses(image, "jpeg") == ()
    back = ifd.parse(images.decode(images.encode(image, "jpeg")).metadata.exif)
    assert (
        back.children[ifd.EXIF_POINTER].fields[0x927C].data
        == ifd.parse(block).children[ifd.EXIF_POINTER].fields[0x927C].data
    )
    assert back.number(0x112) == orientation
    assert back.text(0x131).startswith("rng") == bool(software)


def test_exif_that_no_jpeg_holds_is_named():
    image = images.decode(png_of((b"eXIf", full_exif(70_000))))
    assert "EXIF" in images.losses(image, "jpeg")[0]
    assert ifd.parse(images.decode(images.encode(image, "jpeg")).metadata.exif).text(0x10F) == "Kamerawerk"
    assert images.losses(image, "webp") == ()


def long_xmp(size: int) -> bytes:
    words = "".join(f"<rdf:li>word {i}</rdf:li>" for i in range(size // 20))
    return (f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            f'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/'
            f'xap/1.0/" xmp:Rating="4"><dc:subject><rdf:Bag>{words}</rdf:Bag></dc:subject></rdf:Description></rdf:RDF>'
            f"</x:xmpmeta>").encode()  # fmt: skip


def test_long_xmp_is_split_as_adobe_has_it_and_joined_again():
    xmp = long_xmp(150_000)
    data = images.encode(Image(PIXELS, "png", metadata=Metadata(xmp=xmp)), "jpeg")
    bodies = [data[start + 4 : end] for marker, start, end in segments(data) if marker == 0xE1]
    (main,) = (body for body in bodies if body.startswith(b"http://ns.adobe.com/xap/1.0/\0"))
    name = re.search(rb'HasExtendedXMP="([0-9A-F]{32})"', main)[1]
    mark = b"http://ns.adobe.com/xmp/extension/\0"
    rest, pieces = b"", [body for body in bodies if body.startswith(mark)]
    assert len(pieces) == 3
    for body in pieces:
        assert body[35:67] == name
        whole, offset = struct.unpack_from(">II", body, 67)
        assert (whole, offset) == (len(xmp), len(rest))
        rest += body[75:]
    assert rest == xmp
    assert hashlib.md5(rest).hexdigest().upper().encode() == name
    image = images.decode(data)
    for target in ("png", "tiff", "webp", "avif", "heic", "jxl"):
        packet = images.decode(images.encode(image, target)).metadata.xmp
        assert packet.count(b"<rdf:li>word ") == 7500
        assert b"Rating" in packet
        assert b"HasExtendedXMP" not in packet
    assert images.decode(images.encode(image, "jpeg")).metadata.xmp_more == image.metadata.xmp_more


def test_long_metadata_of_a_small_noisy_picture():
    noise = np.random.default_rng(0).random((23, 31, 3), np.float32)
    data = images.encode(Image(noise, "png", metadata=Metadata(full_exif(65000), long_xmp(150_000))), "jpeg")
    assert len(images.decode(data).metadata.xmp_more) == 3


# Maker notes.


def with_note(start: bytes = b"", base: str = "stream") -> tuple[bytes, bytes]:
    """A block with a maker note that is a directory, its offsets counted from the stream or the note; and its text."""
    text = b"Lens 35mm of Owner\0"
    row = struct.pack("<HHHII", 1, 0x95, 2, len(text), 0)
    note = start + row + bytes(4) + text

    def block(of: bytes) -> bytes:
        camera = ifd.Directory("<", {0x927C: ifd.Field(ifd.UNDEFINED, len(of), of), 0x9003: ifd.ascii_field("2024")})
        return ifd.stream(ifd.Directory("<", {0x10F: ifd.ascii_field("Maker")}, {ifd.EXIF_POINTER: camera}))

    place = block(note).index(note) if base == "stream" else 0
    offset = place + len(start) + len(row) + 4
    note = note[: len(start) + 10] + struct.pack("<I", offset) + note[len(start) + 14 :]
    return block(note), text


def text_of_note(stream: bytes, start: int, base: str) -> bytes:
    entry = ifd.parse(stream).children[ifd.EXIF_POINTER].fields[0x927C]
    count, offset = struct.unpack_from("<II", entry.data, start + 6)
    at = offset + (0 if base == "stream" else entry.at)
    return stream[at : at + count]


@pytest.mark.parametrize(
    ("start", "base"), [(b"", "stream"), (b"SONY DSC \0\0\0", "stream"), (b"", "note"), (b"FUJIFILM", "note")]
)
@pytest.mark.parametrize("target", TARGETS)
def test_a_maker_note_reads_as_before_wherever_it_lies(start, base, target):
    block, text = with_note(start, base)
    assert text_of_note(block, len(start), base) == text
    image = images.decode(jpeg_of(exif=b"Exif\0\0" + block))
    data = images.encode(image, target)
    stream = data if target == "tiff" else images.decode(data).metadata.exif
    assert text_of_note(stream, len(start), base) == text
    again = images.decode(images.encode(images.decode(data), "jpeg")).metadata.exif
    assert text_of_note(again, len(start), base) == text


def test_where_a_note_says_that_it_lay_goes_along():
    block, _ = with_note()
    note = ifd.parse(block).children[ifd.EXIF_POINTER].fields[0x927C]
    moved = relocated(note.data + b"II*\0" + struct.pack("<I", note.at), note.at, 4711)
    assert moved[-4:] == struct.pack("<I", 4711)


def test_a_full_block_is_turned_without_growing():
    block = full_exif(65526).replace(struct.pack("<HHIH", 0x112, 3, 1, 1), struct.pack("<HHIH", 0x112, 3, 1, 6))
    image = images.decode(png_of((b"eXIf", block)))
    back = images.decode(images.encode(image, "jpeg"))
    assert back.pixels.shape[:2] == (64, 48)
    assert back.metadata.orientation == 1
    assert len(back.metadata.exif) == 65526
    assert images.losses(image, "jpeg") == ()


@pytest.mark.parametrize("note", [b"", b"x", bytes(40), b"\xff" * 40, struct.pack("<H", 3) + b"\1" * 36])
def test_a_note_of_another_kind_goes_as_it_is(note):
    camera = ifd.Directory("<", {0x927C: ifd.Field(ifd.UNDEFINED, len(note), note), 0x9003: ifd.ascii_field("2024")})
    block = ifd.stream(ifd.Directory("<", {0x10F: ifd.ascii_field("Maker")}, {ifd.EXIF_POINTER: camera}))
    data = images.encode(Image(PIXELS, "jpeg", metadata=Metadata(exif=block)), "tiff")
    found = ifd.parse(data).children[ifd.EXIF_POINTER].fields.get(0x927C)
    assert (found.data if found else b"") == note


# The shape of pixels.


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("orientation", [1, 6])
def test_pixels_that_are_not_square(target, orientation):
    exif = [(b"eXIf", exif_block(orientation))]
    image = images.decode(png_of((b"pHYs", struct.pack(">IIB", 2, 4, 0)), *exif))
    assert image.metadata.aspect == (1, 2)
    data = images.encode(image, target)
    if target in ("webp", "avif", "jxl"):
        assert "not square" in images.losses(image, target)[0]
        return
    assert images.losses(image, target) == ()
    expected = (2, 1) if orientation == 6 and target != "png" else (1, 2)
    assert images.decode(data).metadata.aspect == expected
    if target == "jpeg":
        assert Pillow.open(io.BytesIO(data)).info["jfif_density"] == expected
    if target == "tiff":
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            tags = file.pages[0].tags
            assert tags["ResolutionUnit"].value == 1
            assert tags["XResolution"].value[0] / tags["YResolution"].value[0] == expected[0] / expected[1]


# What lies beside or behind a picture.

GAIN_MAP_XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:'
    b'Description xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" xmlns:Container="http://ns.google.com/photos/1.0/'
    b'container/" xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    b'hdrgm:Version="1.0" GCamera:MotionPhoto="1" xmp:Rating="3"><Container:Directory><rdf:Seq/></Container:Directory>'
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)


@pytest.mark.parametrize("behind", [jpeg_of(), bytes(7) + jpeg_of(progressive=True), b"\0\0\0\x18ftypmp42" + bytes(99)])
def test_what_lies_behind_a_jpeg_is_named_and_no_longer_spoken_of(behind):
    first = jpeg_of(xmp=GAIN_MAP_XMP)
    image = images.decode(first + behind)
    assert ("film" if b"ftyp" in behind else "1 more") in image.notes[0]
    data = images.encode(image, "jpeg")
    for word in (b"hdrgm:", b"Container", b"MotionPhoto"):
        assert word not in data
    assert b"Rating" in data
    assert not images.decode(data).notes
    alone = images.decode(first)
    assert not alone.notes
    assert alone.metadata.xmp == GAIN_MAP_XMP


def test_other_data_behind_a_jpeg_are_named():
    assert "5 bytes" in images.decode(jpeg_of() + b"SEFT!").notes[0]
    assert images.decode(jpeg_of() + bytes(64)).notes == ()


def test_damaged_parts_of_a_png_are_named():
    from tests.test_images_colour import PROFILES

    data = png_of((b"iCCP", b"x\0\0" + zlib.compress(PROFILES["adobe"])), (b"tEXt", b"Author\0Anna"))
    at = data.index(b"iCCP") + 20
    image = images.decode(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert "iCCP" in image.notes[0]
    assert image.metadata.text


def test_stereo_pairs_and_progressive_pictures_are_counted():
    file = io.BytesIO()
    frames = [Pillow.fromarray(smooth()), Pillow.fromarray(255 - smooth()), Pillow.fromarray(smooth()[::-1])]
    frames[0].save(file, "MPO", save_all=True, append_images=frames[1:])
    assert "2 more" in images.decode(file.getvalue()).notes[0]
    assert images.decode(jpeg_of(progressive=True)).notes == ()


@pytest.mark.parametrize("segment", [b"\xff\xeb\0\x10JP\0\1\0\0\0\1\0\0\0\0\0\0", b"\xff\xe1\0\x0cFLIR\0\1\0\0\0\0"])
def test_segments_that_become_untrue_are_named(segment):
    data = jpeg_of()
    assert "left out" in images.decode(data[:2] + segment + data[2:]).notes[0]


def test_auxiliary_pictures_of_a_heic_are_named():
    file = io.BytesIO()
    heif = pillow_heif.from_pillow(Pillow.fromarray(smooth()))
    heif.save(file, xmp=GAIN_MAP_XMP)
    assert images.decode(file.getvalue()).metadata.xmp == GAIN_MAP_XMP


@pytest.mark.parametrize(("tag", "word"), [(37724, "layers"), (330, "sub-pictures")])
def test_layers_and_sub_pictures_of_a_tiff_are_named(tag, word):
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        extra = [(37724, 7, 20, b"Adobe Photoshop Docu", True)] if tag == 37724 else []
        writer.write(smooth(), photometric="rgb", extratags=extra, subifds=1 if tag == 330 else 0, metadata=None)
        if tag == 330:
            writer.write(smooth()[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
    image = images.decode(file.getvalue())
    assert word in image.notes[0]
    with tifffile.TiffFile(io.BytesIO(images.encode(image, "tiff"))) as seen:
        assert tag not in seen.pages[0].tags


# Files that only look damaged.


@pytest.mark.parametrize("more", [{}, {"progressive": True}, {"optimize": True, "subsampling": 2}])
def test_a_jpeg_without_its_end_marker_is_whole(more):
    data = jpeg_of(**more)
    for ending in (data[:-2], data[:-1]):
        image = images.decode(ending)
        assert np.array_equal(image.pixels, images.decode(data).pixels)
        assert "end marker" in image.notes[0]


@pytest.mark.parametrize("missing", [30, 60, 200])
def test_a_jpeg_that_lacks_more_is_refused(missing):
    with pytest.raises(PictureError, match=r"too early|truncated"):
        images.decode(jpeg_of()[:-missing])


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize(("bits", "lossless"), [(12, False), (8, True), (12, True), (16, True)])
def test_rare_jpegs_are_read(grey, bits, lossless):
    levels = 2**bits - 1
    array = np.rint(PIXELS * levels).astype(np.uint8 if bits == 8 else np.uint16)
    array = np.ascontiguousarray(array[..., 0]) if grey else array
    data = bytes(imagecodecs.jpeg8_encode(array, 98, bitspersample=bits, lossless=lossless))
    image = images.decode(data)
    assert image.depth == bits
    assert image.grey == grey
    error = np.abs(image.pixels - (PIXELS[..., :1] if grey else PIXELS)).max()
    assert error < (1 / levels if lossless else 0.03)
    assert bool(image.notes) == (bits > 8)
    assert images.decode(images.encode(image, "tiff")).depth == (8 if bits == 8 else 16)


def test_an_apng_of_one_frame_is_a_still():
    data = png_of((b"acTL", struct.pack(">II", 1, 0)), (b"fcTL", struct.pack(">5IHHBB", 0, 64, 48, 0, 0, 1, 1, 0, 0)))
    assert np.array_equal(np.rint(images.decode(data).pixels * 255), smooth())
    with pytest.raises(PictureError, match="animated"):
        images.decode(png_of((b"acTL", struct.pack(">II", 2, 0))))


def test_a_png_without_its_end_chunk_is_whole():
    file = io.BytesIO()
    Pillow.fromarray(smooth()).save(file, "PNG", pnginfo=PngImagePlugin.PngInfo())
    data = file.getvalue()
    for ending in (data[:-12], data[:-5]):
        image = images.decode(ending)
        assert np.array_equal(np.rint(image.pixels * 255), smooth())
        assert "end" in image.notes[0]
    with pytest.raises(PictureError):
        images.decode(data[:-30])
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(noise).save(file, "PNG")
    second = file.getvalue().rindex(b"IDAT") - 4  # there are several
    with pytest.raises(PictureError):
        images.decode(file.getvalue()[:second])


def test_a_second_pass_carries_the_same():
    for target in TARGETS:
        image = Image(PIXELS, "jpeg", metadata=Metadata(exif_block(1), long_xmp(90_000), IPTC))
        once = images.decode(images.encode(image, target))
        assert images.decode(images.encode(once, target)).metadata == replace(once.metadata)
