"""Peculiar files, each of a kind that other programs mishandle: nothing is shown wrongly, nothing lost unsaid."""

from __future__ import annotations

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from rngcli import images
from rngcli.errors import PictureError
from rngcli.images import Image, Metadata, ifd
from rngcli.images.colour import to_stored
from rngcli.images.spaces import space_of
from tests.test_images import png16_by_hand, smooth
from tests.test_images_tiff import by_hand

TARGETS = ("jpeg", "png", "tiff", "webp", "avif", "heic", "jxl")


def tiff_of(array: np.ndarray, **more: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, photometric="rgb", metadata=None, **more)
    return file.getvalue()


def encoded(image: Image, target: str) -> tuple[bytes, tuple[str, ...]]:
    return images.encode(image, target), images.losses(image, target)


def shown(data: bytes) -> np.ndarray:
    """sRGB, (H, W, 3) about [0, 1], as a viewer with colour management shows it."""
    image = images.decode(data)
    stored = to_stored(image)
    space, _ = space_of(image.metadata, image.grey)
    if space is None:
        return stored
    return space.to_srgb(stored.reshape(-1, 3).T.astype(float)).T.reshape(stored.shape)


# What a library does unasked.


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("compression", ["jpeg", "webp", "jpegxl", "zlib"])
def test_pixels_of_a_tiff_are_as_stored(orientation, compression):
    array = smooth((32, 64))
    data = tiff_of(array, compression=compression, extratags=[(274, 3, 1, orientation, True)])
    image = images.decode(data)
    assert image.metadata.orientation == orientation
    assert np.abs(image.pixels * 255 - array).mean() < 6
    with tifffile.TiffFile(io.BytesIO(images.encode(image, "tiff"))) as file:
        assert file.pages[0].tags[274].value == orientation
        assert file.pages[0].shape == array.shape


REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


@pytest.mark.parametrize("compression", [1, 8, 32773])
@pytest.mark.parametrize("kind", ["u1", "<u2"])
def test_bits_may_be_told_from_the_other_end(compression, kind):
    array = np.random.default_rng(0).integers(0, 256, (12, 10, 3)).astype(kind) * (257 if kind != "u1" else 1)
    raw = array.tobytes()
    packed = {1: bytes, 8: zlib.compress, 32773: imagecodecs.packbits_encode}[compression](raw)
    bits = 8 * array.itemsize
    tags = {"t258": (bits,) * 3, "t259": (compression,), "t262": (2,), "t266": (2,), "t277": (3,), "t278": (12,)}
    image = images.decode(by_hand(bytes(packed).translate(REVERSED), t256=(10,), t257=(12,), **tags))
    assert np.array_equal(np.rint(image.pixels * (2**bits - 1)), array)


def test_a_last_strip_may_be_as_high_as_the_others():
    array = smooth((20, 10))
    strips = [
        zlib.compress(array[:16].tobytes()),
        zlib.compress(np.pad(array[16:], ((0, 12), (0, 0), (0, 0))).tobytes()),
    ]
    fields = {256: (10,), 257: (20,), 258: (8, 8, 8), 259: (8,), 262: (2,), 277: (3,), 278: (16,)}
    tree = {tag: ifd.short_field("<", *values) for tag, values in fields.items()}
    tree |= {273: ifd.long_field("<", 8, 8 + len(strips[0])), 279: ifd.long_field("<", *map(len, strips))}
    body = b"".join(strips)
    body += bytes(len(body) % 2)
    data = (
        b"II*\0" + struct.pack("<I", 8 + len(body)) + body + ifd.serialise(ifd.Directory("<", tree), 8 + len(body), "<")
    )
    assert np.array_equal(np.rint(images.decode(data).pixels * 255), array)


@pytest.mark.parametrize("compression", [1, 8])
def test_byte_counts_may_be_missing(compression):
    array = smooth((16, 10))
    packed = zlib.compress(array.tobytes()) if compression == 8 else array.tobytes()
    tags = {"t258": (8, 8, 8), "t259": (compression,), "t262": (2,), "t277": (3,), "t278": (16,)}
    data = by_hand(packed, t256=(10,), t257=(16,), **tags)
    data = data.replace(struct.pack("<HHI", 279, 4, 1), struct.pack("<HHI", 65000, 4, 1))
    assert np.array_equal(np.rint(images.decode(data).pixels * 255), array)


@pytest.mark.parametrize("bits", [2, 4, 10, 12, 14])
def test_packed_bits(bits):
    array = np.random.default_rng(0).integers(0, 2**bits, (9, 13, 3)).astype(np.uint8 if bits <= 8 else np.uint16)
    image = images.decode(tiff_of(array, bitspersample=bits))
    assert image.depth == (8 if bits <= 8 else 16)
    assert np.abs(image.pixels * (2**bits - 1) - array).max() < 0.01
    assert f"{bits} bit" in image.notes[0]


# Colours without a profile.

CHRM_ADOBE = struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)


@pytest.mark.parametrize("target", TARGETS)
def test_gamma_of_a_png_is_a_colour_space(target):
    scene = smooth().astype(float) / 255
    linear = np.where(scene <= 0.04045, scene / 12.92, ((scene + 0.055) / 1.055) ** 2.4)
    data = png16_by_hand(np.rint(linear * 65535).astype(np.uint16), 2, (b"gAMA", struct.pack(">I", 100_000)))
    image = images.decode(data)
    assert np.abs(shown(data) - scene).max() < 0.002
    assert np.abs(shown(images.encode(image, target)) - scene).mean() < 0.02
    if target == "png":
        again = images.encode(image, "png")
        assert b"gAMA" in again
        assert b"iCCP" not in again
        assert images.decode(again).metadata.icc == image.metadata.icc


def test_primaries_of_a_png_and_of_a_tiff_are_a_colour_space():
    array = smooth()
    wide = [
        png16_by_hand(array.astype(np.uint16) * 257, 2, (b"cHRM", CHRM_ADOBE), (b"gAMA", struct.pack(">I", 45455))),
        tiff_of(array, extratags=[
            (318, 5, 2, (3127, 10000, 3290, 10000), True),
            (319, 5, 6, (64, 100, 33, 100, 21, 100, 71, 100, 15, 100, 6, 100), True),
        ]),
    ]  # fmt: skip
    for data in wide:
        image = images.decode(data)
        assert image.metadata.icc
        assert np.abs(shown(data) * 255 - array).max() > 20  # Adobe's green is not that of sRGB
        back = images.decode(images.encode(image, "jpeg"))
        assert back.metadata.icc == image.metadata.icc


def test_what_says_srgb_makes_no_profile():
    array = smooth().astype(np.uint16) * 257
    for chunks in ([(b"gAMA", struct.pack(">I", 45455))], [(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100_000))]):
        assert not images.decode(png16_by_hand(array, 2, *chunks)).metadata.icc


def test_a_camera_says_adobe_rgb_in_exif():
    rules = ifd.Directory("<", {1: ifd.ascii_field("R03")})
    camera = ifd.Directory("<", {0xA001: ifd.short_field("<", 0xFFFF)}, {ifd.INTEROP_POINTER: rules})
    exif = ifd.stream(ifd.Directory("<", {0x10F: ifd.ascii_field("x")}, {ifd.EXIF_POINTER: camera}))
    file = io.BytesIO()
    Pillow.fromarray(smooth()).save(file, "JPEG", exif=b"Exif\0\0" + exif, quality=95, subsampling=0)
    image = images.decode(file.getvalue())
    assert image.metadata.icc
    assert np.abs(shown(file.getvalue()) * 255 - smooth()).max() > 20


# Channels.


@pytest.mark.parametrize("target", TARGETS)
def test_premultiplied_colours_are_as_bright_elsewhere(target):
    array = np.zeros((16, 16, 4), np.uint8)
    array[..., :3], array[..., 3] = 28, 128  # 0.11 at half transparency is 0.22
    image = images.decode(tiff_of(array, extrasamples=["assocalpha"]))
    if target == "jpeg":
        with pytest.raises(PictureError, match="transparency"):
            images.encode(image, target)
        return
    back = images.decode(images.encode(image, target))
    straight = back.pixels.mean() / (back.alpha.mean() / np.iinfo(back.alpha.dtype).max if back.premultiplied else 1)
    assert straight == pytest.approx(28 / 128, abs=0.02)
    assert back.alpha.mean() / np.iinfo(back.alpha.dtype).max == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("kinds", [[0], [2, 0], [0, 2], [0, 0]])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_further_channel_is_no_transparency(kinds, dtype):
    array = np.random.default_rng(0).integers(0, 255, (12, 9, 3 + len(kinds))).astype(dtype)
    image = images.decode(tiff_of(array, extrasamples=kinds))
    assert (image.alpha is not None) == (2 in kinds)
    with tifffile.TiffFile(io.BytesIO(images.encode(image, "tiff"))) as file:
        page = file.pages[0]
        assert sorted(page.extrasamples) == sorted(kinds)
        seen = page.asarray()
    for kind in (0, 2):
        before = [array[..., 3 + i] for i, k in enumerate(kinds) if k == kind]
        after = [seen[..., 3 + i] for i, k in enumerate(page.extrasamples) if k == kind]
        assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))
    data, notes = encoded(image, "png")
    assert "further channels" in notes[0]
    assert (images.decode(data).alpha is not None) == (2 in kinds)


# Words.


IPTC = b"".join(
    struct.pack(">BBBH", 0x1C, record, number, len(value)) + value
    for record, number, value in [(1, 90, b"\x1b%G"), (2, 0, b"\0\4"), (2, 120, "Wälder & Wiesen".encode()),
                                  (2, 25, b"wood"), (2, 25, b"meadow"), (2, 80, b"Anna"), (2, 55, b"20240506"),
                                  (2, 65, b"a program")]
)  # fmt: skip


@pytest.mark.parametrize("target", ["png", "webp", "avif", "heic", "jxl"])
def test_iptc_becomes_xmp(target):
    image = Image(smooth().astype(np.float32) / 255, "jpeg", metadata=Metadata(iptc=IPTC))
    data, notes = encoded(image, target)
    xmp = images.decode(data).metadata.xmp.decode()
    for text in ("Wälder &amp; Wiesen", "<rdf:li>wood</rdf:li><rdf:li>meadow</rdf:li>", "Anna", "2024-05-06"):
        assert text in xmp
    assert "2:65" in notes[0]


def test_words_that_xmp_has_already_stay():
    xmp = (b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
           b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt>'
           b'<rdf:li xml:lang="x-default">newer</rdf:li></rdf:Alt></dc:description></rdf:Description></rdf:RDF>'
           b'</x:xmpmeta>')  # fmt: skip
    image = Image(smooth().astype(np.float32) / 255, "jpeg", metadata=Metadata(iptc=IPTC, xmp=xmp))
    back = images.decode(images.encode(image, "webp")).metadata.xmp.decode()
    assert "newer" in back
    assert "Wälder" not in back
    assert "meadow" in back


def test_damaged_xmp_is_left_alone_and_the_words_are_named():
    image = Image(smooth().astype(np.float32) / 255, "jpeg", metadata=Metadata(iptc=IPTC, xmp=b"<x:xmp"))
    data, notes = encoded(image, "webp")
    assert images.decode(data).metadata.xmp == b"<x:xmp"
    assert "damaged" in notes[0]


def test_texts_of_a_png_and_comments_of_a_jpeg_find_their_places():
    text = ((b"tEXt", b"Author\0Anna"), (b"zTXt", b"Title\0\0" + zlib.compress(b"Wood")),
            (b"iTXt", "Comment\0\0\0\0\0Grüße".encode()), (b"tEXt", b"Recipe\0salt"))  # fmt: skip
    image = Image(smooth().astype(np.float32) / 255, "png", metadata=Metadata(text=text))
    data, notes = encoded(image, "jpeg")
    back = images.decode(data).metadata
    assert b"Anna" in back.xmp
    assert b"Wood" in back.xmp
    assert back.comment.decode() == "Grüße"
    assert "Recipe" in notes[0]
    again = images.decode(images.encode(Image(image.pixels, "jpeg", metadata=back), "png")).metadata
    assert any(body.startswith(b"Comment\0") and "Grüße".encode() in body for _, body in again.text)
    _, notes = encoded(Image(image.pixels, "jpeg", metadata=back), "webp")
    assert "comment" in notes[0]


def test_nothing_is_said_where_nothing_is_lost():
    image = images.decode(png16_by_hand(smooth().astype(np.uint16), 2))
    for target in TARGETS:
        assert images.losses(image, target) == ()
