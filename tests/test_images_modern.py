"""AVIF, HEIC and JPEG XL keep depth, alpha, colours and metadata; other programs see in them what we do."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from dataclasses import replace

import imagecodecs
import numpy as np
import pillow_heif
import pytest
from PIL import Image as Pillow

from rngcli import images
from rngcli.errors import PictureError
from rngcli.images import Encoding, Image, Metadata, WriteOptions
from rngcli.images.colour import to_stored
from rngcli.images.jxl_header import PQ, Colours, Header, read_header, write_header
from rngcli.images.spaces import space_of
from tests.test_images import smooth
from tests.test_images_colour import PROFILES
from tests.test_images_metadata import ICC, XMP, exif_block

DEEP = [("avif", 10), ("avif", 12), ("heic", 10), ("heic", 12), ("jxl", 10), ("jxl", 12), ("jxl", 16)]


def ramp(depth: int, alpha: bool = False, grey: bool = False, **more: object) -> Image:
    """A smooth picture of more than 8 bit: its levels lie nearer to each other than those of 8 bit."""
    y, x = np.mgrid[:48, :64]
    pixels = np.stack([x / 640, y / 480, (x + y) / 1120] if not grey else [x / 640] * 3, axis=-1).astype(np.float32)
    plane = (np.arange(48 * 64).reshape(48, 64) * 21 % 65536).astype(np.uint16) if alpha else None
    return Image(pixels, depth=depth, alpha=plane, grey=grey, **more)


def srgb(image: Image) -> np.ndarray:
    """(3, N) float64 sRGB, beyond [0, 1] where the picture's own space is wider."""
    stored = to_stored(image).reshape(-1, 3).T.astype(np.float64)
    space, _ = space_of(image.metadata, image.grey)
    return stored if space is None else space.to_srgb(stored)


@pytest.mark.parametrize(("name", "depth"), DEEP)
@pytest.mark.parametrize("alpha", [False, True])
def test_more_than_8_bits_stay(name, depth, alpha):
    image = ramp(depth, alpha)
    back = images.decode(images.encode(image, name, WriteOptions(quality=99)))
    assert back.depth == depth
    assert len(np.unique(back.pixels[..., 0])) > 40  # 8 bit have 26 levels here
    assert np.abs(back.pixels - image.pixels).mean() < 0.0015
    if alpha:
        assert np.abs(back.alpha.astype(float) - image.alpha).mean() / 65535 < 0.005
    again = images.encode(back.with_pixels(back.pixels), "png")
    assert images.decode(again).depth == 16


@pytest.mark.parametrize("name", ["avif", "heic", "jxl"])
@pytest.mark.parametrize("depth", [8, 10])
def test_grey_stays_grey(name, depth):
    image = ramp(depth, grey=True)
    back = images.decode(images.encode(image, name))
    assert back.grey
    assert np.abs(back.pixels - image.pixels).mean() < 0.003


def test_a_deep_avif_carries_what_one_of_8_bit_does():
    metadata = Metadata(exif_block(6), XMP, icc=ICC)
    for depth in (8, 10, 12):
        data = images.encode(ramp(depth, format="avif", metadata=metadata), "avif")
        seen = Pillow.open(io.BytesIO(data))
        assert seen.info["icc_profile"] == ICC
        assert seen.info["xmp"] == XMP
        assert seen.getexif()[0x112] == 6
        samples = imagecodecs.avif_decode(data)
        assert samples.shape == (48, 64, 3)
        assert np.abs(samples / (2**depth - 1) - ramp(depth).pixels).mean() < 0.004


@pytest.mark.skipif(not shutil.which("avifdec"), reason="avifdec is not installed")
@pytest.mark.parametrize("alpha", [False, True])
def test_avifdec_reads_our_deep_avif(alpha, tmp_path):
    (tmp_path / "a.avif").write_bytes(images.encode(ramp(10, alpha), "avif"))
    subprocess.run(["avifdec", tmp_path / "a.avif", tmp_path / "a.png"], check=True, capture_output=True)
    samples = imagecodecs.png_decode((tmp_path / "a.png").read_bytes())
    assert samples.dtype == np.uint16
    assert samples.shape[2] == 3 + alpha
    assert np.abs(samples[..., :3] / 65535 - ramp(10).pixels).mean() < 0.003


@pytest.mark.parametrize("alpha", [np.full((48, 64), 65535, np.uint16), np.zeros((48, 64), np.uint16)])
def test_alpha_of_one_value(alpha):
    back = images.decode(images.encode(replace(ramp(10), alpha=alpha), "avif"))
    assert back.alpha is None or np.array_equal(back.alpha, alpha)
    assert back.alpha is not None or alpha.min() == 65535


@pytest.mark.parametrize("name", ["avif", "heic"])
def test_codes_of_hdr_stay(name):
    metadata = Metadata(colour=((b"cICP", bytes((9, 16, 0, 1))),))
    back = images.decode(images.encode(ramp(10, metadata=metadata), name))
    assert back.metadata.colour == metadata.colour


def test_what_a_phone_writes_is_upright_once():
    turned = Pillow.fromarray(smooth()).transpose(Pillow.Transpose.ROTATE_90)
    exif = Pillow.Exif()
    exif[0x112] = 6
    file = io.BytesIO()
    heif = pillow_heif.from_pillow(turned)
    heif.save(file, quality=95, exif=exif.tobytes(), chroma=444)  # with a turn in its boxes, as in EXIF
    image = images.decode(file.getvalue())
    assert image.metadata.orientation == 1
    assert image.pixels.shape == (48, 64, 3)
    assert np.abs(image.pixels * 255 - smooth()).mean() < 4
    back = pillow_heif.open_heif(io.BytesIO(images.encode(image, "heic"))).to_pillow()
    assert back.size == (64, 48)
    assert back.getexif()[0x112] == 1


@pytest.mark.parametrize("chroma", [444, 422, 420])
def test_heic_keeps_its_subsampling(chroma):
    file = io.BytesIO()
    pillow_heif.from_pillow(Pillow.fromarray(smooth())).save(file, chroma=chroma)
    again = images.encode(images.decode(file.getvalue()), "heic")
    assert pillow_heif.open_heif(io.BytesIO(again)).info["chroma"] == chroma


def test_further_pictures_of_a_heic_are_said():
    file = io.BytesIO()
    heif = pillow_heif.from_pillow(Pillow.fromarray(smooth()))
    heif.add_from_pillow(Pillow.fromarray(255 - smooth()))
    heif.save(file)
    assert "2 pictures" in images.decode(file.getvalue()).notes[0]


# JPEG XL.


HEADERS = [
    Header(1, 1), Header(70000, 300, bits=16, narrow=False, lossless=True), Header(5, 6, bits=32, floats=True),
    Header(9, 9, alpha=True, alpha_bits=(False, 10), premultiplied=True, bits=10),
    Header(640, 480, colours=Colours(transfer=2.2, primaries=((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, -0.0001)))),
    Header(640, 480, colours=Colours(grey=True, transfer=8)), Header(8, 8, colours=Colours(transfer=PQ)),
]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_is_read_as_it_was_written(header):
    stream = write_header(header)
    back = read_header(stream + bytes(8))
    assert back.end == len(stream)
    transfer = back.colours.transfer
    assert transfer == pytest.approx(header.colours.transfer, abs=1e-6)
    assert replace(back, end=0, colours=replace(back.colours, transfer=header.colours.transfer)) == header


@pytest.mark.parametrize("name", ["", *PROFILES])
@pytest.mark.parametrize("lossless", [True, False])
def test_jpeg_xl_holds_wide_colours(name, lossless):
    metadata = Metadata(icc=PROFILES[name] if name else b"")
    source = images.decode(images.encode(replace(ramp(16), metadata=metadata), "tiff"))  # in all of its profile's space
    back = images.decode(images.encode(replace(source, encoding=Encoding(lossless=lossless)), "jxl"))
    assert back.depth == 16
    error = np.abs(srgb(back) - srgb(source))
    assert error.mean() < (2e-4 if lossless else 7e-3)
    assert srgb(back).max() == pytest.approx(srgb(source).max(), abs=0.05)  # what lies beyond sRGB, too


@pytest.mark.skipif(not shutil.which("djxl"), reason="djxl is not installed")
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("lossless", [True, False])
def test_djxl_sees_the_colours_that_we_mean(depth, lossless, tmp_path):
    source = replace(ramp(depth), encoding=Encoding(lossless=lossless), metadata=Metadata(icc=PROFILES["adobe"]))
    (tmp_path / "a.jxl").write_bytes(images.encode(source, "jxl"))
    subprocess.run(["djxl", tmp_path / "a.jxl", tmp_path / "a.png"], check=True, capture_output=True)
    seen = images.read(tmp_path / "a.png")  # with the profile that djxl has made of the header
    assert seen.metadata.icc
    assert np.abs(srgb(seen) - srgb(source)).mean() < 0.01
    assert space_of(seen.metadata, False)[0] is not None


@pytest.mark.skipif(not shutil.which("cjxl"), reason="cjxl is not installed")
@pytest.mark.parametrize("options", [["-d", "0"], ["-d", "1"], ["-d", "1", "-p"], ["--container=1"]])
def test_files_of_cjxl_are_read(options, tmp_path):
    Pillow.fromarray(smooth()).save(tmp_path / "a.png")
    subprocess.run(["cjxl", tmp_path / "a.png", tmp_path / "a.jxl", *options], check=True, capture_output=True)
    image = images.read(tmp_path / "a.jxl")
    assert np.abs(image.pixels * 255 - smooth()).mean() < 2
    assert image.encoding.lossless == ("0" in options)
    assert not image.metadata.icc


@pytest.mark.skipif(not shutil.which("cjxl"), reason="cjxl is not installed")
def test_a_profile_that_the_decoder_keeps_to_itself_is_no_srgb(tmp_path):
    Pillow.fromarray(smooth()).save(tmp_path / "a.png", icc_profile=PROFILES["prophoto"])
    subprocess.run(["cjxl", tmp_path / "a.png", tmp_path / "a.jxl", "-d", "0"], check=True, capture_output=True)
    with pytest.raises(PictureError, match="djxl"):
        images.read(tmp_path / "a.jxl")


def test_a_recompressed_jpeg_is_not_written_lossless():
    file = io.BytesIO()
    Pillow.fromarray(smooth()).save(file, "JPEG")
    data = imagecodecs.jpegxl_encode_jpeg(file.getvalue(), usecontainer=True)
    image = images.decode(bytes(data))
    assert not image.encoding.lossless


def test_packed_metadata_is_read():
    data = images.encode(ramp(8, metadata=Metadata(xmp=XMP)), "jxl")
    at = data.index(b"xml ") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    packed = b"brobxml " + bytes(imagecodecs.brotli_encode(data[at + 8 : at + size]))
    data = data[:at] + (len(packed) + 4).to_bytes(4, "big") + packed + data[at + size :]
    assert (
        images.decode(data).metadata.xmp
        == images.decode(images.encode(ramp(8, metadata=Metadata(xmp=XMP)), "jxl")).metadata.xmp
    )


def table_profile(matrix: np.ndarray) -> bytes:
    """A scanner's profile of a table (lut16Type, ICC.1): sRGB's curve, then a cube to XYZ by its corners."""
    levels = np.linspace(0, 1, 256)
    light = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    curves = np.tile(np.rint(light * 65535), 3)
    corners = np.array([[r, g, b] for r in (0, 1) for g in (0, 1) for b in (0, 1)]) @ matrix.T
    cube = np.rint(corners.clip(0) * 32768).ravel()
    ends = np.tile([0, 65535], 3)
    numbers = np.concatenate([curves, cube, ends]).astype(">u2").tobytes()
    unity = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    table = b"mft2\0\0\0\0" + bytes((3, 3, 2, 0)) + unity + struct.pack(">HH", 256, 2) + numbers
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    tags = {b"A2B0": table, b"wtpt": white, b"cprt": b"text\0\0\0\0none\0\0\0\0"}
    tags[b"desc"] = struct.pack(">4sII", b"desc", 0, 5) + b"test\0" + bytes(78)
    rows, body, at = b"", b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        rows += struct.pack(">4sII", name, at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"lcms", 0x02400000, b"scnr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H4s4s", 2024, 1, 1, 0, 0, 0, b"acsp", b"APPL")
    head += struct.pack(">IIIQI3iI44x", 0, 0, 0, 0, 0, 63190, 65536, 54061, 0)
    return head[:128] + struct.pack(">I", len(tags)) + rows + body


SRGB_TO_D50 = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])


@pytest.mark.parametrize("lossless", [True, False])
def test_jpeg_xl_gets_the_colours_of_a_profile_of_tables(lossless):
    swapped = SRGB_TO_D50[:, [1, 0, 2]]  # a space whose red is sRGB's green
    metadata = Metadata(icc=table_profile(swapped))
    source = replace(ramp(16), metadata=metadata, encoding=Encoding(lossless=lossless))
    back = images.decode(images.encode(source, "jxl"))
    assert not back.metadata.icc
    assert np.abs(back.pixels - source.pixels[..., [1, 0, 2]]).mean() < 0.003
    assert "sRGB" in images.losses(source, "jxl")[0]
    broken = replace(source, metadata=Metadata(icc=metadata.icc[:300]))
    with pytest.raises(PictureError, match="profile"):
        images.encode(broken, "jxl")
