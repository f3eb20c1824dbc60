"""Colours: our conversion agrees with LittleCMS, loses nothing, and the output carries the profile of the input."""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms

from rngcli import images
from rngcli.errors import PictureError
from rngcli.images import Image, Metadata, tiff
from rngcli.images.spaces import SRGB_CURVE, Curve, space_of

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))  # D50 XYZ of R, G, B
PROPHOTO = ((0.7976749, 0.2880402, 0.0), (0.1351917, 0.7118741, 0.0), (0.0313534, 0.0000857, 0.8252100))
SRGB_PRIMARIES = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
GAMMA = struct.pack(">4sIIH2x", b"curv", 0, 1, round(2.19921875 * 256))
LINEAR = struct.pack(">4sII", b"curv", 0, 0)
TABLE = struct.pack(">4sII", b"curv", 0, 1024) + np.rint(np.linspace(0, 1, 1024) ** 1.8 * 65535).astype(">u2").tobytes()
SRGB_NUMBERS = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
PARAMETRIC = struct.pack(">4sIH2x5i", b"para", 0, 3, *(round(v * 65536) for v in SRGB_NUMBERS))


def profile(primaries: tuple[tuple[float, ...], ...], curve: bytes, space: bytes = b"RGB ") -> bytes:
    """A display profile of a matrix and one curve for all channels (ICC.1, version 2)."""

    def xyz(values: tuple[float, ...]) -> bytes:
        return struct.pack(">4sI3i", b"XYZ ", 0, *(round(v * 65536) for v in values))

    tags = {b"wtpt": xyz((0.9642, 1.0, 0.8249))}
    if space == b"RGB ":
        tags |= {name: xyz(values) for name, values in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    else:
        tags[b"kTRC"] = curve
    tags |= {b"desc": struct.pack(">4sII", b"desc", 0, 5) + b"test\0" + bytes(78), b"cprt": b"text\0\0\0\0none\0\0\0\0"}
    table, body, at = b"", b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name, at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"lcms", 0x02400000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H4s4s", 2024, 1, 1, 0, 0, 0, b"acsp", b"APPL")
    head += struct.pack(">IIIQI3iI44x", 0, 0, 0, 0, 0, 63190, 65536, 54061, 0)
    return head[:128] + struct.pack(">I", len(tags)) + table + body


PROFILES = {
    "adobe": profile(ADOBE, GAMMA), "prophoto": profile(PROPHOTO, TABLE), "linear": profile(ADOBE, LINEAR),
    "parametric": profile(PROPHOTO, PARAMETRIC),
}  # fmt: skip


def stored(depth: int, icc: bytes, seed: int = 0) -> bytes:
    """A TIFF file of random colours in the space of a profile."""
    pixels = np.random.default_rng(seed).random((40, 50, 3)).astype(np.float32)
    pixels[:2] = [[0, 0, 0], [1, 1, 1]] * 25
    pixels[2] = np.eye(3)[np.arange(50) % 3]
    plain = Image(pixels, "tiff", depth, metadata=Metadata())
    data = images.decode(images.encode(plain, "tiff"))
    return with_profile(data, icc)


def with_profile(image: Image, icc: bytes) -> bytes:
    """A TIFF file of the pixels as they are, under a profile."""
    return tiff.encode(replace(image, metadata=replace(image.metadata, icc=icc)), images.WriteOptions())


def raw_values(data: bytes) -> np.ndarray:
    """The values as they are stored in a TIFF file, in the space of its profile."""
    return tiff.decode(data, images.ReadOptions()).pixels


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("depth", [8, 16])
def test_an_untouched_picture_comes_back_bit_for_bit(name, depth):
    data = stored(depth, PROFILES[name])
    image = images.decode(data)
    assert image.excess is not None
    assert image.pixels.min() >= 0
    assert image.pixels.max() <= 1
    again = images.encode(image, "tiff")
    assert np.array_equal(raw_values(again), raw_values(data))
    assert images.decode(again).metadata.icc == PROFILES[name]


@pytest.mark.parametrize("name", PROFILES)
def test_littlecms_agrees(name):
    data = stored(8, PROFILES[name])
    source = Pillow.fromarray(np.rint(raw_values(data) * 255).astype(np.uint8))
    seen = ImageCms.profileToProfile(
        source, ImageCms.ImageCmsProfile(io.BytesIO(PROFILES[name])), ImageCms.createProfile("sRGB"), renderingIntent=1
    )
    difference = np.abs(np.asarray(seen) - images.decode(data).pixels * 255)
    assert difference.mean() < 0.4
    assert np.quantile(difference, 0.999) < 2


def test_the_networks_see_srgb_and_the_file_gets_its_own_space_back():
    image = images.decode(stored(16, PROFILES["adobe"]))
    grey = np.full_like(image.pixels, 0.5)
    back = images.decode(images.encode(Image(grey, "tiff", 16, metadata=image.metadata), "tiff"))
    assert np.abs(back.pixels - 0.5).max() < 1e-4
    values = raw_values(images.encode(Image(grey, "tiff", 16, metadata=image.metadata), "tiff"))
    light = ((0.5 + 0.055) / 1.055) ** 2.4
    assert values.mean() == pytest.approx(light ** (1 / 2.19921875), abs=1e-4)


def test_colours_beyond_srgb_are_kept_and_said():
    image = images.decode(stored(16, PROFILES["prophoto"]))
    assert "outside of sRGB" in image.notes[0]
    halved = image.with_pixels(image.pixels * np.float32(0.9))
    values = raw_values(images.encode(halved, "tiff"))
    pure_green = raw_values(stored(16, PROFILES["prophoto"]))[2, 1]
    assert values[2, 1, 1] - values[2, 1, 0] > 0.5 * (pure_green[1] - pure_green[0])


@pytest.mark.parametrize("icc", [b"", SRGB, profile(SRGB_PRIMARIES, PARAMETRIC)])
def test_srgb_profiles_are_not_converted(icc):
    data = stored(16, icc)
    image = images.decode(data)
    assert image.excess is None
    assert np.array_equal(image.pixels, raw_values(data))


NO_CURVES = PROFILES["adobe"].replace(b"curv", b"mft2")


@pytest.mark.parametrize("icc", [b"nonsense", PROFILES["adobe"][:150], NO_CURVES, bytes(400)])
def test_a_profile_that_cannot_be_computed_with_is_carried_and_said(icc):
    data = stored(16, icc)
    image = images.decode(data)
    assert "profile" in image.notes[0]
    assert np.array_equal(image.pixels, raw_values(data))
    assert images.decode(images.encode(image, "tiff")).metadata.icc == icc


def test_grey_profiles():
    icc = profile((), struct.pack(">4sIIH2x", b"curv", 0, 1, 256), b"GRAY")
    data = with_profile(Image(np.full((4, 4, 3), 0.2, np.float32), "tiff", 16, grey=True), icc)
    image = images.decode(data)
    assert image.pixels.mean() == pytest.approx(1.055 * 0.2 ** (1 / 2.4) - 0.055, abs=1e-4)
    assert np.array_equal(raw_values(images.encode(image, "tiff")), raw_values(data))
    webp = images.decode(images.encode(image, "webp"))  # has no grey, so the profile would be nonsense there
    assert webp.metadata.icc == b""
    assert webp.pixels.mean() == pytest.approx(image.pixels.mean(), abs=0.01)


def test_floats_beyond_one_are_kept():
    pixels = np.random.default_rng(0).random((9, 9, 3)).astype(np.float32) * 6 - 1
    data = with_profile(Image(pixels, "tiff", 32), b"")
    image = images.decode(data)
    assert image.pixels.max() <= 1
    assert np.array_equal(raw_values(images.encode(image, "tiff")), pixels)


def test_codes_of_a_png_are_a_space_too():
    metadata = Metadata(colour=((b"cICP", bytes((12, 13, 0, 1))),))
    image = Image(np.full((4, 4, 3), 0.5, np.float32), metadata=metadata)
    space, note = space_of(metadata, grey=False)
    assert not note
    assert space.to_srgb(np.array([[1.0], [0.0], [0.0]]))[0, 0] > 1.05
    back = images.decode(images.encode(image, "png"))
    assert back.metadata.colour == metadata.colour
    assert np.abs(back.pixels - 0.5).max() < 0.003
    assert images.decode(images.encode(back, "avif")).metadata.colour == metadata.colour
    assert images.decode(images.encode(back, "jpeg")).metadata.colour == ()


def test_hdr_is_said_and_never_written_without_its_codes():
    metadata = Metadata(colour=((b"cICP", bytes((9, 16, 0, 1))),))
    image = images.decode(images.encode(Image(np.full((4, 4, 3), 0.5, np.float32), metadata=metadata), "png"))
    assert "HDR" in image.notes[0]
    with pytest.raises(PictureError, match="HDR"):
        images.encode(image, "jpeg")


@pytest.mark.parametrize("curve", [SRGB_CURVE, Curve(2.2), Curve(), Curve(table=tuple(np.linspace(0, 1, 300) ** 1.7))])
def test_curves_are_inverted_by_themselves(curve):
    codes = np.linspace(-1, 1, 1001)
    assert np.abs(curve.code(curve.linear(codes)) - codes).max() < 1e-6
