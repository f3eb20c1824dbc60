"""The table of what each format keeps: made by running pictures through rng, compared with FORMATS.md.

`python -m tests.test_formats_table` writes FORMATS.md anew, and docs/FORMATS.md with it. Sources are written and
outputs read by others: Pillow, tifffile, pillow-heif, imagecodecs, LibRaw, exiftool where it is installed, and for PNGs
of 16 bits, which none of them reads whole, by hand.
"""

from __future__ import annotations

import io
import json
import math
import shutil
import struct
import subprocess
import zlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import rawpy
import tifffile
from PIL import ExifTags, PngImagePlugin
from PIL import Image as Pillow

from rngcli import __version__, images
from rngcli.errors import PictureError
from rngcli.images import ifd
from rngcli.images.jxl_header import read_header
from rngcli.inference.engine import Job, denoise
from rngcli.inference.pipeline import Pipeline
from rngcli.methods.contract import Request
from tests.test_images import png16_by_hand, samples, smooth
from tests.test_images_colour import PROFILES
from tests.test_images_metadata import XMP, exif_block, opened
from tests.test_images_raw import FOLDER, LIGHTROOM, block, dng, needs_raws
from tests.tiny import identity_bundle

DOCUMENT = Path(__file__).with_name("FORMATS.md")
HEIGHT, WIDTH = 40, 300  # two tiles, which are blended
ORIENTATION = 6
DNG, NEF, NEF_FILE = "RAW (DNG)", "RAW (NEF)", FOLDER / "Nikon_uncompressed.nef"
WRITERS = {
    "JPEG": (".jpg", 8, {"quality": 92, "subsampling": 0}), "PNG 8": (".png", 8, {}), "PNG 16": (".png", 16, {}),
    "TIFF 8": (".tif", 8, {}), "TIFF 16": (".tif", 16, {}), "TIFF 32 float": (".tif", 32, {}),
    "WebP": (".webp", 8, {"quality": 92}), "WebP lossless": (".webp", 8, {"lossless": True, "exact": True}),
    "AVIF": (".avif", 8, {"quality": 90, "subsampling": "4:4:4"}), "AVIF 10": (".avif", 10, {}),
    "HEIC": (".heic", 8, {"quality": 92, "chroma": 444}), "HEIC 10": (".heic", 10, {"quality": 92, "chroma": 444}),
    "JPEG XL": (".jxl", 8, {"distance": 1.0}), "JPEG XL lossless": (".jxl", 16, {"lossless": True}),
    "TIFF LZW": (".tif", 8, {"compression": "lzw", "predictor": True}),
    "TIFF ZSTD": (".tif", 16, {"compression": "zstd"}), "TIFF JPEG": (".tif", 8, {"compression": "jpeg"}),
    "TIFF tiled": (".tif", 16, {"tile": (16, 32)}), "TIFF planar": (".tif", 16, {"planarconfig": "separate"}),
    "TIFF 12": (".tif", 12, {}),
}  # fmt: skip
TURNED = (".heic", ".jxl")  # by their decoders, whatever EXIF says
RAWS = {DNG: lambda: dng(more={0x2BC: block(LIGHTROOM)}), NEF: NEF_FILE.read_bytes}
ROWS = (*WRITERS, *RAWS)
COLUMNS = ("pixels", "depth", "alpha", "ICC", "EXIF", "XMP", "orientation")
KEPT = ("IFD0:Make", "IFD0:Model", "IFD0:Orientation")
DESCRIPTIVE = (0x10E, 0x10F, 0x110, 0x131, 0x132, 0x13B, 0x8298)  # of IFD0; its other tags are about the file


@dataclass(frozen=True)
class Seen:
    """What other programs find in a file: samples (H, W, 3) or (H, W, 4) as stored, and what goes with them."""

    samples: np.ndarray
    icc: bytes
    exif: dict[str, object]
    xmp: bytes
    orientation: int
    bits: int = 0  # of each sample; 0: all that its type has


# Sources.


def source(row: str, alpha: bool = False, icc: bytes = b"") -> bytes | None:
    """A picture with camera tags, XMP and an orientation; None where the format holds no alpha."""
    suffix, depth, settings = WRITERS[row]
    colours = smooth((HEIGHT, WIDTH)) if depth in (8, 10) else samples((HEIGHT, WIDTH, 3), depth)
    colours = np.rint(colours * (1023 / 255)).astype(np.uint16) if depth == 10 else colours
    array = np.dstack([colours, samples((HEIGHT, WIDTH), depth, 1)]) if alpha else colours
    if suffix == ".tif":
        return None if alpha and "JPEG" in row else tiff_of(array, icc, depth, settings)
    if suffix in TURNED or row == "AVIF 10":
        return None if icc and suffix == ".jxl" else modern(suffix, array, icc, depth, settings)
    text = b"XML:com.adobe.xmp\0\0\0\0\0" + XMP
    if row == "PNG 16":
        profile = [(b"iCCP", b"profile\0\0" + zlib.compress(icc))] if icc else []
        return png16_by_hand(array, 6 if alpha else 2, *profile, (b"eXIf", exif_block(ORIENTATION)), (b"iTXt", text))
    carried = {"exif": b"Exif\0\0" + exif_block(ORIENTATION), "icc_profile": icc or None}
    if suffix == ".png":
        chunks = PngImagePlugin.PngInfo()
        chunks.add(b"iTXt", text)
        carried["pnginfo"] = chunks
    else:
        carried["xmp"] = XMP
    file = io.BytesIO()
    try:
        Pillow.fromarray(array).save(file, Pillow.registered_extensions()[suffix], **carried, **settings)
    except OSError:  # what Pillow says of a JPEG with alpha
        if alpha:
            return None
        raise
    return file.getvalue()


def modern(suffix: str, array: np.ndarray, icc: bytes, depth: int, settings: dict[str, object]) -> bytes:
    """A HEIC by pillow-heif, a JPEG XL by imagecodecs in boxes by hand, an AVIF of 10 bit by rng for want of others."""
    exif, xmp = exif_block(ORIENTATION if suffix == ".heic" else 1), XMP.replace(b'Orientation="6"', b'Orientation="1"')
    if suffix == ".heic":
        mode = ("RGB" if array.shape[2] == 3 else "RGBA") + (f";{depth}" if depth > 8 else "")
        file = io.BytesIO()
        carried = {"exif": b"Exif\0\0" + exif, "xmp": xmp, **({"icc_profile": icc} if icc else {})}
        pillow_heif.encode(mode, array.shape[1::-1], array.tobytes(), file, bit_depth=depth, **carried, **settings)
        return file.getvalue()
    if suffix == ".jxl":
        stream = bytes(imagecodecs.jpegxl_encode(array, **settings))
        stream = stream[stream.index(b"jxlc") + 4 :] if stream[4:8] == b"JXL " else stream
        parts = ((b"ftyp", b"jxl \0\0\0\0jxl "), (b"Exif", bytes(4) + exif), (b"xml ", xmp), (b"jxlc", stream))
        boxes = (struct.pack(">I4s", 8 + len(body), kind) + body for kind, body in parts)
        return b"\0\0\0\x0cJXL \r\n\x87\n" + b"".join(boxes)
    full = 2**depth - 1
    plane = np.rint(array[..., 3] * (65535 / full)).astype(np.uint16) if array.shape[2] == 4 else None
    metadata = images.Metadata(exif_block(ORIENTATION), XMP, icc=icc)
    image = images.Image(array[..., :3] / np.float32(full), "avif", depth, alpha=plane, metadata=metadata)
    return images.encode(image, "avif")


def tiff_of(array: np.ndarray, icc: bytes, depth: int, settings: dict[str, object]) -> bytes:
    """A TIFF by tifffile; its EXIF and GPS directories, which tifffile does not write, are put behind it."""
    camera = ifd.parse(exif_block(ORIENTATION))

    def written(*places: int) -> bytes:
        tags = [(0x10F, "s", 0, camera.text(0x10F), True), (0x110, "s", 0, camera.text(0x110), True),
                (0x112, "H", 1, ORIENTATION, True), (0x2BC, "B", len(XMP), XMP, True),
                *((tag - 1, "I", 1, at, True) for tag, at in zip(camera.children, places, strict=True))]  # fmt: skip
        file = io.BytesIO()
        planar = "planarconfig" in settings
        tifffile.imwrite(
            file, np.moveaxis(array, 2, 0) if planar else array, photometric="rgb", byteorder=">", metadata=None,
            software="firmware 1.0", extratags=tags, iccprofile=icc or None, **settings,
            extrasamples=["unassalpha"] if array.shape[2] == 4 else None,
            **({"bitspersample": depth} if depth == 12 else {}),
        )  # fmt: skip
        data = file.getvalue()
        for tag in camera.children:  # tifffile writes no tag of these numbers, but the numbers before them
            assert data.count(struct.pack(">HH", tag - 1, ifd.LONG)) == 1
            data = data.replace(struct.pack(">HH", tag - 1, ifd.LONG), struct.pack(">HH", tag, ifd.LONG))
        return data

    first = len(written(0, 0))
    first += first % 2
    one, two = camera.children.values()
    behind = ifd.serialise(one, first, ">")
    behind += bytes(len(behind) % 2)
    data = written(first, first + len(behind)).ljust(first, b"\0") + behind
    return data + ifd.serialise(two, len(data), ">")


# Independent readers.


def seen(data: bytes) -> Seen:
    if data[:4] in (b"II*\0", b"MM\0*"):
        return seen_by_tifffile(data)
    if data.startswith(b"\0\0\0\x0cJXL "):
        bits = read_header(data[data.index(b"jxlc") + 4 :][:100]).bits
        exif, xmp = opened(data).getexif(), opened(data).info["xmp"]
        return Seen(imagecodecs.jpegxl_decode(data), b"", told(exif), xmp, exif.get(0x112, 1), bits)
    if data[4:11] == b"ftyphei":
        heif = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
        exif, info = Pillow.Exif(), heif.info
        exif.load(info["exif"])
        tags, icc = told(exif), info.get("icc_profile", b"")
        return Seen(np.asarray(heif), icc, tags, info["xmp"], exif.get(0x112, 1), info["bit_depth"])
    picture = Pillow.open(io.BytesIO(data))
    xmp = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp", "").encode()
    exif = picture.getexif()
    deep = data[1:4] == b"PNG" and data[24] == 16
    array = unfiltered(data) if deep else np.asarray(picture)
    bits = 10 if b"pixi\0\0\0\0\x03\n" in data[:100_000] else 0
    array = imagecodecs.avif_decode(data) if bits else array
    return Seen(array, picture.info.get("icc_profile") or b"", told(exif), xmp, exif.get(0x112, 1), bits)


def seen_by_tifffile(data: bytes) -> Seen:
    exif = Pillow.Exif()
    exif.load(data)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        icc, xmp, orientation = (page.tags.valueof(tag, absent) for tag, absent in ((34675, b""), (700, b""), (274, 1)))
        array = page.asarray()
        array = np.moveaxis(array, 0, 2) if page.planarconfig == 2 else array
        return Seen(array, icc, told(exif), xmp, orientation, page.bitspersample)


def developed(data: bytes) -> np.ndarray:
    """A raw by LibRaw under the settings that rng promises; a scanner's, whose white LibRaw takes for too low."""
    with rawpy.imread(io.BytesIO(data)) as raw:
        return raw.postprocess(
            use_camera_wb=True, no_auto_bright=True, adjust_maximum_thr=0, output_bps=16, user_sat=65535,
            gamma=(2.4, 12.92),
        )  # fmt: skip


def told(exif: Pillow.Exif) -> dict[str, object]:
    """The tags of a camera, by name."""
    tags = {ExifTags.TAGS[tag]: exif[tag] for tag in DESCRIPTIVE if tag in exif}
    for directory, names in ((ExifTags.IFD.Exif, ExifTags.TAGS), (ExifTags.IFD.GPSInfo, ExifTags.GPSTAGS)):
        tags |= {names.get(tag, hex(tag)): value for tag, value in exif.get_ifd(directory).items()}
    return tags


def unfiltered(data: bytes) -> np.ndarray:
    """The samples of a PNG of 16 bits and 3 or 4 channels (PNG specification, section 9)."""
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    step = 2 * {2: 3, 6: 4}[colour]
    packed, at = b"", 8
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        packed += data[at + 8 : at + 8 + size] * (kind == b"IDAT")
        at += 12 + size
    raw, rows, above = zlib.decompress(packed), [], bytearray(step * (width + 1))
    for start in range(0, len(raw), step * width + 1):
        row = bytearray(step)
        for i, value in enumerate(raw[start + 1 : start + 1 + step * width], step):
            left, up, corner = row[i - step], above[i], above[i - step]
            near = min((left, up, corner), key=lambda v, p=left + up - corner: abs(p - v))
            row.append((value + (0, left, up, (left + up) // 2, near)[raw[start]]) % 256)
        rows.append(row[step:])
        above = row
    return np.frombuffer(b"".join(rows), ">u2").reshape(height, width, -1).astype(np.uint16)


# The run, and the cells.


@cache
def pipeline() -> Pipeline:
    return Pipeline(identity_bundle(), "cpu", "fp32", 1)


def through(data: bytes, suffix: str) -> bytes | None:
    """The file after read, `--detail 0` under an identity model, and write; None where rng refuses it."""
    with TemporaryDirectory() as place:
        before = Path(place, "before" + suffix)
        after = Path(place, "after" + images.output_suffix(suffix))
        before.write_bytes(data)
        try:
            image = images.read(before)
            (result,) = denoise([Job("", image.pixels)], pipeline(), Request(detail=0))
            images.write(after, image.with_pixels(result.pixels))
        except PictureError:
            return None
        return after.read_bytes()


@cache
def passes(row: str) -> dict[str, tuple[bytes | None, bytes | None]]:
    """Of a plain picture, one with alpha, and one in a wide colour space: the file before and after."""
    if row in RAWS:
        data = RAWS[row]()
        return {"plain": (data, through(data, ".dng" if row == DNG else ".nef"))}
    suffix = WRITERS[row][0]
    sources = {"plain": source(row), "alpha": source(row, alpha=True), "ICC": source(row, icc=PROFILES["adobe"])}
    return {name: (data, data and through(data, suffix)) for name, data in sources.items()}


def distance(before: np.ndarray, after: np.ndarray, bits: tuple[int, int] = (0, 0)) -> str:
    """How near samples come back: their largest difference, rounded up to a power, since codecs differ a little."""
    levels = [2 ** (bit or 8 * array.itemsize) - 1 for bit, array in zip(bits, (before, after), strict=True)]
    if levels[0] != levels[1] and before.dtype == after.dtype:
        before = np.rint(before * (levels[1] / levels[0])).astype(after.dtype)
    if before.shape != after.shape or before.dtype != after.dtype:
        return f"{before.dtype} {before.shape} became {after.dtype} {after.shape}"
    most = np.abs(before.astype(np.float64) - after).max()
    if most == 0:
        return "bit for bit"
    if before.dtype.kind == "f":
        return f"within 1e{math.ceil(math.log10(most))}"
    return f"within {2 ** math.ceil(math.log2(most))} of {levels[1]} levels"


def exif_cell(before: dict[str, object], after: dict[str, object], height: int, width: int) -> str:
    """A tag counts as kept where it is the same, or was a statement on the old file and is now true of the new one."""
    truths = {"Software": f"rng {__version__}", "ExifImageWidth": width, "ExifImageHeight": height}
    gone = {tag for tag, value in before.items() if after.get(tag) not in (value, truths.get(tag, value))}
    if gone == before.keys():
        return "left out" if before else "none in the source"
    return f"{len(before) - len(gone)} tags kept" + (f", but for {', '.join(sorted(gone))}" if gone else "")


def block_cell(before: bytes, after: bytes) -> str:
    return ("kept" if after == before else "changed" if after else "left out") if before else "none in the source"


def xmp_cell(before: bytes, after: bytes) -> str:
    if before == after or not after:
        return block_cell(before, after)
    one, two = properties(before), properties(after)
    assert two < one
    return f"{', '.join(sorted(two))} kept; {', '.join(sorted(one - two))} left out"


def properties(packet: bytes) -> set[str]:
    """The properties of a packet of XMP, by name."""
    rdf = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
    descriptions = list(ElementTree.fromstring(packet).iter(f"{rdf}Description"))
    names = {name for entry in descriptions for name in (*entry.attrib, *(child.tag for child in entry))}
    return {name.rpartition("}")[2] for name in names - {f"{rdf}about"}}


def orientation_cell(before: int, after: int) -> str:
    if before == 1:
        return "upright, and said so" if after == 1 else "wrong"
    return "kept" if after == before else "lost"


def cells(row: str) -> list[str]:
    """One row: a cell for each of COLUMNS."""
    files = passes(row)
    plain = [seen(data) for data in files["plain"] if data]
    if len(plain) < 2:
        return ["refused"] * len(COLUMNS)
    before, after = plain
    if row in RAWS:
        before = replace(before, samples=developed(files["plain"][0]), bits=16, orientation=1)  # LibRaw turns it
    if row in WRITERS and WRITERS[row][0] in TURNED:
        before = replace(before, orientation=1)
    kind = {"u": "integers", "f": "floats"}[after.samples.dtype.kind]
    bits = before.bits, after.bits
    return [
        distance(before.samples, after.samples, bits), f"{after.bits or after.samples.itemsize * 8} bit {kind}",
        alpha_cell(*files.get("alpha", files["plain"])), icc_cell(*files.get("ICC", files["plain"])),
        exif_cell(before.exif, after.exif, *after.samples.shape[:2]), xmp_cell(before.xmp, after.xmp),
        orientation_cell(before.orientation, after.orientation),
    ]  # fmt: skip


def alpha_cell(before: bytes | None, after: bytes | None) -> str:
    if not before:
        return "not held by the format"
    if not after:
        return "refused"
    one, two = seen(before), seen(after)
    planes = [np.atleast_3d(found.samples)[..., 3:] for found in (one, two)]
    if not planes[0].size:
        return "none in the source"
    return distance(*planes, (one.bits, two.bits)) if planes[1].size else "lost"


def icc_cell(before: bytes | None, after: bytes | None) -> str:
    if not before:
        return "not held by the format"
    if not after:
        return "refused"
    one, two = seen(before), seen(after)
    kept = block_cell(one.icc, two.icc)
    return f"{kept}, pixels {distance(one.samples, two.samples, (one.bits, two.bits))}" if kept == "kept" else kept


def line(row: str) -> str:
    return f"| {row} | {' | '.join(cells(row))} |"


HEAD = f"""# What each format keeps

A picture of every format is read, denoised with `--detail 0` under a model that returns its input, and written again;
every cell is what independent readers then find. Made by `python -m tests.test_formats_table`, compared by the tests.

The ICC column is a picture in a space wider than sRGB, there and back; JPEG XL names its colours in its header instead.
EXIF is kept where every tag is the same, or was a statement on the old file (software, size) and is true of the new
one. The raw's pixels are compared with LibRaw's;
left out of it is what names places in the old file (the maker note), and the profile is that of the space in which it
is developed.
Of a raw's XMP, what it says of the photograph is kept (as is IPTC); what another program would do to the raw is left
out, since it is not what was done to the output.

| format | {" | ".join(COLUMNS)} |
|---{"|---" * len(COLUMNS)}|
"""


@pytest.mark.parametrize("row", [*WRITERS, DNG, pytest.param(NEF, marks=needs_raws)])
def test_the_table_is_what_the_pictures_say(row):
    assert line(row) in DOCUMENT.read_text().splitlines()


def test_the_document_has_these_rows_and_no_others():
    text = DOCUMENT.read_text()
    assert text.startswith(HEAD)
    assert [entry.split(" | ")[0] for entry in text[len(HEAD) :].splitlines()] == [f"| {row}" for row in ROWS]


@pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")
@pytest.mark.parametrize("row", WRITERS)
def test_exiftool_finds_the_same_tags_before_and_after(row, tmp_path):
    paths = [tmp_path / name for name in ("before", "after")]
    suffix, told = WRITERS[row][0], {"ExifIFD:ExifImageWidth", "ExifIFD:ExifImageHeight"}
    told |= {"IFD0:Orientation"} if suffix in (*TURNED, ".avif") else set()
    for path, data in zip(paths, passes(row)["plain" if suffix == ".jxl" else "ICC"], strict=True):
        path.write_bytes(data)
    said = subprocess.run(["exiftool", "-j", "-G1", "-n", *paths], capture_output=True, check=True).stdout
    before, after = (
        {tag: value for tag, value in tags.items()
         if tag.startswith(("ExifIFD:", "GPS:", "XMP", "ICC")) or tag in KEPT}
        for tags in json.loads(said)
    )  # fmt: skip
    assert len(before) > (10 if suffix == ".jxl" else 30)
    changed = {tag for tag in before.keys() | after.keys() if before.get(tag) != after.get(tag)}
    assert changed <= told
    assert after["ExifIFD:ExifImageWidth"] == (HEIGHT if suffix == ".heic" else WIDTH)


if __name__ == "__main__":
    before = {entry.split(" | ")[0].removeprefix("| "): entry for entry in DOCUMENT.read_text().splitlines()}
    absent = set() if NEF_FILE.exists() else {NEF}  # whose row stays as it stands
    DOCUMENT.write_text(HEAD + "".join((before[row] if row in absent else line(row)) + "\n" for row in ROWS))
    from tests import test_formats_page  # whose page has this table

    test_formats_page.PAGE.write_text(test_formats_page.document())
    print(DOCUMENT.read_text())
