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
from rngcli.images import Encoding, Image, Metadata, tiff
from rngcli.images.spaces import SRGB_CURVE, Curve, space_of
from rngcli.inference.engine import Job, denoise
from rngcli.inference.pipeline import Pipeline, Request
from tests.tiny import identity_bundle

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
    assert image.pixels.min() >= 0
    assert image.pixels.max() <= 1
    assert image.notes == ()
    again = images.encode(image, "tiff")
    assert np.array_equal(raw_values(again), raw_values(data))
    assert images.decode(again).metadata.icc == PROFILES[name]


@pytest.mark.parametrize("name", PROFILES)
def test_a_clean_picture_passes_the_tiles_within_one_level(name):
    data = stored(16, PROFILES[name])
    image = images.decode(data)
    (result,) = denoise([Job("", image.pixels)], Pipeline(identity_bundle(), "cpu", "fp32", 1), Request(detail=0))
    again = images.encode(image.with_pixels(result.pixels), "tiff")
    assert np.abs(raw_values(again) - raw_values(data)).max() * 65535 < 1.01


@pytest.mark.parametrize("name", PROFILES)
def test_littlecms_agrees(name):
    data = stored(8, PROFILES[name])
    source = Pillow.fromarray(np.rint(raw_values(data) * 255).astype(np.uint8))
    seen = ImageCms.profileToProfile(
        source, ImageCms.ImageCmsProfile(io.BytesIO(PROFILES[name])), ImageCms.createProfile("sRGB"), renderingIntent=1
    )
    space, _ = space_of(Metadata(icc=PROFILES[name]), grey=False)
    ours = space.to_srgb(raw_values(data).reshape(-1, 3).T.astype(np.float64)).clip(0, 1).T.reshape(40, 50, 3)
    difference = np.abs(np.asarray(seen) - ours * 255)
    assert difference.mean() < 0.4
    assert np.quantile(difference, 0.999) < 2


@pytest.mark.parametrize("depth", [16, 32])
@pytest.mark.parametrize("name", PROFILES)
def test_pictures_of_all_spaces_compare_in_srgb(name, depth):
    scene = np.random.default_rng(0).uniform(0.3, 0.7, (40, 50, 3)).astype(np.float32)
    space, _ = space_of(Metadata(icc=PROFILES[name]), grey=False)
    scale = 255 if depth == 32 else 1
    image = images.decode(with_profile(Image(scene * np.float32(scale), "tiff", depth), PROFILES[name]))
    seen = space.to_srgb(scene.reshape(-1, 3).T.astype(np.float64)).T.reshape(scene.shape).clip(0, 1)
    assert np.abs(images.in_srgb(image) - seen).max() < (1e-3 if depth == 16 else 1e-5)
    plain = images.decode(with_profile(Image(scene, "tiff", 16), b""))
    assert images.in_srgb(plain) is plain.pixels


@pytest.mark.parametrize("name", ["adobe", "prophoto", "parametric"])
def test_the_networks_see_a_wide_picture_as_it_is_stored(name):
    data = stored(16, PROFILES[name])
    assert np.array_equal(images.decode(data).pixels, raw_values(data))


def test_the_networks_see_linear_light_in_srgbs_curve_and_the_file_gets_its_own_back():
    image = images.decode(stored(16, PROFILES["linear"]))
    grey = Image(np.full_like(image.pixels, 0.5), "tiff", 16, metadata=image.metadata)
    assert np.abs(images.decode(images.encode(grey, "tiff")).pixels - 0.5).max() < 1e-4
    assert raw_values(images.encode(grey, "tiff")).mean() == pytest.approx(((0.5 + 0.055) / 1.055) ** 2.4, abs=1e-4)


class Smoother:
    """A denoiser of a kind, of which the noise that it leaves is known: the mean of all pixels of each patch."""

    @staticmethod
    def denoised(image: Image) -> Image:
        patches = image.pixels.reshape(4, 10, 5, 10, 3).mean(axis=(1, 3))
        return image.with_pixels(np.clip(patches.repeat(10, axis=0).repeat(10, axis=1), 0, 1))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("name", ["adobe", "prophoto", "parametric"])
def test_noise_is_smoothed_in_wide_spaces_as_in_srgb(name, depth):
    """Also where the colours, or the noise alone, lie outside of sRGB."""
    rng = np.random.default_rng(0)
    clean = rng.uniform(0.15, 0.85, (4, 5, 3))
    clean[0, :3] = np.eye(3) * 0.6 + 0.15  # far outside of sRGB in the wide ones
    clean = clean.repeat(10, axis=0).repeat(10, axis=1)
    noisy = Image((clean + rng.normal(0, 0.03, clean.shape)).astype(np.float32), "tiff", depth)
    left = {}
    for icc in (b"", PROFILES[name]):
        image = images.decode(with_profile(noisy, icc))
        values = raw_values(images.encode(Smoother.denoised(image), "tiff"))
        left[icc] = np.abs(values - clean).max()
    assert left[PROFILES[name]] <= 1.15 * left[b""] < 0.02


@pytest.mark.parametrize("icc", [b"", SRGB, profile(SRGB_PRIMARIES, PARAMETRIC)])
def test_srgb_profiles_are_not_converted(icc):
    data = stored(16, icc)
    image = images.decode(data)
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


RANGES = {
    "of 255": lambda scene: scene * 255,
    "of 255, whole": lambda scene: np.rint(scene * 255),
    "of 65535": lambda scene: scene * 65535,
    "of 4095": lambda scene: scene * 4095,
    "noise beyond both ends": lambda scene: scene * 1.3 - 0.15,
    "light of sixteen times white": lambda scene: scene**2.2 * 16,
    "light of a million times white": lambda scene: scene**8 * 1e6,
    "negative light": lambda scene: scene * 6 - 1,
    "negative only": lambda scene: -scene,
}


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("name", RANGES)
def test_floats_of_any_range_become_pixels_and_come_back(name, grey):
    scene = np.random.default_rng(0).random((9, 9, 1 if grey else 3))
    values = np.broadcast_to(RANGES[name](scene), (9, 9, 3)).astype(np.float32)
    data = with_profile(Image(values, "tiff", 32, grey=grey), b"")
    image = images.decode(data)
    assert image.pixels.min() >= 0
    assert 0.9 < image.pixels.max() <= 1 or name == "negative only"
    back = raw_values(images.encode(image, "tiff"))
    assert np.abs(back - values).max() <= 1e-6 * np.abs(values).max()
    if "light" in name:
        assert (np.abs(back - values) <= 2e-5 * (np.abs(values) + 0.1)).all(), "no highlight costs the shadows"


@pytest.mark.parametrize("unit", [255, 65535])
def test_floats_that_were_integers_are_seen_as_the_same_picture_in_01(unit):
    scene = np.random.default_rng(0).random((30, 30, 3)).astype(np.float32)
    image = images.decode(with_profile(Image(scene * np.float32(unit), "tiff", 32), b""))
    assert np.abs(image.pixels - scene).max() < 1e-6
    small = images.decode(images.encode(image, "png"))
    assert small.depth == 16
    assert np.abs(small.pixels - scene).max() < 1e-5
    lossless = replace(image, encoding=Encoding(lossless=True))
    assert np.abs(images.decode(images.encode(lossless, "jxl")).pixels - scene).max() < 1e-5


def test_light_is_seen_with_its_shadows_lifted_and_tone_mapped_where_highlights_cannot_be_kept():
    values = np.geomspace(0.001, 20, 900).astype(np.float32).reshape(30, 30, 1).repeat(3, axis=2)
    image = images.decode(with_profile(Image(values, "tiff", 32), b""))
    grey = image.pixels[np.abs(values - 0.2).argmin() // 90, 0, 0]
    assert 0.25 < grey < 0.5, "0.2 is a middle grey"
    assert "tone-mapped" in images.losses(image, "jpeg")[0]
    assert images.losses(image, "tiff") == ()
    seen = images.decode(images.encode(image, "jpeg")).pixels[..., 0].ravel()
    assert np.median(np.diff(seen[::50])) > 0.01, "no highlights clipped"


def test_pictures_of_plain_floats_keep_their_bits():
    values = np.random.default_rng(0).random((9, 9, 3)).astype(np.float32)
    data = with_profile(Image(values, "tiff", 32), b"")
    image = images.decode(data)
    assert np.array_equal(image.pixels, values)
    assert np.array_equal(raw_values(images.encode(image, "tiff")), values)


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
    jpeg = images.decode(images.encode(back, "jpeg"))
    assert jpeg.metadata.colour == ()
    named = space_of(jpeg.metadata, grey=False)[0]
    assert np.abs(np.array(named.matrix) - np.array(space.matrix)).max() < 1e-3
    assert np.abs(jpeg.pixels - back.pixels).max() < 0.01


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
