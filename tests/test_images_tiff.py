"""TIFF in all its layouts, written by an independent writer, and ours read by independent readers."""

from __future__ import annotations

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from rngcli import images
from rngcli.errors import PictureError
from rngcli.images import Image, ifd

KINDS = (np.uint8, np.uint16, np.float16, np.float32)


def samples(kind: type, shape: tuple[int, ...]) -> np.ndarray:
    values = np.random.default_rng(0).random(shape)
    return values.astype(kind) if np.dtype(kind).kind == "f" else (values * np.iinfo(kind).max).astype(kind)


def written(array: np.ndarray, **settings: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **settings)
    return file.getvalue()


def full_scale(kind: type) -> np.float32:
    return np.float32(1 if np.dtype(kind).kind == "f" else np.iinfo(kind).max)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_every_layout_is_read(kind, channels, compression):
    array = samples(kind, (50, 70, channels))
    alpha = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    for tile, planar, order, big, predictor in itertools.product(
        (None, (16, 32)), ("contig", "separate"), "<>", (False, True), (False, True)
    ):
        if (planar == "separate" and channels == 1) or (predictor and (not compression or full_scale(kind) == 1)):
            continue
        data = written(
            array[..., 0] if channels == 1 else np.moveaxis(array, -1, 0) if planar == "separate" else array,
            photometric="minisblack" if channels == 1 else "rgb", planarconfig=None if channels == 1 else planar,
            compression=compression, predictor=predictor, tile=tile, byteorder=order, bigtiff=big,
            rowsperstrip=None if tile else 7, **alpha,
        )  # fmt: skip
        image = images.decode(data)
        expected = np.broadcast_to(array[..., :3], (50, 70, 3)).astype(np.float32) / full_scale(kind)
        assert np.array_equal(image.pixels, expected)
        assert image.depth == min(32, np.dtype(kind).itemsize * 8 if full_scale(kind) > 1 else 32)
        if channels == 4:
            assert np.array_equal(image.alpha, array[..., 3])


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "zstd", "tiff_lzma", "tiff_adobe_deflate"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_compressions_of_libtiff(compression, kind):
    array = samples(kind, (40, 30))
    file = io.BytesIO()
    Pillow.fromarray(array).save(file, "TIFF", compression=compression)
    assert np.array_equal(np.rint(images.decode(file.getvalue()).pixels[..., 0] * full_scale(kind)), array)


def by_hand(packed: bytes, **tags: tuple[int, ...]) -> bytes:
    """A TIFF of one strip without any code but that of directories: tags by t and their number."""
    fields = {int(tag[1:]): ifd.short_field("<", *values) for tag, values in tags.items()}
    fields |= {273: ifd.long_field("<", 8), 279: ifd.long_field("<", len(packed))}
    place = 8 + len(packed) + len(packed) % 2
    head = b"II*\0" + struct.pack("<I", place)
    return (head + packed).ljust(place, b"\0") + ifd.serialise(ifd.Directory("<", fields), place, "<")


RGB16 = {"t258": (16, 16, 16), "t262": (2,), "t277": (3,)}


def test_lzw_of_16_bit_colour():
    # No writer at hand makes such files: Pillow's libtiff packs the bytes as a grey picture three times as wide.
    array = samples(np.uint16, (12, 10, 3))
    inner = io.BytesIO()
    Pillow.fromarray(array.reshape(12, 30).view(np.uint8)).save(inner, "TIFF", compression="tiff_lzw")
    page = ifd.parse(inner.getvalue())
    at, size = page.number(0x111), page.number(0x117)
    data = by_hand(inner.getvalue()[at : at + size], t256=(10,), t257=(12,), t259=(5,), t278=(12,), **RGB16)
    assert np.array_equal(np.rint(images.decode(data).pixels * 65535), array)


def test_the_floating_point_predictor():
    # The inverse of TIFF technical note 3, written down a second time.
    array = samples(np.float32, (6, 11, 3))
    significant = array.astype(">f4").view(np.uint8).reshape(6, 33, 4).transpose(0, 2, 1).reshape(6, 132)
    rows = significant.astype(np.int16)
    rows[:, 3:] -= significant[:, :-3]
    raw = rows.astype(np.uint8).tobytes()
    tags = {"t258": (32, 32, 32), "t262": (2,), "t277": (3,), "t317": (3,), "t339": (3, 3, 3)}
    data = by_hand(zlib.compress(raw), t256=(11,), t257=(6,), t259=(8,), t278=(6,), **tags)
    assert np.array_equal(images.decode(data).pixels, array)


def test_jpeg_in_tiff_is_read():
    y, x = np.mgrid[:64, :64]
    array = np.stack([x * 4, y * 4, x + y], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(array).save(file, "TIFF", compression="jpeg", quality=95)
    assert np.abs(images.decode(file.getvalue()).pixels * 255 - array).mean() < 4


def test_white_is_zero_and_palette():
    array = samples(np.uint8, (9, 9))
    inverted = images.decode(written(array, photometric="miniswhite")).pixels
    assert np.array_equal(np.rint(inverted[..., 0] * 255), 255 - array)
    colours = samples(np.uint16, (3, 256))
    image = images.decode(written(array, photometric="palette", colormap=colours))
    assert np.array_equal(np.rint(image.pixels * 255), (colours.T >> 8)[array])
    assert "palette" in image.notes[0]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_ours_are_read_by_tifffile(kind, channels, monkeypatch):
    array = samples(kind, (33, 21, channels))
    pixels = np.broadcast_to(array, (33, 21, 3)).astype(np.float32) / full_scale(kind)
    plain = images.decode(written(array.squeeze(), photometric="rgb" if channels == 3 else "minisblack"))
    assert plain.encoding.uncompressed  # and so is what we write of it
    for image in (plain, Image(pixels, "tiff", plain.depth, plain.grey)):
        data = images.encode(image, "tiff")
        assert np.array_equal(tifffile.imread(io.BytesIO(data)), array.squeeze())
        assert ifd.parse(data).number(0x103) == (1 if image is plain else 8)
    monkeypatch.setattr("rngcli.images.tiff.CLASSIC_LIMIT", 10)
    with tifffile.TiffFile(io.BytesIO(images.encode(plain, "tiff"))) as file:
        assert file.is_bigtiff
        assert np.array_equal(file.asarray(), array.squeeze())


def test_premultiplied_alpha_says_so_again():
    image = images.decode(written(samples(np.uint8, (5, 5, 4)), photometric="rgb", extrasamples=["assocalpha"]))
    assert image.premultiplied
    assert ifd.parse(images.encode(image, "tiff")).number(0x152) == 1


def test_smaller_versions_are_left_out_and_other_pages_refused():
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(samples(np.uint8, (20, 20, 3)), photometric="rgb")
        writer.write(samples(np.uint8, (10, 10, 3)), photometric="rgb", subfiletype=1)
    image = images.decode(file.getvalue())
    assert image.pixels.shape == (20, 20, 3)
    assert "smaller versions" in image.notes[0]


def _patched(data: bytes, tag: int, value: int) -> bytes:
    """The file with another first value of an inline tag of its first directory."""
    place = struct.unpack_from("<I", data, 4)[0]
    for at in range(place + 2, place + 2 + 12 * struct.unpack_from("<H", data, place)[0], 12):
        if struct.unpack_from("<H", data, at)[0] == tag:
            form = "<H" if struct.unpack_from("<H", data, at + 2)[0] == 3 else "<I"
            patched = bytearray(data)
            struct.pack_into(form, patched, at + 8, value)
            return bytes(patched)
    raise KeyError(tag)


@pytest.mark.parametrize(
    ("tag", "value", "word"),
    [(0x103, 6, "old JPEG"), (0x103, 34712, "JPEG 2000"), (0x103, 999, "999"), (0x106, 8, "CIELab"),
     (0x13D, 77, "predictor"), (0x100, 2**31, "max-pixels"), (0x101, 0, "0 pixels"), (0x115, 7, "channels"),
     (0x117, 5, "too early")],
)  # fmt: skip
def test_what_is_not_read_is_refused_by_name(tag, value, word):
    data = written(samples(np.uint8, (20, 20, 3)), photometric="rgb", compression="zlib", predictor=True, byteorder="<")
    with pytest.raises(PictureError, match=word):
        images.decode(_patched(data, tag, value))


def test_a_crafted_tile_size_takes_no_memory():
    data = written(samples(np.uint8, (20, 20)), tile=(16, 16), compression="zlib", byteorder="<")
    with pytest.raises(PictureError, match="tiles"):
        images.decode(_patched(_patched(data, 0x142, 65520), 0x143, 65520))


def test_a_chain_of_pages_that_bites_its_tail_ends():
    data = bytearray(written(samples(np.uint8, (20, 20)), byteorder="<", subfiletype=1))
    place = struct.unpack_from("<I", data, 4)[0]
    struct.pack_into("<I", data, place + 2 + 12 * struct.unpack_from("<H", data, place)[0], place)
    assert images.decode(bytes(data)).pixels.shape == (20, 20, 3)
