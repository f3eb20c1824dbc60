"""The strips and tiles of a TIFF: what a file claims of them is checked before a decoder runs.

A crafted file must not take more memory than its picture, nor leave parts of it empty; tifffile and imagecodecs trust
the offsets, and decoders of whole pictures (JPEG, WebP, JPEG XL) trust the size in a segment's own header.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import WebPImagePlugin

from rngcli.errors import PictureError
from rngcli.images import jpeg_segments, jxl

if TYPE_CHECKING:
    from tifffile import TiffPage

    from rngcli.images.ifd import Bytes

JPEG = 7
_READ = {1, 5, JPEG, 8, 32946, 32773, 34925, 50000, 50001, 50002, 52546}
_NAMES = {2: "CCITT", 3: "CCITT fax", 4: "CCITT fax", 6: "old JPEG", 34712: "JPEG 2000", 34887: "LERC"}
_SIZE_OF: dict[int, Callable[[bytes], tuple[int, int]]] = {
    JPEG: jpeg_segments.size_of, 50001: lambda data: WebPImagePlugin.WebPImageFile(io.BytesIO(data)).size,
    50002: jxl.size_of, 52546: jxl.size_of,
}  # fmt: skip
_LARGEST_EMPTY = 2**24  # pixels a tile may have beyond its picture
_DAMAGED = "the file is damaged"


def check_packing(page: TiffPage) -> None:
    """Refuse, by its name, a way of packing that is not read."""
    if page.compression not in _READ:
        name = _NAMES.get(page.compression, f"number {page.compression:d}")
        raise PictureError(f"a TIFF with {name} compression", "save it with LZW, Deflate or none")
    if page.predictor not in (1, 2, 3):
        raise PictureError(f"a TIFF with the unknown predictor {page.predictor}", "save it without compression")


def unpacked(data: Bytes, page: TiffPage) -> np.ndarray:
    """All samples of a page of a TIFF file, (H, W, C), as stored, in the machine's byte order."""
    page.rowsperstrip = page.rowsperstrip or (0 if page.is_tiled else page.imagelength)
    if page.tags.get(325 if page.is_tiled else 279) is None:
        page.databytecounts = _gaps(page.dataoffsets, len(data))
    _check(data, page)
    page.decode = _forgiving(page.decode)
    try:
        samples = page.asarray(squeeze=False, maxworkers=1)
    except Exception as error:  # decoders meet damage with exceptions of every kind
        raise PictureError(f"a TIFF whose strips are damaged or end too early ({error})", _DAMAGED) from None
    return samples[0, 0] if page.planarconfig == 1 else np.moveaxis(samples[:, 0, :, :, 0], 0, 2)


def _gaps(offsets: tuple[int, ...], end: int) -> tuple[int, ...]:
    """The bytes from each offset to the next: what a segment can have where the file does not say it."""
    return tuple(min((after for after in (*offsets, end) if after > at), default=at) - at for at in offsets)


def _check(data: Bytes, page: TiffPage) -> None:
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    if height < 1 or width < 1 or height * width > 2 * page.imagelength * page.imagewidth + _LARGEST_EMPTY:
        raise PictureError(f"a TIFF in tiles of {width}×{height} pixels", _DAMAGED)
    offsets, sizes = page.dataoffsets, page.databytecounts
    if min(len(offsets), len(sizes)) < math.prod(page.chunked) or not all(sizes):
        raise PictureError("a TIFF in which strips are missing", _DAMAGED)
    if sum(sizes) > 2 * len(data):
        raise PictureError("a TIFF whose strips overlap", _DAMAGED)
    for at, size in zip(offsets, sizes, strict=True):
        if at + size > len(data):
            raise PictureError("a TIFF whose strips end too early", "the file is truncated or damaged")
        size_of = _SIZE_OF.get(page.compression)
        claimed = size_of(data[at : at + size]) if size_of else (0, 0)
        if claimed[0] > width or claimed[1] > height:
            raise PictureError(f"a TIFF with a strip of {claimed[0]}×{claimed[1]} pixels", _DAMAGED)


def _forgiving(decode: Callable[..., Any]) -> Callable[..., Any]:
    """A page's decoder that also takes a last strip which is as high as the others, as some programs write it."""

    def forgiving(packed: bytes | None, index: int, **more: Any) -> Any:
        try:
            return decode(packed, index, **more)
        except Exception:
            _, place, shape = decode(None, index, **more)
            return decode(packed, 0, **more)[0][:, : shape[1]], place, shape

    return forgiving
