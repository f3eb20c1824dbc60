"""Camera raws become sensible 16-bit pictures with the camera's tags, or are refused in one line."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile

from rngcli import images
from rngcli.errors import PictureError
from rngcli.images import ReadOptions, ifd, raw

FOLDER = Path(os.environ.get("RNG_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data" / "raw"
needs_raws = pytest.mark.skipif(not FOLDER.is_dir(), reason="no raw files at hand (RNG_SHARED/data/raw)")


def dng(order: ifd.ByteOrder = "<", **more: ifd.Field) -> bytes:
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
        0xC628: ifd.Field(5, 3, struct.pack(order + "6I", *(1,) * 6)),
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
    [("canon_CRW.CRW", "Canon", 0.24), ("colorchart.dng", "Canon", 0.18), ("Nikon_uncompressed.nef", "Nikon", 0.39)],
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
