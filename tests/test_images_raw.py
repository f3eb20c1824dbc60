"""Camera raws become sensible 16-bit pictures with the camera's tags, or are refused in one line."""

from __future__ import annotations

import io
import os
import struct
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import ImageCms

from rngcli import images
from rngcli.errors import PictureError
from rngcli.images import Metadata, ReadOptions, ifd, raw
from rngcli.images.image import turned
from rngcli.images.mosaic import replace_hot_pixels
from rngcli.images.profiles import PROFILES
from rngcli.images.spaces import DISPLAY_P3, PROPHOTO, SRGB, space_of
from rngcli.images.xmp import of_the_photograph
from tests.dng_files import NEUTRAL, WHITE, Tag, bayer_dng, counts, dng_of, light, mosaic, rationals, srgb

FOLDER = Path(os.environ.get("RNG_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data" / "raw"
needs_raws = pytest.mark.skipif(not FOLDER.is_dir(), reason="no raw files at hand (RNG_SHARED/data/raw)")


def dng(order: ifd.ByteOrder = "<", more: dict[int, ifd.Field] | None = None) -> bytes:
    """A small Bayer DNG: a grey ramp of 16 bits under a neutral camera, with date, maker, lens and orientation 6."""
    height, width = 64, 96
    ramp = np.linspace(2000, 40000, width)[None].repeat(height, 0).astype(order + "u2").tobytes()
    unity = [1 if i % 4 == 0 else 0 for i in range(9)]
    shorts = {0x102: (16,), 0x103: (1,), 0x106: (32803,), 0x112: (6,), 0x115: (1,), 0x11C: (1,), 0x828D: (2, 2),
              0xC61A: (0,), 0xC61D: (65535,), 0xC65A: (21,)}  # fmt: skip
    longs = {0xFE: 0, 0x100: width, 0x101: height, 0x111: 8, 0x116: height, 0x117: len(ramp)}
    fields = {tag: ifd.short_field(order, *values) for tag, values in shorts.items()}
    fields |= {tag: ifd.long_field(order, value) for tag, value in longs.items()}
    fields |= {
        0x10F: ifd.ascii_field("Kamerawerk"), 0x110: ifd.ascii_field("K 1"),
        0x132: ifd.ascii_field("2024:05:06 07:08:09"),
        0x828E: ifd.Field(ifd.BYTE, 4, bytes((0, 1, 1, 2))), 0xC612: ifd.Field(ifd.BYTE, 4, bytes((1, 4, 0, 0))),
        0xC614: ifd.ascii_field("Kamerawerk K 1"),
        0xC621: ifd.Field(10, 9, struct.pack(order + "18i", *(v for u in unity for v in (u, 1)))),
        0xC628: ifd.Field(5, 3, struct.pack(order + "6I", *(1,) * 6)), **(more or {}),
    }  # fmt: skip
    camera = ifd.Directory(order, {
        0x829A: ifd.Field(5, 1, struct.pack(order + "II", 1, 250)), 0xA434: ifd.ascii_field("50mm f/1.8"),
        0x927C: ifd.Field(7, 9, b"maker own"),
    })  # fmt: skip
    place = 8 + len(ramp)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", place)
    return head + ramp + ifd.serialise(ifd.Directory(order, fields, {ifd.EXIF_POINTER: camera}), place, order)


@pytest.mark.parametrize("order", "<>")
def test_a_raw_becomes_a_16_bit_tiff_with_the_tags_of_the_camera(tmp_path, order):
    (tmp_path / "a.dng").write_bytes(dng(order))
    image = images.read(tmp_path / "a.dng")
    assert (image.format, image.depth, image.notes) == ("tiff", 16, ())
    assert image.pixels.shape[0] > image.pixels.shape[1]  # upright: the sensor lay on its side
    path = tmp_path / ("a" + images.output_suffix(".dng"))
    images.write(path, image)
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        assert file.asarray().dtype == np.uint16
        assert (tags["Make"].value, tags["Model"].value) == ("Kamerawerk", "K 1")
        assert tags["DateTime"].value == "2024:05:06 07:08:09"
        assert tags["Orientation"].value == 1
        assert tags["ExifTag"].value["ExposureTime"] == (1, 250)
        assert tags["ExifTag"].value["LensModel"] == "50mm f/1.8"
        assert "MakerNote" not in tags["ExifTag"].value


def block(data):
    return ifd.Field(ifd.BYTE, len(data), data)


LIGHTROOM = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"
 xmlns:darktable="http://darktable.sf.net/" xmp:Rating="4" xmp:CreatorTool="Lightroom" tiff:Orientation="6"
 dc:format="image/dng" crs:Exposure2012="+2.00" darktable:xmp_version="5">
 <dc:subject><rdf:Bag><rdf:li>Wald</rdf:li><rdf:li>Fluß</rdf:li></rdf:Bag></dc:subject>
 <crs:ToneCurve><rdf:Seq><rdf:li>0, 0</rdf:li></rdf:Seq></crs:ToneCurve>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()
IPTC = b"\x1c\x02\x19\x00\x04Wald"


def test_words_are_carried_over_and_spent_develop_settings_are_not(tmp_path):
    (tmp_path / "a.dng").write_bytes(dng("<", {0x2BC: block(LIGHTROOM + bytes(40)), 0x83BB: block(IPTC)}))
    images.write(tmp_path / "a.tif", images.read(tmp_path / "a.dng"))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        xmp, iptc = file.pages[0].tags[0x2BC].value, file.pages[0].tags[0x83BB].value
    assert iptc == IPTC
    (description,) = ElementTree.fromstring(xmp).iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    assert [name.rpartition("}")[2] for name in description.attrib] == ["about", "Rating"]
    assert [child.tag for child in description] == ["{http://purl.org/dc/elements/1.1/}subject"]
    assert [word.strip() for word in description.itertext() if word.strip()] == ["Wald", "Fluß"]
    assert b"camera-raw" not in xmp
    assert b"<dc:subject>" in xmp, "prefixes that people know"


def test_iptc_among_photoshops_resources_is_found():
    resources = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC + bytes(len(IPTC) % 2)
    assert images.decode(dng(">", {0x8649: block(resources)})).metadata.iptc == IPTC


@pytest.mark.parametrize(
    "packet",
    [
        LIGHTROOM[:-200],
        LIGHTROOM.replace(b"<x:xmpmeta", b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x:xmpmeta'),
        LIGHTROOM.replace(b'xmp:Rating="4"', b"").replace(b"dc:subject", b"crs:subject"),
        b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>",
        b"\xff\xfe" * 10,
        LIGHTROOM.replace(b"Wald", b"<rdf:li>" * 3000 + b"</rdf:li>" * 3000),
        LIGHTROOM.replace(b"Wald", b"Wald" * 2**18),
    ],
    ids=("torn", "entities", "settings only", "empty", "no xml", "deep", "large"),
)
def test_a_packet_that_is_damaged_or_says_nothing_is_left_out(packet):
    assert of_the_photograph(packet) == b""
    assert of_the_photograph(LIGHTROOM)


SPACES = {"srgb": SRGB, "p3": DISPLAY_P3, "prophoto": PROPHOTO}


@pytest.mark.parametrize("space", SPACES)
def test_the_developed_colours_are_the_scenes_in_the_space_of_the_profile(space, tmp_path):
    scene = light()
    image = images.decode(bayer_dng(scene), ReadOptions(raw_space=space))
    images.write(tmp_path / "a.tif", image)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        stored, icc = file.pages[0].asarray(), file.pages[0].tags[34675].value
    assert stored.dtype == np.uint16
    to_srgb = SPACES[space].to_srgb(stored.reshape(-1, 3).T / 65535).T.reshape(scene.shape)
    assert np.abs(to_srgb - srgb(scene)).mean() < 0.003
    found = space_of(Metadata(icc=icc), grey=False)[0] or SRGB
    assert np.abs(np.array(found.matrix) - np.array(SPACES[space].matrix)).max() < 1e-3
    assert ifd.parse(image.metadata.exif).children[ifd.EXIF_POINTER].number(0xA001) == (1 if space == "srgb" else 65535)


@pytest.mark.parametrize("name", PROFILES)
def test_littlecms_reads_the_profiles_of_developed_raws(name):
    colours = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    profile = ImageCms.ImageCmsProfile(io.BytesIO(PROFILES[name]))
    target = ImageCms.createProfile("sRGB")
    seen = ImageCms.profileToProfile(Pillow.fromarray(colours), profile, target, renderingIntent=1)
    ours = SPACES[name].to_srgb(colours.reshape(-1, 3).T / 255).clip(0, 1).T.reshape(colours.shape)
    assert np.abs(np.asarray(seen) - ours * 255).max() < 1.5
    assert space_of(Metadata(icc=PROFILES[name]), grey=False)[1] == ""


def test_a_monochrome_raw_is_grey(tmp_path):
    scene = light()[..., 1]
    image = images.decode(dng_of(counts(scene), "linear_raw"))
    assert image.grey
    assert np.abs(image.pixels[..., 0] - srgb(scene)).mean() < 0.003
    images.write(tmp_path / "a.tif", image)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.asarray().dtype == np.uint16
        assert file.asarray().shape == scene.shape
        icc = file.pages[0].tags[34675].value
    assert ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile.xcolor_space.strip() == "GRAY"


CROP = ((50719, "H", 2, (20, 10), True), (50720, "H", 2, (90, 70), True))


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_the_cameras_crop_is_the_pictures_frame(orientation):
    scene = light()
    whole = images.decode(bayer_dng(scene)).pixels
    image = images.decode(bayer_dng(scene, *CROP, orientation=orientation))
    assert np.array_equal(image.pixels, turned(whole[10:80, 20:110], orientation))
    assert image.metadata.orientation == 1


@pytest.mark.parametrize("crop", [((0, 0), (0, 0)), ((20, 10), (200, 200)), ((65535, 65535), (90, 70))])
def test_a_crop_that_cannot_be_is_none(crop):
    scene = light()
    origin, size = crop
    more = ((50719, "H", 2, origin, True), (50720, "H", 2, size, True))
    assert images.decode(bayer_dng(scene, *more)).pixels.shape == scene.shape


def finished_tiff(more: tuple[Tag, ...]) -> tuple[np.ndarray, bytes]:
    samples = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    file = io.BytesIO()
    tifffile.imwrite(file, samples, photometric="rgb", metadata=None, extratags=more)
    return samples, file.getvalue()


def test_a_finished_tiff_with_the_tags_of_a_dng_is_the_tiff_that_it_is():
    version = (50706, "B", 4, bytes((1, 4, 0, 0)), True)
    matrix = (50721, "2i", 9, rationals(np.eye(3)), True)
    samples, data = finished_tiff((version, (50708, "s", 0, "Synth", True), matrix))
    image = images.decode(data)
    assert (image.format, image.depth, image.notes) == ("tiff", 8, ())
    assert np.array_equal(np.rint(image.pixels * 255), samples)


def test_the_thumbnail_of_a_torn_dng_is_not_taken_for_the_picture():
    file = io.BytesIO()
    version = (50706, "B", 4, bytes((1, 4, 0, 0)), True)
    preview = np.zeros((30, 40, 3), np.uint8)
    tifffile.imwrite(file, preview, photometric="rgb", metadata=None, subfiletype=1, extratags=[version])
    with pytest.raises(PictureError, match="LibRaw"):
        images.decode(file.getvalue())


@pytest.mark.parametrize(("packing", "name"), [(52546, "JPEG XL"), (9, "VC-5")])
def test_a_dng_that_libraw_cannot_read_is_named_by_what_it_holds(packing, name):
    data = dng_of(counts(light()), "linear_raw", (50717, "H", 3, (WHITE,) * 3, True))
    data = data.replace(struct.pack("<HHIH", 259, 3, 1, 1), struct.pack("<HHIH", 259, 3, 1, packing))
    with pytest.raises(PictureError) as caught:
        images.decode(data)
    assert f"a DNG with {name} data, which LibRaw" in str(caught.value)
    assert "to DNG" not in caught.value.remedy


def test_hot_and_dead_pixels_go_and_stars_stay():
    rng = np.random.default_rng(0)
    samples = counts(mosaic(light(96, 128) * 0.2 * NEUTRAL) + rng.normal(0, 0.004, (96, 128)))
    brightest = np.unravel_index(samples.argmax(), samples.shape)
    hot = {(20, 30): 14000, (21, 31): 9000, (50, 71): 14900, (0, 0): 8000, (95, 127): 12000, brightest: 30}
    spoiled = samples.copy()
    for place, value in hot.items():
        spoiled[place] = value
    y, x = np.mgrid[0:96, 0:128]
    star = np.rint(9000 * np.exp(-((y - 70) ** 2 + (x - 100) ** 2) / 1.5)).astype(np.uint16)
    mended = spoiled + star
    count = replace_hot_pixels(mended, 30)
    changed = np.argwhere(mended != spoiled + star)
    assert len(hot) <= count == len(changed) <= len(hot) + 2, "of twelve thousand noisy ones"
    assert {tuple(place) for place in changed.tolist()} >= set(hot)
    assert all(abs(int(mended[place]) - int(samples[place])) < 300 for place in hot)
    assert np.array_equal(mended[66:75, 96:105], (spoiled + star)[66:75, 96:105])


@pytest.mark.parametrize("linear", [False, True])
def test_hot_pixels_are_replaced_before_the_demosaicing_and_counted(linear):
    samples = counts(mosaic(light() * NEUTRAL))
    clean = images.decode(dng_of(samples, "cfa"), ReadOptions(raw_linear=linear))
    samples[40, 50] = samples[60, 71] = WHITE
    data = dng_of(samples, "cfa")
    mended = images.decode(data, ReadOptions(raw_linear=linear))
    assert np.abs(mended.pixels - clean.pixels).max() < 0.02
    assert mended.notes == ("2 hot or dead pixels replaced; --keep-hot-pixels leaves them",)
    left = images.decode(data, ReadOptions(raw_linear=linear, keep_hot_pixels=True))
    assert left.notes == ()
    assert np.abs(left.pixels - clean.pixels).max() > 0.2


def test_brightness_is_fixed_unless_asked_for():
    plain, bright = (images.decode(dng(), ReadOptions(raw_bright=choice)).pixels for choice in (False, True))
    assert bright.mean() > plain.mean() * 1.05


def test_the_size_is_checked_before_the_sensor_is_read():
    with pytest.raises(PictureError, match="max-pixels"):
        images.decode(dng(), ReadOptions(max_pixels=64 * 96 - 1))


def test_a_decoder_that_dies_or_hangs_costs_one_picture(monkeypatch):
    def die(*_: object, **__: object) -> subprocess.CompletedProcess:
        return subprocess.CompletedProcess([], -11, b"", b"")

    monkeypatch.setattr(raw.subprocess, "run", die)
    with pytest.raises(PictureError, match="died"):
        images.decode(dng())

    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("", 1)

    monkeypatch.setattr(raw.subprocess, "run", hang)
    with pytest.raises(PictureError, match="not finished"):
        images.decode(dng())


def test_a_truncated_raw_is_refused():
    data = dng()
    directory = struct.unpack_from("<I", data, 4)[0]
    with pytest.raises(PictureError):
        images.decode(data[: directory + 100])


def test_black_is_refused():
    data = dng()
    with pytest.raises(PictureError, match="black"):
        images.decode(data[:8] + bytes(64 * 96 * 2) + data[8 + 64 * 96 * 2 :])


REFUSED = {"DSC8695.dng": "black", "IMG_1361.dng": "black", "Hero8.GPR": "Unsupported"}


@needs_raws
@pytest.mark.parametrize("name", REFUSED)
def test_what_libraw_cannot_do_is_refused_by_name(name):
    with pytest.raises(PictureError, match=REFUSED[name]):
        images.read(FOLDER / name)


@needs_raws
@pytest.mark.parametrize(
    ("name", "maker", "mean"),
    [("canon_CRW.CRW", "Canon", 0.30), ("colorchart.dng", "Canon", 0.23), ("Nikon_uncompressed.nef", "Nikon", 0.43)],
)
def test_real_raws(name, maker, mean):
    image = images.read(FOLDER / name)
    assert image.depth == 16
    assert image.pixels.mean() == pytest.approx(mean, abs=0.05)
    assert ifd.parse(image.metadata.exif).text(0x10F) == maker


@needs_raws
def test_a_jpeg_named_nef_is_a_jpeg():
    image = images.read(FOLDER / "Issue_247-1.nef")
    assert image.format == "jpeg"
    assert "JPEG" in image.notes[0]
