"""The page for users of what formats hold: made by running pictures through rng, compared with docs/FORMATS.md.

`python -m tests.test_formats_page` writes it anew.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from rngcli import images
from rngcli.errors import PictureError
from rngcli.images import Encoding, Image, Metadata, ifd
from tests.test_formats_table import DOCUMENT as TABLE
from tests.test_images import REFUSED, png16_by_hand, smooth
from tests.test_images_carried import GAIN_MAP_XMP, jpeg_of, long_xmp, text_of_note, with_note
from tests.test_images_colour import PROFILES
from tests.test_images_metadata import IPTC, XMP, exif_block

PAGE = Path(__file__).parents[1] / "docs" / "FORMATS.md"
TARGETS = tuple(format for format in images.SUFFIX_OF_FORMAT if format != "dng")  # which holds raws only
PIXELS = smooth().astype(np.float32) / 255
RAMP = np.linspace(0, 1, 64 * 48, dtype=np.float32).reshape(48, 64, 1).repeat(3, axis=2)


def picture(**more: object) -> Image:
    """A lossless picture that came as no file of any format, so that every target is another one."""
    return Image(**{"pixels": PIXELS, "format": "raw", "encoding": Encoding(lossless=True), **more})


def levels(image: Image) -> str:
    return f"{image.depth} bit{' floats' if image.depth == 32 else ''}"


def kept(found: bool) -> str:
    return "kept" if found else "lost"


def held_alpha(back: Image) -> str:
    if back.alpha is None:
        return "lost"
    return "kept, premultiplied" if back.premultiplied else "kept"


NOTE_BLOCK, NOTE_TEXT = with_note()
WORDS = ((b"tEXt", b"Author\0Anna"), (b"tEXt", b"Recipe\0salt"))
ALPHA = np.linspace(1, 254, 64 * 48).astype(np.uint8).reshape(48, 64)
# What a picture has, and what is found of it in a file of another format: by the file's bytes and the picture in it.
FEATURES: dict[str, tuple[Image, Callable[[bytes, Image], str]]] = {
    "8 bit": (picture(), lambda _, back: levels(back)),
    "10 bit": (picture(pixels=RAMP, depth=10), lambda _, back: levels(back)),
    "16 bit": (picture(pixels=RAMP, depth=16), lambda _, back: levels(back)),
    "floats": (picture(pixels=RAMP, depth=32), lambda _, back: levels(back)),
    "grey": (picture(pixels=RAMP, grey=True), lambda _, back: "grey" if back.grey else "as RGB"),
    "alpha": (picture(alpha=ALPHA), lambda _, back: held_alpha(back)),
    "premultiplied alpha": (picture(alpha=ALPHA, premultiplied=True), lambda _, back: held_alpha(back)),
    "further channels": (picture(extras=ALPHA[..., None]), lambda _, back: kept(back.extras is not None)),
    "colour profile": (picture(metadata=Metadata(icc=PROFILES["adobe"])), lambda _, back: (
        "kept" if back.metadata.icc == PROFILES["adobe"] else "its colours named" if back.metadata.icc else "lost")),
    "HDR codes (PQ, HLG)": (picture(depth=10, metadata=Metadata(colour=((b"cICP", b"\x09\x10\0\1"),))),
                            lambda _, back: kept(bool(back.metadata.colour))),
    "EXIF, GPS": (picture(metadata=Metadata(exif_block())), lambda _, back: kept(
        ifd.parse(back.metadata.exif).children[ifd.GPS_POINTER].numbers(2) == (52, 30, 0))),
    "maker note": (picture(metadata=Metadata(NOTE_BLOCK)), lambda data, back: kept(
        text_of_note(data if back.format == "tiff" else back.metadata.exif, 0, "stream") == NOTE_TEXT)),
    "XMP": (picture(metadata=Metadata(xmp=XMP)), lambda _, back: kept(b"Wald" in back.metadata.xmp)),
    "XMP over 64 KB": (picture(metadata=Metadata(xmp=long_xmp(90_000))), lambda _, back: (
        "kept, in pieces" if back.metadata.xmp_more else kept(back.metadata.xmp.count(b"<rdf:li>word ") == 4500))),
    "IPTC": (picture(metadata=Metadata(iptc=IPTC)), lambda _, back: (
        "kept" if back.metadata.iptc == IPTC else "as XMP" if b"<rdf:li>Wald" in back.metadata.xmp else "lost")),
    "comment": (picture(metadata=Metadata(comment=b"a word")), lambda _, back: (
        "kept" if back.metadata.comment else "as a text" if back.metadata.text else "lost")),
    "texts of a PNG": (picture(metadata=Metadata(text=WORDS)), lambda _, back: (
        "kept" if len(back.metadata.text) > 2 else "as XMP" if b"Anna" in back.metadata.xmp else "lost")),
    "orientation": (picture(metadata=Metadata(exif_block(6))), lambda _, back: (
        "turned upright" if back.pixels.shape[:2] == (64, 48) and back.metadata.orientation == 1 else "wrong")),
    "density": (picture(metadata=Metadata(dpi=(300.0, 300.0))), lambda _, back: kept(back.metadata.dpi is not None)),
    "pixels that are not square": (picture(metadata=Metadata(aspect=(1, 2))),
                                   lambda _, back: kept(back.metadata.aspect == (1, 2))),
}  # fmt: skip


def cell(image: Image, target: str, check: Callable[[bytes, Image], str]) -> str:
    """What is found in a file of `target`, and whether a note tells what is not."""
    try:
        data = images.encode(image, target)
    except PictureError:
        return "refused"
    return check(data, images.decode(data)) + (" (noted)" if images.losses(image, target) else "")


def line(feature: str) -> str:
    image, check = FEATURES[feature]
    return f"| {feature} | {' | '.join(cell(image, target, check) for target in TARGETS)} |"


def tiff_of(**more: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, smooth(), photometric="rgb", metadata=None, **more)
    return file.getvalue()


# What is left out or changed within its own format, with a note.
NOTED = {
    "a palette": lambda: _saved(Pillow.fromarray(smooth()).convert("P")),
    "a grey PNG of 1 bit": lambda: _saved(Pillow.fromarray(smooth()).convert("1")),
    "a TIFF of 12 bit": lambda: _packed(12),
    "Photoshop's layers": lambda: tiff_of(extratags=[(37724, 7, 20, b"Adobe Photoshop Docu", True)]),
    "a gain map behind a JPEG": lambda: jpeg_of(xmp=GAIN_MAP_XMP) + jpeg_of(),
    "a film behind a JPEG": lambda: jpeg_of() + b"\0\0\0\x18ftypmp42" + bytes(99),
    "a JPEG without its end marker": lambda: jpeg_of()[:-2],
    "a PNG without its end chunk": lambda: png16_by_hand(smooth().astype(np.uint16), 2)[:-12],
}  # fmt: skip
MORE_REFUSED = {
    "CIELab TIFF": lambda: tiff_of().replace(struct.pack("<HHIH", 262, 3, 1, 2), struct.pack("<HHIH", 262, 3, 1, 8)),
    "truncated": lambda: jpeg_of()[:-300],
}


def _saved(image: Pillow.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _packed(bits: int) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, smooth().astype(np.uint16) * 16, photometric="rgb", bitspersample=bits, metadata=None)
    return file.getvalue()


def refusals() -> list[str]:
    told = []
    left_out = ("heif", "pages")  # libheif speaks of the one in its own words, the other has a section of its own
    files = [data for name, (data, _) in REFUSED.items() if name not in left_out]
    for data in (*files, *(make() for make in MORE_REFUSED.values())):
        with pytest.raises(PictureError) as caught:
            images.decode(data, images.ReadOptions())
        told.append(f"- {caught.value}")
    return sorted(set(told))


def document() -> str:
    suffixes = {target: [s for s, format in images.FORMAT_OF_SUFFIX.items() if format == target] for target in TARGETS}
    formats = "\n".join(f"| {target} | {' '.join(names)} |" for target, names in suffixes.items())
    features = "\n".join(map(line, FEATURES))
    notes = "\n".join(f"- {name}: *{images.decode(make()).notes[-1]}*" for name, make in NOTED.items())
    table = TABLE.read_text().partition("\n| format ")[2]
    return f"""# What formats hold

What a file holds decides, not its name. Every statement of this page is made by running pictures through `rng`, by
`python -m tests.test_formats_page`, and compared by the tests.

| format | suffixes |
|---|---|
{formats}
| camera RAW (read; written as linear DNG) | {" ".join(sorted(images.RAW_SUFFIXES))} |

`--format` takes these names, and suffixes: `tif` is `tiff`. In its own format a picture keeps its bits, its compression
(tables and subsampling of a JPEG, lossless or lossy WebP and JPEG XL, the subsampling of a HEIC) and all of its
metadata; `--quality` replaces the former, `--strip-metadata` leaves the profile only.

## In its own format

| format {table}
## In another format: `--format`

| of the source | {" | ".join(TARGETS)} |
|---{"|---" * len(TARGETS)}|
{features}

*(noted)*: a line with the picture's result names what was left out; nothing is lost without one, but for bits: JPEG and
WebP have 8, AVIF and HEIC at most 12, PNG at most 16. JPEG XL names primaries and a curve in its header instead of
carrying a profile.

## A TIFF of several pages

Every page is denoised and keeps its size, its depth and its tags; smaller versions among them are left out, with a
note. It is one file in all that is counted. A page that cannot be denoised fails the file, which is named with the
page: an output with one page as noisy as before would be found out last. Where the output is to be of a format that
holds one picture, and through a pipe, it is refused.

## Left out or changed in its own format, with a note

{notes}

Thumbnails go without one, since they would show the picture as it was, and so do the tags that say which software wrote
the old file and how large it was: they become true of the new one.

## Refused, by name

{chr(10).join(refusals())}
"""


def test_the_page_is_what_the_pictures_say():
    assert PAGE.read_text() == document()


def test_nothing_is_lost_without_a_word():
    for feature, (image, check) in FEATURES.items():
        for target in TARGETS:
            found = cell(image, target, check)
            assert found != "lost", f"{feature} in {target}"
            assert "wrong" not in found


if __name__ == "__main__":
    PAGE.write_text(document())
    print(PAGE.read_text())
