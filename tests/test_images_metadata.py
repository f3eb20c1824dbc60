"""Metadata survives every format that can hold it, and what the denoising makes untrue does not."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import ExifTags, ImageCms
from PIL import Image as Pillow

from rngcli import __version__, images
from rngcli.images import Image, Metadata, WriteOptions, ifd
from rngcli.images.metadata import joined_resources, shortened, split_resources

XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
    b'tiff:Orientation="6" photoshop:City="Wald"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
IPTC = b"\x1c\x02\x19\x00\x04Wald\x1c\x02\x78\x00\x03Tag"
RESOURCES = b"8BIM\x03\xed\x00\x00\x00\x00\x00\x10" + bytes(range(16))  # ResolutionInfo
THUMBNAIL = b"\xff\xd8\xff\xe0" + b"stale thumbnail" * 20 + b"\xff\xd9"
MAKER_NOTE = b"Maker\0" + bytes(range(200))
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + bytes(70000)  # longer than one JPEG segment
FORMATS = ("jpeg", "png", "tiff", "webp", "avif", "heic", "jxl")
TURNED = ("heic", "jxl")  # in which the tag of EXIF does not count


def exif_block(orientation: int = 1) -> bytes:
    """A camera's EXIF block: maker note, position, sizes, and a thumbnail in a second directory, big-endian."""
    camera = ifd.Directory(">", {
        0x9003: ifd.ascii_field("2024:05:06 07:08:09"),
        0xA002: ifd.long_field(">", 9999), 0xA003: ifd.short_field(">", 8),
        0x927C: ifd.Field(ifd.UNDEFINED, len(MAKER_NOTE), MAKER_NOTE),
        0x829A: ifd.Field(ifd.RATIONAL, 1, struct.pack(">II", 1, 250)),
        0xA434: ifd.ascii_field("50mm f/1.8"),
    })  # fmt: skip
    latitude = ifd.Field(ifd.RATIONAL, 3, struct.pack(">6I", 52, 1, 30, 1, 0, 1))
    gps = ifd.Directory(">", {1: ifd.ascii_field("N"), 2: latitude})
    first = {
        0x10F: ifd.ascii_field("Kamerawerk"), 0x110: ifd.ascii_field("K 1"), 0x112: ifd.short_field(">", orientation),
        0x131: ifd.ascii_field("firmware 1.0"),
    }  # fmt: skip
    tree = ifd.Directory(">", first, {ifd.EXIF_POINTER: camera, ifd.GPS_POINTER: gps})
    block = bytearray(ifd.stream(tree))
    block += bytes(len(block) % 2)
    at = len(block)
    thumbnail = {0x201: ifd.long_field(">", at + 30), 0x202: ifd.long_field(">", len(THUMBNAIL))}
    block += ifd.serialise(ifd.Directory(">", thumbnail), at, ">")
    assert len(block) == at + 30
    struct.pack_into(">I", block, 8 + 2 + 12 * 6, at)
    return bytes(block) + THUMBNAIL


def opened(data: bytes) -> Pillow.Image:
    """A file as Pillow and pillow-heif open it; of JPEG XL, which they do not, only what stands in its boxes."""
    if data[4:11] == b"ftyphei":
        return pillow_heif.open_heif(io.BytesIO(data)).to_pillow()
    if not data.startswith(b"\0\0\0\x0cJXL "):
        return Pillow.open(io.BytesIO(data))
    found, at = Pillow.new("RGB", (1, 1)), 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"Exif":
            found.info["exif"] = data[at + 12 : at + size]
        if kind == b"xml ":
            found.info["xmp"] = data[at + 8 : at + size]
        at += size
    return found


def picture(name: str, orientation: int = 1) -> Image:
    metadata = Metadata(exif_block(orientation), XMP, IPTC, RESOURCES, ICC, b"a comment", (300.0, 300.0))
    y, x = np.mgrid[:24, :40]
    pixels = np.stack([x / 40, y / 24, (x + y) / 64], axis=-1).astype(np.float32)
    return Image(pixels, format=name, metadata=metadata)


def test_the_block_of_these_tests_is_what_a_camera_writes():
    exif = Pillow.Exif()
    exif.load(exif_block(6))
    assert exif[0x010F] == "Kamerawerk"
    assert exif.get_ifd(ExifTags.IFD.IFD1)[0x202] == len(THUMBNAIL)


@pytest.mark.parametrize("name", FORMATS)
def test_everything_the_format_holds_comes_back(name):
    data = images.encode(picture(name, 6), name)
    back = images.decode(data).metadata
    tree = ifd.parse(back.exif)
    camera = tree.children[ifd.EXIF_POINTER]
    assert tree.text(0x10F) == "Kamerawerk"
    assert tree.text(0x131) == f"rng {__version__}"
    assert camera.text(0x9003) == "2024:05:06 07:08:09"
    assert camera.numbers(0x829A) == (0.004,)
    assert camera.fields[0x927C].data == MAKER_NOTE
    assert tree.children[ifd.GPS_POINTER].numbers(2) == (52, 30, 0)
    if name in TURNED:
        assert back.orientation == 1
        assert back.xmp == XMP.replace(b'Orientation="6"', b'Orientation="1"')
    else:
        assert back.orientation == 6
        assert back.xmp == XMP
    assert back.icc == (ICC if name != "jxl" else b"")
    if name in ("jpeg", "tiff"):
        assert back.iptc == IPTC
        assert back.photoshop == RESOURCES
    if name in ("jpeg", "png", "tiff"):
        assert back.dpi == pytest.approx((300, 300), abs=0.02)
    assert back.comment == (b"a comment" if name == "jpeg" else b"")


@pytest.mark.parametrize("name", FORMATS)
def test_no_stale_thumbnail_and_no_wrong_size(name):
    data = images.encode(picture(name), name)
    assert b"stale thumbnail" not in data
    exif = opened(data).getexif()
    assert not exif.get_ifd(ExifTags.IFD.IFD1)
    camera = exif.get_ifd(ExifTags.IFD.Exif)
    assert (camera[0xA002], camera[0xA003]) == (40, 24)


@pytest.mark.parametrize("name", FORMATS)
def test_an_independent_reader_finds_the_same(name):
    seen = opened(images.encode(picture(name, 6), name))
    exif = seen.getexif()
    assert exif[0x110] == "K 1"
    assert exif[0x131] == f"rng {__version__}"
    assert exif[0x112] == (1 if name in TURNED else 6)
    assert exif.get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
    assert seen.info.get("icc_profile") == (None if name == "jxl" else ICC)
    xmp = seen.info.get("xmp") or seen.info.get("XML:com.adobe.xmp", "").encode() or seen.tag_v2[700]
    assert xmp == (XMP.replace(b'Orientation="6"', b'Orientation="1"') if name in TURNED else XMP)


def test_tifffile_reads_our_tags():
    with tifffile.TiffFile(io.BytesIO(images.encode(picture("tiff", 3), "tiff"))) as file:
        tags = file.pages[0].tags
        assert tags["Make"].value == "Kamerawerk"
        assert tags["Orientation"].value == 3
        assert tags["ExifTag"].value["ExposureTime"] == (1, 250)
        assert Fraction(*tags["XResolution"].value) == Fraction(3000000, 10000)
        assert tags["InterColorProfile"].value == ICC


@pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")
@pytest.mark.parametrize("name", FORMATS)
def test_exiftool_reads_the_same_and_warns_of_nothing(name, tmp_path):
    path = tmp_path / f"a{images.SUFFIX_OF_FORMAT[name]}"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = picture(name, 6)
    images.write(path, replace(image, metadata=replace(image.metadata, icc=icc, photoshop=b"")))
    said = subprocess.run(["exiftool", "-j", "-G1", "-n", "-a", path], capture_output=True, check=True).stdout
    tags = json.loads(said)[0]
    warnings = {value for tag, value in tags.items() if tag.endswith((":Warning", ":Error"))}
    assert warnings <= {"[minor] Unrecognized MakerNotes"}  # there is no such camera
    assert tags["IFD0:Make"] == "Kamerawerk"
    assert tags["IFD0:Software"] == f"rng {__version__}"
    assert tags["ExifIFD:ExposureTime"] == 0.004
    assert tags["ExifIFD:DateTimeOriginal"] == "2024:05:06 07:08:09"
    assert tags["GPS:GPSLatitude"] == 52.5
    assert name == "jxl" or tags["ICC-header:ColorSpaceData"].strip() == "RGB"
    assert tags["XMP-photoshop:City"] == "Wald"
    if name in ("jpeg", "tiff"):
        assert tags["IPTC:Keywords"] == "Wald"


def test_maker_notes_do_not_move():
    before, block = exif_block(), images.decode(images.encode(picture("jpeg"), "jpeg")).metadata.exif
    assert block.index(MAKER_NOTE) == before.index(MAKER_NOTE)


@pytest.mark.parametrize("name", FORMATS)
def test_a_second_pass_changes_nothing(name):
    once = images.decode(images.encode(picture(name, 6), name))
    twice = images.decode(images.encode(once, name))
    assert twice.metadata == once.metadata


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_orientation_is_applied_once_or_kept_once(target, orientation):
    image = picture("jpeg", orientation)
    back = images.decode(images.encode(image, target))
    if target == "jpeg":
        assert back.metadata.orientation == orientation
        assert back.pixels.shape == image.pixels.shape
    else:
        assert back.metadata.orientation == 1
        assert back.pixels.shape[:2] == ((40, 24) if orientation == 6 else (24, 40))
        assert (b'tiff:Orientation="1"' in back.metadata.xmp) == (orientation != 1 or target in TURNED)
        corner = {1: (0, 0), 3: (-1, -1), 6: (0, -1)}[orientation]
        assert np.abs(back.pixels[corner] - image.pixels[0, 0]).max() < 0.1


@pytest.mark.parametrize("name", FORMATS)
def test_stripping_leaves_the_profile_and_an_upright_picture(name):
    data = images.encode(picture(name, 6), name, WriteOptions(strip_metadata=True))
    back = images.decode(data)
    assert back.metadata.icc == (b"" if name == "jxl" else ICC)
    assert back.pixels.shape == (40, 24, 3)
    assert back.metadata.orientation == 1
    assert not back.metadata.xmp
    assert not back.metadata.iptc
    for secret in (b"Kamerawerk", b"2024:05:06", b"Wald", b"a comment", b"rng "):
        assert secret not in data


def test_png_text_and_colour_chunks_are_kept():
    text = ((b"tEXt", b"Author\0Anna"), (b"iTXt", b"Title\0\0\0de\0\0W\xc3\xa4lder"), (b"tEXt", b"Software\0old"))
    colour = ((b"gAMA", struct.pack(">I", 45455)),)
    image = Image(np.zeros((3, 3, 3), np.float32), metadata=Metadata(text=text, colour=colour))
    seen = Pillow.open(io.BytesIO(images.encode(image, "png")))
    seen.load()
    assert seen.text["Author"] == "Anna"
    assert seen.text["Title"] == "Wälder"
    assert seen.text["Software"] == f"rng {__version__}"
    assert seen.info["gamma"] == pytest.approx(0.45455)


def test_a_long_packet_of_xmp_keeps_its_further_segments():
    more = b"http://ns.adobe.com/xmp/extension/\0" + bytes(40) + b"<more/>"
    image = Image(np.zeros((3, 3, 3), np.float32), "jpeg", metadata=Metadata(xmp=XMP, xmp_more=(more,)))
    assert images.decode(images.encode(image, "jpeg")).metadata.xmp_more == (more,)


def test_an_exif_block_too_long_for_a_jpeg_loses_only_its_large_fields():
    fields = {0x10F: ifd.ascii_field("Kamerawerk"), 0xC000: ifd.Field(ifd.UNDEFINED, 90000, bytes(90000))}
    short = ifd.parse(shortened(ifd.stream(ifd.Directory("<", fields)), 65000))
    assert short.text(0x10F) == "Kamerawerk"
    assert 0xC000 not in short.fields


def test_photoshop_thumbnails_are_dropped_and_the_rest_is_kept():
    stale = b"8BIM\x04\x0c\x00\x00\x00\x00\x00\x03abc\0"
    iptc, others = split_resources(RESOURCES + stale + joined_resources(Metadata(iptc=IPTC)))
    assert iptc == IPTC
    assert others == RESOURCES
    assert split_resources(joined_resources(Metadata(iptc=IPTC, photoshop=RESOURCES))) == (IPTC, RESOURCES)


@pytest.mark.parametrize("seed", range(3))
def test_crafted_exif_never_stops_a_picture(seed):
    generator = np.random.default_rng(seed)
    good = exif_block()
    for _ in range(150):
        block = bytearray(good)
        for place in generator.integers(0, 160, 6):
            block[place] = generator.integers(0, 256)
        image = Image(np.zeros((2, 2, 3), np.float32), metadata=Metadata(exif=bytes(block)))
        for name in ("jpeg", "tiff"):
            assert images.decode(images.encode(image, name)).pixels.shape == (2, 2, 3)


def test_a_directory_that_points_to_itself_ends():
    loop = ifd.Directory("<", {0x10F: ifd.ascii_field("x")})
    block = bytearray(ifd.stream(loop))
    block[10:22] = struct.pack("<HHII", ifd.EXIF_POINTER, 4, 1, 8)
    assert ifd.parse(bytes(block)).children == {}


def test_tags_that_all_name_the_whole_block_take_no_memory():
    count, bulk = 500, bytes(100_000)
    rows = b"".join(struct.pack("<HHII", 0xC000 + i, ifd.UNDEFINED, len(bulk), 8) for i in range(count))
    block = b"II*\0" + struct.pack("<I", 8 + len(bulk)) + bulk + struct.pack("<H", count) + rows + bytes(4)
    assert sum(len(entry.data) for entry in ifd.parse(block).fields.values()) <= 2 * len(block)
