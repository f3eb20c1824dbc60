"""The strips and tiles of a TIFF: packed bytes to samples and back.

Each is unpacked to the size its header gives and not a byte further, so a crafted file takes no more memory than its
picture. LZW, PackBits and Zstandard are unpacked by Pillow's libtiff, which sees each strip as a small file of its own.
"""

from __future__ import annotations

import io
import lzma
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import TiffImagePlugin

from rngcli.errors import PictureError
from rngcli.images.ifd import Directory, long_field, serialise, short_field

NONE, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA, ZSTANDARD = 1, 5, 7, 8, 32946, 32773, 34925, 50000
_NAMES = {2: "CCITT", 3: "CCITT fax", 4: "CCITT fax", 6: "old JPEG", 50001: "WebP", 34887: "LERC", 34712: "JPEG 2000"}
_NAMES |= {34892: "lossy DNG", 50002: "JPEG XL", 52546: "JPEG XL"}
_STRIP_SIZE = 2**20  # bytes, before packing
_LARGEST_EMPTY = 2**24  # pixels a tile may have beyond its picture
_LEVEL = 6


@dataclass(frozen=True)
class Layout:
    """How the samples of a picture lie in its file; a segment is a strip or a tile."""

    height: int
    width: int
    channels: int
    dtype: np.dtype
    segment: tuple[int, int]  # height, width [px]
    tiled: bool
    planar: bool
    compression: int
    predictor: int
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]


def unpacked(data: bytes, layout: Layout) -> np.ndarray:
    """All samples of a picture, (H, W, C) in the machine's byte order."""
    _check(data, layout)
    shape = (layout.height, layout.width, layout.channels)
    samples = np.empty(shape, layout.dtype.newbyteorder("="))
    for number, (channels, top, left) in enumerate(_places(layout)):
        rows = layout.segment[0] if layout.tiled else min(layout.segment[0], layout.height - top)
        packed = memoryview(data)[layout.offsets[number] : layout.offsets[number] + layout.sizes[number]]
        block = _segment(packed, layout, rows, channels.stop - channels.start)
        target = samples[top : top + rows, left : left + layout.segment[1], channels]
        target[...] = block[: target.shape[0], : target.shape[1]]
    return samples


def _check(data: bytes, layout: Layout) -> None:
    height, width = layout.segment
    if height < 1 or width < 1 or height * width > 2 * layout.height * layout.width + _LARGEST_EMPTY:
        raise PictureError(f"a TIFF in tiles of {width}×{height} pixels", "the file is damaged")
    if sum(layout.sizes) > 2 * len(data) or len(layout.sizes) < len(layout.offsets):
        raise PictureError("a TIFF whose strips overlap", "the file is damaged")
    if len(layout.offsets) < sum(1 for _ in _places(layout)):
        raise PictureError("a TIFF in which strips are missing", "the file is damaged")
    if layout.predictor not in (1, 2, 3):
        raise PictureError(f"a TIFF with the unknown predictor {layout.predictor}", "save it without compression")


def _places(layout: Layout) -> Iterator[tuple[slice, int, int]]:
    planes = [slice(c, c + 1) for c in range(layout.channels)] if layout.planar else [slice(0, layout.channels)]
    for plane in planes:
        for top in range(0, layout.height, layout.segment[0]):
            for left in range(0, layout.width, layout.segment[1]):
                yield plane, top, left


def _segment(packed: memoryview, layout: Layout, rows: int, channels: int) -> np.ndarray:
    row_bytes = layout.segment[1] * channels * layout.dtype.itemsize
    raw = _raw(packed, layout.compression, rows, row_bytes)
    if len(raw) < rows * row_bytes:
        raise PictureError("a TIFF whose strips end too early", "the file is truncated or damaged")
    shape = (rows, layout.segment[1], channels)
    if layout.predictor == 3:
        return _float_sums(np.frombuffer(raw, np.uint8, rows * row_bytes), shape, layout.dtype.itemsize)
    block = np.frombuffer(raw, layout.dtype, rows * row_bytes // layout.dtype.itemsize).reshape(shape)
    if layout.predictor == 1:
        return block
    integers = block.astype(layout.dtype.newbyteorder("=")).view(f"u{layout.dtype.itemsize}")
    return np.cumsum(integers, axis=1, dtype=integers.dtype).view(layout.dtype.newbyteorder("="))


def _float_sums(raw: np.ndarray, shape: tuple[int, int, int], size: int) -> np.ndarray:
    """Undo TIFF's predictor 3: differences of bytes, the bytes of a row sorted by significance, the highest first."""
    rows, width, channels = shape
    sums = np.cumsum(raw.reshape(rows, width * size, channels), axis=1, dtype=np.uint8)
    in_order = sums.reshape(rows, size, width * channels).transpose(0, 2, 1)
    return np.ascontiguousarray(in_order).view(f">f{size}").reshape(shape)


def _raw(packed: memoryview, compression: int, rows: int, row_bytes: int) -> bytes | memoryview:
    if compression == NONE:
        return packed
    if compression in (DEFLATE, OLD_DEFLATE):
        return zlib.decompressobj().decompress(packed, rows * row_bytes)
    if compression == LZMA:
        return lzma.LZMADecompressor(memlimit=2**28).decompress(packed, rows * row_bytes)
    if compression in (LZW, PACKBITS, ZSTANDARD):
        return _by_libtiff(packed, compression, rows, row_bytes)
    name = _NAMES.get(compression, f"number {compression}")
    raise PictureError(f"a TIFF with {name} compression", "save it with LZW, Deflate or none")


def _by_libtiff(packed: memoryview, compression: int, rows: int, row_bytes: int) -> bytes:
    numbers = {0x100: row_bytes, 0x101: rows, 0x102: 8, 0x103: compression, 0x106: 1, 0x115: 1, 0x116: rows}
    numbers |= {0x111: 8, 0x117: len(packed)}
    fields = {tag: (short_field if tag in (0x102, 0x103, 0x106, 0x115) else long_field)("<", number)
              for tag, number in numbers.items()}  # fmt: skip
    place = 8 + len(packed) + len(packed) % 2
    head = b"II*\0" + struct.pack("<I", place)
    file = (head + bytes(packed)).ljust(place, b"\0") + serialise(Directory("<", fields), place, "<")
    picture = TiffImagePlugin.TiffImageFile(io.BytesIO(file))
    picture.load()
    return picture.tobytes()


def packed(samples: np.ndarray, order: str, compress: bool) -> Iterator[bytes]:
    """The strips of a picture, (H, W, C), each `rows_per_strip` high; integers with the horizontal predictor."""
    step = rows_per_strip(samples)
    for top in range(0, samples.shape[0], step):
        block = samples[top : top + step]
        if compress and samples.dtype.kind == "u":
            block = np.diff(block, axis=1, prepend=np.zeros_like(block[:, :1]))
        raw = block.astype(samples.dtype.newbyteorder(order), copy=False).tobytes()  # type: ignore[arg-type]
        yield zlib.compress(raw, _LEVEL) if compress else raw


def rows_per_strip(samples: np.ndarray) -> int:
    """The height of the strips in which `packed` writes a picture [px]."""
    return max(1, _STRIP_SIZE // max(1, samples[0].nbytes))
