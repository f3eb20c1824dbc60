"""Bytes and files: which codec a picture needs, and how one is written whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from rngcli import atomic
from rngcli.errors import EnvironmentFault, PictureError, RngError, UsageError
from rngcli.images import avif, dng, heic, ifd, jpeg, jxl, png, raw, tiff, webp
from rngcli.images.chromaticity import icc_of_exif
from rngcli.images.colour import from_stored
from rngcli.images.fitting import as_held
from rngcli.images.image import Format, Image, ReadOptions, TooManyPixels, WriteOptions
from rngcli.images.metadata import density
from rngcli.images.tiff import PageForm
from rngcli.images.tiff_pages import TiffPages

RAW_SUFFIXES = frozenset({
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc", ".mef",
    ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
})  # fmt: skip
FORMAT_OF_SUFFIX: dict[str, Format] = {
    ".jpg": "jpeg", ".jpeg": "jpeg", ".jpe": "jpeg", ".jfif": "jpeg", ".png": "png", ".tif": "tiff", ".tiff": "tiff",
    ".webp": "webp", ".avif": "avif", ".heic": "heic", ".heif": "heic", ".hif": "heic", ".jxl": "jxl",
    ".dng": "dng",
}  # fmt: skip
SUFFIX_OF_FORMAT: dict[Format, str] = {
    "jpeg": ".jpg", "png": ".png", "tiff": ".tif", "webp": ".webp", "avif": ".avif", "heic": ".heic", "jxl": ".jxl",
    "dng": ".dng",
}  # fmt: skip
READABLE_SUFFIXES: frozenset[str] = frozenset(FORMAT_OF_SUFFIX) | RAW_SUFFIXES

_DECODERS: dict[str, Callable[[bytes, ReadOptions], Image]] = {
    "jpeg": jpeg.decode, "png": png.decode, "tiff": tiff.decode, "webp": webp.decode, "avif": avif.decode,
    "heic": heic.decode, "jxl": jxl.decode, "raw": raw.decode,
}  # fmt: skip
_ENCODERS: dict[Format, Callable[[Image, WriteOptions], bytes]] = {
    "jpeg": jpeg.encode, "png": png.encode, "tiff": tiff.encode, "webp": webp.encode, "avif": avif.encode,
    "heic": heic.encode, "jxl": jxl.encode, "dng": dng.encode,
}  # fmt: skip
_UNREADABLE = {
    b"GIF8": "a GIF", b"BM": "a BMP", b"8BPS": "a Photoshop document", b"%PDF": "a PDF",
    b"\x76\x2f\x31\x01": "an OpenEXR picture",
    b"\0\0\0\x0cjP  ": "a JPEG 2000",
}  # fmt: skip
_SAY_DENSITY = ("jpeg", "png", "tiff")  # without EXIF
_ONE_PICTURE = {
    errno.ENAMETOOLONG, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.EILSEQ, errno.ENOTEMPTY,
    errno.EACCES, errno.EPERM, errno.ELOOP,
}  # fmt: skip


def sniff(data: bytes) -> str:
    """The format of a file by its first bytes: a `Format` or "raw"; PictureError where rng does not read it."""
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(png.SIGNATURE):
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data.startswith((jxl.CODESTREAM, jxl.CONTAINER)):
        return "jxl"
    if raw.is_raw(data):
        return "raw"
    if data[4:8] == b"ftyp":
        return _sniff_boxes(data)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    known = next((name for mark, name in _UNREADABLE.items() if data.startswith(mark)), None)
    if known:
        raise PictureError(f"the file is {known}, which rng does not read", "convert it to TIFF or PNG first")
    cause = "the file is empty" if not data else "the file is no picture that rng reads"
    raise PictureError(cause, "whatever its name says, its content decides")


def _sniff_boxes(data: bytes) -> str:
    brands = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
    if b"avif" in brands:
        return "avif"
    if any(mark in brands for mark in (b"hei", b"mif1", b"hevc", b"hevx")):
        return "heic"
    raise PictureError("the file is a film or another container, no picture", "leave it out")


def decode(data: bytes, options: ReadOptions | None = None) -> Image:
    """The picture in the bytes of a file; PictureError, and no other, where there is none.

    Errors do not name the file: who calls knows it.
    """
    kind = sniff(data)
    return _decoded(kind, lambda: _DECODERS[kind](data, options or ReadOptions()))


def decode_page(pages: TiffPages, k: int, options: ReadOptions | None = None) -> Image:
    """Page k, counted from 0, of a TIFF of several; PictureError, and no other, which names the page."""
    try:
        return _decoded("tiff", lambda: pages.decode(k, options or ReadOptions()))
    except PictureError as error:
        raise PictureError(f"page {k + 1} of {len(pages)}: {error.cause}", error.remedy) from error


def _decoded(kind: str, decoder: Callable[[], Image]) -> Image:
    try:
        return from_stored(told_by_exif(_finite(decoder())))
    except RngError:
        raise
    except MemoryError:
        raise PictureError("the picture needs more memory than there is", "lower --max-pixels or free memory") from None
    except Exception as error:  # decoders meet hostile files with exceptions of every kind
        cause = f"the {kind.upper()} cannot be decoded ({_reason(error)})"
        raise PictureError(cause, "the file is damaged") from error


def _reason(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _finite(image: Image) -> Image:
    if image.depth == 32 and not np.isfinite(image.pixels).all():
        raise PictureError("the picture holds values that are not numbers (NaN or infinite)", "repair it first")
    return image


def told_by_exif(image: Image) -> Image:
    """The picture with the colours and the density that its EXIF names, where nothing else does."""
    metadata = image.metadata
    icc = metadata.icc or (b"" if metadata.colour else icc_of_exif(metadata.exif))
    tree = None if metadata.dpi or image.format in _SAY_DENSITY else ifd.parse(metadata.exif)
    dpi = density(tree) if tree else metadata.dpi
    return replace(image, metadata=replace(metadata, icc=icc, dpi=dpi))


def encode(image: Image, format: Format, options: WriteOptions | None = None) -> bytes:
    """The bytes of a file of `format`, its metadata made true; PictureError where it cannot hold the picture."""
    options = options or WriteOptions()
    return _encoded(format, lambda: _ENCODERS[format](as_held(image, format, options), options))


def encode_page(image: Image, form: PageForm, options: WriteOptions | None = None) -> bytes:
    """The same for a page of a TIFF of several: a TIFF of one page, for `PageAppender`."""
    options = options or WriteOptions()
    return _encoded("tiff", lambda: tiff.encode(as_held(image, "tiff", options), options, form))


def _encoded(format: Format, encoder: Callable[[], bytes]) -> bytes:
    try:
        return encoder()
    except RngError:
        raise
    except MemoryError:
        raise PictureError("writing the picture needs more memory than there is", "free memory") from None
    except Exception as error:
        cause = f"the picture cannot be written as {format.upper()} ({_reason(error)})"
        raise PictureError(cause, "choose another format") from error


def format_named(name: str | None) -> str | None:
    """The format that a user means by its name or by a suffix of its files, tif or jpg; other names as they are."""
    return FORMAT_OF_SUFFIX.get(f".{name.lower().lstrip('.')}", name) if name else None


def output_suffix(suffix: str, format: Format | None = None) -> str:
    """The suffix for the output of an input with `suffix`: its own where that names `format` (None: any) and no raw."""
    own = None if suffix.lower() in RAW_SUFFIXES else FORMAT_OF_SUFFIX.get(suffix.lower())
    if own and format in (None, own):
        return suffix
    return SUFFIX_OF_FORMAT[format or "tiff"]


def read(path: Path, options: ReadOptions | None = None) -> Image:
    """The picture in a file; PictureError where the file or the picture cannot be read."""
    try:
        if path.exists() and not path.is_file():
            raise PictureError("this is no regular file", "name a picture")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PictureError(f"the file cannot be read ({reason})", "check that it is there and readable") from None
    return _named(decode(data, options), path.suffix)


def read_pages(path: Path, options: ReadOptions | None = None) -> Iterator[Image]:
    """The pictures in a file, one after the other: the pages of a TIFF, or the one that other files hold."""
    try:
        pages = TiffPages.of(path) if path.is_file() else None
    except (OSError, ValueError):
        pages = None  # reading says why
    if not pages:
        yield read(path, options)
        return
    with pages:
        for k in range(len(pages)):
            yield decode_page(pages, k, options)


def size_of(path: Path) -> tuple[int, int]:
    """(height, width) of the picture in a file, as its header says, before anything is decoded; errors as `read`."""
    try:
        pixels = read(path, ReadOptions(max_pixels=0)).pixels
    except TooManyPixels as told:
        return told.height, told.width
    return pixels.shape[0], pixels.shape[1]


def _named(image: Image, suffix: str) -> Image:
    raw_format = image.format if image.format == "dng" else "tiff"
    expected = raw_format if suffix.lower() in RAW_SUFFIXES else FORMAT_OF_SUFFIX.get(suffix.lower(), image.format)
    return image if image.format == expected else image.noted(f"named {suffix}, but holds a {image.format.upper()}")


def write(path: Path, image: Image, options: WriteOptions | None = None) -> None:
    """Write a picture whole or not at all, in the format that the suffix of `path` names, else in the one it came in.

    Folders are made. PictureError where the format cannot hold the picture, EnvironmentFault where the disk refuses.
    """
    if path.suffix.lower() in RAW_SUFFIXES - {".dng"}:
        raise UsageError(f"{path.name} would be a raw file, which rng does not write", "name a .dng or a .tif")
    format = FORMAT_OF_SUFFIX.get(path.suffix.lower(), image.format)
    write_bytes(path, encode(image, format, options))


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data` in one instant, as `atomic.write_bytes` does.

    Raises PictureError where only this name is at fault, EnvironmentFault where the disk refuses.
    """
    with one_picture():
        atomic.write_bytes(path, data)


def write_new(path: Path, data: bytes) -> bool:
    """The same for a file that must not be there yet: False, and nothing is replaced, where something is."""
    with one_picture():
        return atomic.write_new(path, data)


@contextmanager
def one_picture() -> Iterator[None]:
    """PictureError where only one name, or its folder, is at fault."""
    try:
        yield
    except EnvironmentFault as fault:
        if isinstance(fault.__cause__, OSError) and fault.__cause__.errno in _ONE_PICTURE:
            raise PictureError(fault.cause, "choose another output name") from None
        raise
