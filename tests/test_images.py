"""Pictures come back from a file as they went in: pixels, depth, alpha; bad ones are refused in one line."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageOps

from rngcli import images
from rngcli.errors import EnvironmentFault, PictureError, UsageError
from rngcli.images import Image, ReadOptions, WriteOptions
from rngcli.images.image import turned
from rngcli.images.metadata import Metadata

TYPES = {8: np.uint8, 10: np.uint16, 12: np.uint16, 16: np.uint16, 32: np.float32}


def samples(shape: tuple[int, ...], depth: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).random(shape)
    return values.astype(np.float32) if depth == 32 else (values * (2**depth - 1)).round().astype(TYPES[depth])


def picture(depth: int = 8, grey: bool = False, alpha: bool = False, size: tuple[int, int] = (23, 31), **more) -> Image:
    colours = samples((*size, 1 if grey else 3), depth).astype(np.float64) / (1 if depth == 32 else 2**depth - 1)
    pixels = np.broadcast_to(colours, (*size, 3)).astype(np.float32)
    return Image(pixels, depth=depth, grey=grey, alpha=samples(size, depth, 1) if alpha else None, **more)


def file_of(array: np.ndarray, name: str, **settings: object) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(array).save(file, name, **settings)
    return file.getvalue()


def smooth(size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A photograph-like (H, W, 3) uint8, which lossy codecs keep well."""
    y, x = np.mgrid[: size[0], : size[1]]
    return np.stack([x * 255 // size[1], y * 255 // size[0], (x + y) * 255 // sum(size)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(("grey", "alpha"), [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize(
    ("name", "depth"),
    [("png", 8), ("png", 16), ("tiff", 8), ("tiff", 16), ("tiff", 32), ("jxl", 8), ("jxl", 16), ("jxl", 32)],
)
def test_lossless_formats_keep_every_bit(name, depth, grey, alpha):
    image = picture(depth, grey, alpha, encoding=images.Encoding(lossless=True))
    back = images.decode(images.encode(image, name))
    assert (back.depth, back.grey, back.format) == (depth, grey, name)
    assert np.array_equal(back.pixels, image.pixels)
    assert (back.alpha is None) == (not alpha)
    if alpha:
        assert back.alpha.dtype == image.alpha.dtype
        assert np.array_equal(back.alpha, image.alpha)
    assert images.encode(back, name) == images.encode(image, name)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from((8, 16)), st.booleans(), st.booleans())
def test_png_of_any_size_is_what_an_independent_decoder_sees(height, width, depth, grey, alpha):
    image = picture(depth, grey, alpha, (height, width))
    data = images.encode(image, "png")
    back = images.decode(data)
    assert np.array_equal(back.pixels, image.pixels)
    if depth == 8:
        seen = np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB"))
        assert np.array_equal(seen, np.rint(image.pixels * 255).astype(np.uint8))


def png16_by_hand(array: np.ndarray, colour: int, *chunks: tuple[bytes, bytes], claim: int = 0) -> bytes:
    """An unfiltered 16-bit PNG, written without any code of the project."""
    rows = array.astype(">u2").reshape(array.shape[0], -1).view(np.uint8)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    head = struct.pack(">IIBBBBB", claim or array.shape[1], claim or array.shape[0], 16, colour, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", body), (b"IEND", b"")]
    packed = (struct.pack(">I4s", len(b), k) + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bit_png_keeps_its_low_bytes(colour, channels):
    array = samples((9, 13, channels), 16)
    image = images.decode(png16_by_hand(array, colour))
    assert image.depth == 16
    colours = array[..., :-1] if channels in (2, 4) else array
    assert np.array_equal(np.rint(image.pixels * 65535), np.broadcast_to(colours, (9, 13, 3)))
    if channels in (2, 4):
        assert np.array_equal(image.alpha, array[..., -1])


def test_our_16_bit_png_is_read_by_another_program():
    image = picture(16, size=(20, 300))
    seen = np.asarray(Pillow.open(io.BytesIO(images.encode(image, "png"))))  # high bytes only, which is Pillow's way
    assert np.array_equal(seen, np.rint(image.pixels * 65535).astype(np.uint16) >> 8)
    grey = picture(16, grey=True)
    seen = np.asarray(Pillow.open(io.BytesIO(images.encode(grey, "png"))))
    assert np.array_equal(seen, np.rint(grey.pixels[..., 0] * 65535).astype(np.uint16))


def test_a_transparent_colour_of_a_16_bit_png_becomes_alpha():
    array = np.full((3, 4, 3), 1000, np.uint16)
    array[1, 2] = (5, 6, 7)
    image = images.decode(png16_by_hand(array, 2, (b"tRNS", struct.pack(">3H", 5, 6, 7))))
    assert (image.alpha == 0).sum() == 1
    assert image.alpha[1, 2] == 0


@pytest.mark.parametrize("mode", ["P", "1", "L", "LA", "RGBA"])
def test_png_kinds_are_read_as_pillow_shows_them(mode):
    source = Pillow.fromarray(smooth()).convert(mode)
    if mode in ("LA", "RGBA"):
        source.putalpha(Pillow.fromarray(smooth()[..., 0]))
    file = io.BytesIO()
    source.save(file, "PNG")
    image = images.decode(file.getvalue())
    assert np.array_equal(np.rint(image.pixels * 255), np.asarray(source.convert("RGB")))
    assert image.grey == (mode in ("1", "L", "LA"))
    assert (image.alpha is not None) == (mode in ("LA", "RGBA"))
    assert bool(image.notes) == (mode in ("P", "1"))
    if image.alpha is not None:
        assert np.array_equal(image.alpha, np.asarray(source.getchannel("A")))


def test_interlaced_png_of_16_bits():
    rgb = smooth((16, 16))
    data = file_of(rgb, "PNG")
    assert np.array_equal(np.rint(images.decode(data).pixels * 255), rgb)


def test_jpeg_keeps_tables_subsampling_and_progression():
    for quality, subsampling, progressive in ((71, 2, True), (93, 0, False), (85, 1, False)):
        data = file_of(smooth(), "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
        again = images.encode(images.decode(data), "jpeg")
        before, after = Pillow.open(io.BytesIO(data)), Pillow.open(io.BytesIO(again))
        assert after.quantization == before.quantization
        assert after.layer == before.layer
        assert bool(after.info.get("progressive")) == progressive
        coarse = Pillow.open(io.BytesIO(images.encode(images.decode(data), "jpeg", WriteOptions(quality=30))))
        assert sum(coarse.quantization[0]) > sum(before.quantization[0])


def test_grey_jpeg_stays_grey():
    data = file_of(smooth()[..., 0], "JPEG")
    image = images.decode(data)
    assert image.grey
    assert Pillow.open(io.BytesIO(images.encode(image, "jpeg"))).mode == "L"


@pytest.mark.parametrize(("name", "limit"), [("jpeg", 4), ("webp", 6), ("avif", 6), ("heic", 6), ("jxl", 4)])
def test_lossy_formats_stay_near(name, limit):
    image = images.decode(file_of(smooth(), "PNG"))
    back = images.decode(images.encode(image, name))
    assert back.format == name
    assert np.abs(back.pixels - image.pixels).mean() * 255 < limit


def test_lossless_webp_stays_lossless_with_its_alpha():
    array = np.dstack([smooth(), np.arange(48 * 64).reshape(48, 64) % 256]).astype(np.uint8)
    image = images.decode(file_of(array, "WEBP", lossless=True, exact=True))
    back = images.decode(images.encode(image, "webp"))
    assert np.array_equal(back.pixels, image.pixels)
    assert np.array_equal(back.alpha, array[..., 3])


def test_with_pixels_keeps_everything_else():
    image = picture(16, alpha=True, metadata=Metadata(xmp=b"<x/>"))
    changed = image.with_pixels(image.pixels * np.float32(0.5))
    assert changed.metadata is image.metadata
    assert changed.alpha is image.alpha
    assert changed.depth == 16
    with pytest.raises(ValueError, match="shape"):
        image.with_pixels(image.pixels[1:])


def test_rounding_is_to_the_nearest_level():
    pixels = np.full((2, 2, 3), 100.4 / 255, np.float32)
    pixels[0] = 100.6 / 255
    back = images.decode(images.encode(Image(pixels), "png"))
    assert np.array_equal(np.rint(back.pixels[:, 0, 0] * 255), [101, 100])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_is_what_exif_means(orientation):
    array = smooth((5, 7))
    tagged = Pillow.fromarray(array)
    tagged.getexif()[0x0112] = orientation
    assert np.array_equal(turned(array, orientation), np.asarray(ImageOps.exif_transpose(tagged)))


# What is refused, and how.

CMYK = Pillow.new("CMYK", (8, 8))


def _saved(image: Pillow.Image, name: str, **settings: object) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **settings)
    return file.getvalue()


def _pages() -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(smooth())
        writer.write(smooth())
    return file.getvalue()


def _floats(value: float) -> bytes:
    file = io.BytesIO()
    array = np.zeros((4, 4, 3), np.float32)
    array[1, 1, 1] = value
    tifffile.imwrite(file, array, photometric="rgb")
    return file.getvalue()


def _animated(name: str) -> bytes:
    frames = [Pillow.fromarray(smooth()), Pillow.fromarray(255 - smooth())]
    return _saved(frames[0], name, save_all=True, append_images=frames[1:])


REFUSED = {
    "empty": (b"", "empty"),
    "text": (b"hello, this is no picture at all", "no picture"),
    "gif": (b"GIF89a" + bytes(40), "GIF"),
    "heif": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIF"),
    "jpeg 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "JPEG 2000"),
    "film": (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "film"),
    "cmyk jpeg": (_saved(CMYK, "JPEG"), "CMYK"),
    "cmyk tiff": (_saved(CMYK, "TIFF"), "CMYK"),
    "1-bit tiff": (_saved(Pillow.new("1", (8, 8)), "TIFF"), "1 bit"),
    "pages": (_pages(), "several pages"),
    "nan": (_floats(float("nan")), "NaN"),
    "inf": (_floats(float("inf")), "NaN"),
    "apng": (_animated("PNG"), "animated"),
    "animated webp": (_animated("WEBP"), "animated"),
    "animated avif": (_animated("AVIF"), "animated"),
    "absurd png": (png16_by_hand(np.zeros((1, 1, 3), np.uint16), 2, claim=2**31 - 1), "max-pixels"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_denoised_is_refused_in_one_line(name):
    data, word = REFUSED[name]
    with pytest.raises(PictureError) as caught:
        images.decode(data)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def _good(name: str) -> bytes:
    if name in ("HEIC", "JXL"):  # which Pillow does not write
        return images.encode(images.decode(_good("PNG")), name.lower())
    return file_of(smooth(), name)


FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIC", "JXL")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.9])
def test_truncated_files_are_refused(name, kept):
    data = _good(name)
    with pytest.raises(PictureError):
        images.decode(data[: int(len(data) * kept)])


@pytest.mark.parametrize("name", [*FORMATS, "PNG16", "TIFF16"])
def test_mutations_never_raise_anything_else(name):
    data = images.encode(picture(16), name[:-2].lower()) if name.endswith("16") else _good(name)
    generator = np.random.default_rng(len(name))
    for _ in range(150):
        broken = np.frombuffer(data, np.uint8).copy()
        span = min(len(broken), 400) if generator.random() < 0.5 else len(broken)
        broken[generator.integers(0, span, generator.integers(1, 12))] = generator.integers(0, 256)
        try:
            image = images.decode(broken.tobytes(), ReadOptions(max_pixels=10**6))
        except PictureError:
            continue
        assert image.pixels.dtype == np.float32
        assert image.pixels.min() >= 0
        assert image.pixels.max() <= 1
        images.encode(image, image.format)


def _bomb(name: str) -> bytes:
    if name in ("HEIC", "JXL"):
        return images.encode(images.decode(_bomb("PNG")), name.lower())
    return _saved(Pillow.new("L" if name != "WEBP" else "RGB", (500, 500)), name)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP", "HEIC", "JXL"])
def test_bombs_are_refused_by_their_header(name):
    data = _bomb(name)
    with pytest.raises(PictureError, match="max-pixels"):
        images.decode(data, ReadOptions(max_pixels=500 * 500 - 1))
    assert images.decode(data, ReadOptions(max_pixels=500 * 500)).pixels.shape == (500, 500, 3)


def test_transparency_that_a_format_cannot_hold_is_not_dropped():
    with pytest.raises(PictureError, match="transparency"):
        images.encode(picture(alpha=True), "jpeg")
    opaque = Image(picture().pixels, alpha=np.full((23, 31), 255, np.uint8))
    assert images.decode(images.encode(opaque, "jpeg")).alpha is None


# Files.


def test_a_file_is_written_in_the_format_of_its_name(tmp_path):
    for name in ("a.png", "b.JPG", "c.tiff", "d.webp", "deep/er/e.avif", "f.HEIC", "g.hif", "h.jxl"):
        images.write(tmp_path / name, picture())
        assert images.read(tmp_path / name).format == images.FORMAT_OF_SUFFIX[Path(name).suffix.lower()]
    with pytest.raises(UsageError):
        images.write(tmp_path / "f.nef", picture())
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(images.PART_PREFIX)]


def test_content_decides_and_the_name_is_remarked_on(tmp_path):
    path = tmp_path / "really.jpg"
    path.write_bytes(_good("PNG"))
    image = images.read(path)
    assert image.format == "png"
    assert "PNG" in image.notes[0]


@pytest.mark.parametrize("name", ["absent.png", "folder", "nul\0.png"])
def test_what_is_no_file_is_a_picture_error(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(PictureError):
        images.read(tmp_path / name)


@pytest.mark.parametrize("blow", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path, monkeypatch, blow):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail(_: int) -> None:
        raise blow

    monkeypatch.setattr("rngcli.atomic.os.fsync", fail)
    with pytest.raises(EnvironmentFault if isinstance(blow, OSError) else KeyboardInterrupt):
        images.write(path, picture())
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_name_that_is_too_long_costs_one_picture_only(tmp_path):
    with pytest.raises(PictureError):
        images.write(tmp_path / ("x" * 300 + ".png"), picture())


def test_written_files_have_the_rights_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    images.write(tmp_path / "a.png", picture())
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("suffix", "format", "expected"),
    [(".JPG", None, ".JPG"), (".jpeg", "jpeg", ".jpeg"), (".jpg", "png", ".png"), (".NEF", None, ".tif")],
)
def test_output_suffix(suffix, format, expected):
    assert images.output_suffix(suffix, format) == expected


@pytest.mark.parametrize(
    ("name", "format"), [("jpg", "jpeg"), ("TIF", "tiff"), (".heif", "heic"), ("gif", "gif"), (None, None)]
)
def test_a_format_may_be_named_by_a_suffix(name, format):
    assert images.format_named(name) == format


@pytest.mark.parametrize("progressive", [False, True])
def test_pure_noise_fits_into_a_jpeg(progressive):
    noise = np.random.default_rng(0).random((257, 300, 3), np.float32)
    picture = Image(noise, encoding=images.Encoding(progressive=progressive))
    data = images.encode(picture, "jpeg", WriteOptions(quality=100))
    assert np.abs(images.decode(data).pixels - noise).mean() < 0.01


@pytest.mark.parametrize("format", ["png", "tiff", "jpeg", "webp"])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_picture_that_lies_otherwise_in_memory_is_written_as_any_other(format, depth):
    pixels = np.random.default_rng(0).random((3, 20, 30), np.float32).transpose(1, 2, 0)[::-1]
    image = Image(pixels, depth=depth)
    assert not pixels.flags.c_contiguous
    plain = image.with_pixels(np.ascontiguousarray(pixels))
    assert images.encode(image, format) == images.encode(plain, format)
