"""Linear DNGs of camera raws: what a raw developer makes of one is what it would have made of the raw."""

from __future__ import annotations

import io
import struct
import subprocess
import sys

import numpy as np
import pytest
import rawpy
import tifffile

from rngcli import images
from rngcli.errors import PictureError
from rngcli.images import Image, ReadOptions, WriteOptions, ifd
from rngcli.images.mosaic import mosaic_noise
from rngcli.models.bundle import save
from tests.dng_files import (
    BLACK,
    NEUTRAL,
    WHITE,
    XYZ_TO_SRGB,
    bayer_dng,
    counts,
    dng_of,
    light,
    mosaic,
    rationals,
    srgb,
)
from tests.test_images_raw import FOLDER, block, dng, needs_raws
from tests.tiny import identity_bundle

LINEAR = ReadOptions(raw_linear=True)
MORE = (
    (50722, "2i", 9, rationals(XYZ_TO_SRGB * 1.1), True), (50779, "H", 1, 17, True),
    (50730, "2i", 1, (35, 100), True), (50719, "2I", 2, (8, 1, 4, 1), True), (50720, "2I", 2, (100, 1, 80, 1), True),
    (50732, "2I", 1, (133, 100), True), (50735, "s", 0, "No 42", True), (50964, "2i", 9, rationals(np.eye(3)), True),
    (51022, "B", 4, bytes(4), True), (51041, "d", 2, (1e-4, 1e-6), True), (50936, "s", 0, "Synth Standard", True),
)  # fmt: skip


def through(data: bytes, options: WriteOptions | None = None) -> bytes:
    """The DNG of a raw that nobody has denoised."""
    return images.encode(images.decode(data, LINEAR), "dng", options)


def developed(data: bytes, **more: object) -> np.ndarray:
    """By LibRaw with its usual settings, in [0, 1], sRGB."""
    settings = {"use_camera_wb": True, "no_auto_bright": True, "adjust_maximum_thr": 0, "gamma": (2.4, 12.92)} | more
    with rawpy.imread(io.BytesIO(data)) as raw:
        return raw.postprocess(output_bps=16, **settings) / 65535


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_developer_makes_the_same_colours_of_it(orientation):
    scene = light()
    scene[40:60, 30:50] = [0.8, 0.1, 0.05]  # a patch with edges
    data = bayer_dng(scene, *MORE[:3], orientation=orientation)
    before, after = developed(data), developed(through(data))
    assert before.shape == after.shape
    assert np.abs(before - after).mean() < 0.002
    assert np.quantile(np.abs(before - after), 0.999) < 0.01
    assert np.abs(developed(through(data), user_flip=0) - srgb(scene)).mean() < 0.01


def test_it_carries_what_the_raw_says_of_the_camera():
    data = through(bayer_dng(light(), *MORE, orientation=6))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages[0].tags
        assert file.pages[0].photometric == 34892
        assert (file.asarray().shape, file.asarray().dtype) == ((96, 128, 3), np.uint16)
        assert tags["ColorMatrix1"].value == rationals(XYZ_TO_SRGB)
        assert tags["ColorMatrix2"].value == rationals(XYZ_TO_SRGB * 1.1)
        assert tags["AsShotNeutral"].value == rationals(NEUTRAL)
        assert tags["BaselineExposure"].value == (35, 100)
        assert (tags["CalibrationIlluminant1"].value, tags["CalibrationIlluminant2"].value) == (21, 17)
        assert (tags["DefaultCropOrigin"].value, tags["DefaultCropSize"].value) == ((8, 4), (100, 80))
        assert tags["Orientation"].value == 6
        assert (tags["Make"].value, tags["UniqueCameraModel"].value) == ("Synth", "Synth Cam 1")
        assert tags["ProfileName"].value == "Synth Standard"
        assert tags["DateTime"].value == "2021:03:04 05:06:07"
        assert tags["Software"].value.startswith("rng ")
        assert {50964, 51022, 50732, 50735} <= {tag.code for tag in tags}
        assert 51041 not in tags, "its noise is another"
        assert max(tags["BlackLevel"].value) < min(tags["WhiteLevel"].value)


@pytest.mark.parametrize("order", "<>")
def test_exif_of_either_byte_order_is_kept(order):
    data = through(dng(order))
    assert data[:2] == (b"II" if order == "<" else b"MM")
    exif = ifd.parse(data).children[ifd.EXIF_POINTER]
    assert exif.numbers(0x829A) == (1 / 250,)
    assert exif.text(0xA434) == "50mm f/1.8"
    assert ifd.parse(data).number(0x112) == 6
    assert images.decode(data).pixels.shape == images.decode(dng(order)).pixels.shape


def test_a_maker_note_keeps_its_place_and_one_that_may_move_moves():
    data = dng("<")
    private = ifd.parse(through(data)).fields[0xC634].data
    assert private[:10] == b"Adobe\0MakN"
    assert struct.unpack(">I", private[10:14])[0] == 6 + len(b"maker own")
    assert private[14:16] == b"II"
    assert struct.unpack(">I", private[16:20])[0] == data.index(b"maker own")
    assert private[20:] == b"maker own"
    moved = ifd.parse(through(dng("<", {0xC635: ifd.short_field("<", 1)})))
    assert moved.children[ifd.EXIF_POINTER].fields[0x927C].data == b"maker own"
    assert 0xC634 not in moved.fields
    kept = ifd.parse(through(dng("<", {0xC634: block(b"Pentax \0private")})))
    assert kept.fields[0xC634].data == b"Pentax \0private"


def test_words_and_develop_settings_stay_for_the_developer():
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><settings exposure="2"/></x:xmpmeta>'
    assert ifd.parse(through(dng("<", {0x2BC: block(packet)}))).fields[0x2BC].data == packet


def test_stripped_of_its_metadata_it_still_stands_upright_and_names_no_owner():
    scene = light()
    data = bayer_dng(scene, *MORE, orientation=6)
    bare = through(data, WriteOptions(strip_metadata=True))
    assert ifd.parse(bare).number(0x112) == 6
    assert 50735 not in ifd.parse(bare).fields
    assert np.abs(developed(bare) - developed(data)).mean() < 0.002


def test_noise_below_black_stays_below_it():
    """Else black would get lighter by it, and in the colours of the white balance: what one sees in pushed shadows."""
    rng = np.random.default_rng(0)
    dark = light(256, 256) * 0.005
    data = dng_of(counts(mosaic(dark * NEUTRAL) + rng.normal(0, 0.003, dark.shape[:2])), "cfa")
    image = images.decode(data, LINEAR)
    values = values_of(image)
    assert values.min() < -0.003
    assert np.abs((values / NEUTRAL - dark).mean(axis=(0, 1))).max() < 4e-4, "clipped at black it would be 0.002"
    assert image.pixels.min() >= 0


def values_of(image: Image) -> np.ndarray:
    """The camera RGB of an image that was read for a DNG, black at 0, the sensor's white at 1."""
    return images.colour.to_stored(image)


def test_highlights_beyond_white_are_kept_to_the_sensors_end():
    scene = np.full((64, 64, 3), [1.9, 0.9, 1.4])  # white-balanced: red and blue are multiplied
    scene[:32] *= 0.2
    image = images.decode(bayer_dng(scene), LINEAR)
    assert image.pixels.max() <= 1
    assert image.tone.high > 1.2
    assert np.abs(values_of(image)[40:60] - scene[40:60] * NEUTRAL).max() < 2e-3
    with tifffile.TiffFile(io.BytesIO(images.encode(image, "dng"))) as file:
        tags = file.pages[0].tags
        black, white = tags["BlackLevel"].value[0], tags["WhiteLevel"].value[0]
        stored = (file.asarray().astype(np.float64) - black) / (white - black)
    assert np.abs(stored[40:60] - scene[40:60] * NEUTRAL).max() < 2e-3


def test_the_networks_see_a_perceptual_picture():
    scene = light()
    image = images.decode(bayer_dng(scene), LINEAR)
    assert np.abs(image.pixels - srgb(scene)).mean() < 0.003


def test_a_monochrome_raw_becomes_a_monochrome_dng():
    scene = light()[..., 1]
    data = dng_of(counts(scene), "linear_raw")
    after = through(data)
    assert developed(after).shape == (*scene.shape, 1)
    assert np.abs(developed(after) - developed(data)).max() < 0.005
    assert np.abs(images.decode(after).pixels[..., 0] - srgb(scene)).mean() < 0.003


def test_linear_raw_of_three_channels_needs_no_demosaicing():
    scene = light()
    data = dng_of(counts(scene * NEUTRAL), "linear_raw", (50714, "H", 3, (BLACK,) * 3, True),
                  (50717, "H", 3, (WHITE,) * 3, True))  # fmt: skip
    values = values_of(images.decode(data, LINEAR))
    assert np.abs(values - scene * NEUTRAL).max() < 1e-3


@pytest.mark.parametrize("sigma", [0.0, 0.01, 0.05])
def test_the_noise_of_a_mosaic_is_measured_as_it_will_be_seen(sigma):
    rng = np.random.default_rng(0)
    seen = mosaic(np.clip(light(256, 256) + 0.05, 0.05, 0.9))
    code = srgb(seen) + rng.normal(0, sigma, seen.shape)
    noisy = np.where(code <= 0.04045, code / 12.92, ((np.maximum(code, 0) + 0.055) / 1.055) ** 2.4)
    assert mosaic_noise(noisy) == pytest.approx(sigma, rel=0.15, abs=0.002)


def test_only_raws_become_dngs():
    with pytest.raises(PictureError, match="only camera raw"):
        images.encode(Image(np.zeros((4, 4, 3), np.float32)), "dng")


def test_corrections_that_a_linear_dng_cannot_hold_are_named():
    image = images.decode(bayer_dng(light(), (51008, "B", 4, bytes(4), True)), LINEAR)
    assert "opcode" in image.notes[0]
    assert 51008 not in ifd.parse(images.encode(image, "dng")).fields


def gain_map(top: int, left: int, pitch: int, gain: float) -> bytes:
    """An opcode of DNG's list 2: a map of 2×1 gains for one place of a Bayer mosaic."""
    body = struct.pack(">8I2I4dI2f", top, left, 96, 128, 0, 1, pitch, pitch, 2, 1, 1.0, 1.0, 0.0, 0.0, 1, 1.0, gain)
    return struct.pack(">4I", 9, 0x01030000, 0, len(body)) + body


def test_shading_of_a_mosaics_places_becomes_shading_of_planes():
    maps = [gain_map(y, x, 2, 1.5 + 2 * y + x) for y in (0, 1) for x in (0, 1)]
    other = struct.pack(">4I", 5, 0x01030000, 0, 4) + bytes(4)
    opcodes = struct.pack(">I", 5) + b"".join(maps) + other
    image = images.decode(bayer_dng(light(), (51009, "B", len(opcodes), opcodes, True)), LINEAR)
    assert "opcode" in image.notes[0], "of the other one"
    written = ifd.parse(images.encode(image, "dng")).fields[51009].data
    assert struct.unpack_from(">I", written) == (3,)
    size = (len(written) - 4) // 3
    for plane, gain in enumerate((1.5, 2.5, 4.5)):
        entry = written[4 + plane * size :][:size]
        assert struct.unpack_from(">I", entry)[0] == 9
        assert struct.unpack_from(">8I", entry, 16) == (0, 0, 96, 128, plane, 1, 1, 1)
        assert struct.unpack_from(">2f", entry[-8:]) == (1.0, gain)


@pytest.mark.parametrize("damaged", [b"", b"\0\0\0\2" + gain_map(0, 0, 2, 1.5)[:-4], bytes(3)])
def test_a_damaged_list_of_corrections_is_left_out(damaged):
    image = images.decode(bayer_dng(light(), (51009, "B", len(damaged) or 1, damaged or b"x", True)), LINEAR)
    assert 51009 not in ifd.parse(images.encode(image, "dng")).fields
    assert "opcode" in image.notes[0]


@pytest.mark.parametrize("named", [False, True])
def test_the_command_writes_dngs(tmp_path, named):
    save(identity_bundle(), tmp_path / "tiny.safetensors")
    source = tmp_path / "in" / "a.dng"
    source.parent.mkdir()
    scene = light()
    source.write_bytes(bayer_dng(scene))
    target = ["out/b.dng"] if named else ["out", "--format", "dng"]
    command = [sys.executable, "-m", "rngcli", "denoise", "in/a.dng" if named else "in", *target]
    done = subprocess.run(
        [*command, "--model", "tiny.safetensors", "--detail", "0"], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (written,) = (tmp_path / "out").glob("*.dng")
    assert np.abs(developed(written.read_bytes()) - srgb(scene)).mean() < 0.005


@needs_raws
@pytest.mark.parametrize("name", ["canon_CRW.CRW", "colorchart.dng"])
def test_of_real_raws_the_colours_are_the_same(name):
    data = (FOLDER / name).read_bytes()
    before, after = developed(data), developed(through(data))
    assert before.shape == after.shape
    assert np.abs((before - after).mean(axis=(0, 1))).max() < 0.005


@needs_raws
def test_a_scanners_raw_of_unknown_colours_is_refused():
    with pytest.raises(PictureError, match="colour matrix"):
        images.read(FOLDER / "Nikon_uncompressed.nef", LINEAR)


@pytest.mark.parametrize(("top", "lifted"), [(0.9, False), (0.05, True), (0.01, True)])
def test_an_exposure_in_the_dark_is_lifted_for_the_networks_and_comes_back_as_it_was(top, lifted):
    data = bayer_dng(light(top=top))
    image = images.decode(data, LINEAR)
    assert np.quantile(image.pixels, 0.99) > 0.6, "what may be lifted later is seen by them"
    white = max(unit * gain for unit, gain in zip(image.tone.units, NEUTRAL, strict=True)) / max(NEUTRAL)
    assert (white < 0.5) == lifted
    same = developed(through(data), bright=8 if lifted else 1)
    assert np.abs(same - developed(data, bright=8 if lifted else 1)).mean() < 0.01
