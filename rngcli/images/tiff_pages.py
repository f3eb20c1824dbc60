"""A TIFF of several pages: read one by one from the disk, and put one behind the other into a file that grows."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from rngcli.errors import PictureError
from rngcli.images import ifd, raw, tiff
from rngcli.images.ifd import ByteOrder
from rngcli.images.image import Image, ReadOptions
from rngcli.images.maker_note import MAKER_NOTE, relocated
from rngcli.images.tiff import PageForm

_LENGTH, _WIDTH, _BITS, _SAMPLES, _KIND, _PAGE = 0x101, 0x100, 0x102, 0x115, 0xFE, 2
_SEGMENTS = (0x111, 0x144)  # offsets of strips and tiles
_POINTERS = (ifd.EXIF_POINTER, ifd.GPS_POINTER, ifd.INTEROP_POINTER)
_EXTRA = 2**20  # bytes a page may take beside its samples


class FileBytes:
    """The bytes of an open file, read as they are asked for; any thread may."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size = file, os.fstat(file.fileno()).st_size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: slice, /) -> bytes:
        start, stop, _ = place.indices(self._size)
        return os.pread(self._file.fileno(), max(0, stop - start), start)


class TiffPages:
    """The pages of an open TIFF, a context that closes it; `sizes` are (height, width) as the file says them."""

    def __init__(self, file: BinaryIO) -> None:
        """PictureError where there is no picture in it."""
        from tifffile import TiffFile

        self._file, self._data = file, FileBytes(file)
        self._pages, self._thumbnails = tiff.pages_of(self._data)
        self._tiff = TiffFile(file) if len(self._pages) > 1 else None
        self.sizes = [(page.number(_LENGTH), page.number(_WIDTH)) for _, page in self._pages]

    @classmethod
    def of(cls, path: Path) -> TiffPages | None:
        """Those of a TIFF of several pages; None where the file is anything else."""
        file = path.open("rb")
        try:
            data = FileBytes(file)
            if ifd.header(data) and not raw.is_raw(data) and len((pages := cls(file)).sizes) > 1:
                return pages
        except (OSError, PictureError, struct.error):  # reading it as one picture says what it is
            pass
        except BaseException:
            file.close()
            raise
        file.close()
        return None

    def __len__(self) -> int:
        return len(self._pages)

    def __enter__(self) -> TiffPages:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def decode(self, k: int, options: ReadOptions) -> Image:
        """Page k as stored, counted from 0."""
        assert self._tiff
        number, tags = self._pages[k]
        page = self._tiff.pages[number]
        return tiff.decode_page(self._data, page.aspage(), tags, options, self._thumbnails and k == 0)

    def form(self, k: int) -> PageForm:
        """How page k is written: all in one byte order, in a BigTIFF where their samples might need one."""
        size = sum(
            height * width * page.number(_SAMPLES, 1) * max(1, page.number(_BITS, 1) // 8) + _EXTRA
            for (height, width), (_, page) in zip(self.sizes, self._pages, strict=True)
        )
        page = self._pages[k][1]
        return PageForm(page.order, size > tiff.CLASSIC_LIMIT, page.number(_KIND) & _PAGE)


class PageAppender:
    """A TIFF that grows by a page at a time, in a file open for reading and writing."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._link = 0  # where the last page's directory says where the next one lies

    def append(self, page: bytes) -> None:
        """A whole TIFF file of one page; all of the same byte order, and BigTIFF all or none."""
        start = ifd.header(page)
        if start is None:
            raise ValueError("no TIFF")
        order, big, at = start
        word, head = (order + "Q", 16) if big else (order + "I", 8)
        end = self._file.seek(0, os.SEEK_END)
        base = end + end % 2 - head if end else 0
        block = moved(page, base)
        self._file.write(block[head:].rjust(len(block) - head + end % 2, b"\0") if end else block)
        if end:
            self._file.seek(self._link)
            self._file.write(struct.pack(word, at + base))
        self._link = base + _end_of(page, at, order, big)


def _end_of(data: bytes | bytearray, at: int, order: ByteOrder, big: bool) -> int:
    """Where a directory's pointer to the next one stands."""
    count = struct.unpack_from(order + ("Q" if big else "H"), data, at)[0]
    return int(at + (8 + 20 * count if big else 2 + 12 * count))


def moved(data: bytes, base: int) -> bytearray:
    """A TIFF file of one page as it must read where it begins `base` bytes further on: all its offsets with it."""
    block = bytearray(data)
    start = ifd.header(data)
    if base and start:
        order, big, at = start
        _move_directory(block, at, base, order, big)
    return block


def _move_directory(block: bytearray, at: int, base: int, order: ByteOrder, big: bool) -> None:
    inline, word, step = (8, order + "Q", 20) if big else (4, order + "I", 12)
    first = at + (8 if big else 2)
    for row in range(first, _end_of(block, at, order, big), step):
        tag, kind = struct.unpack_from(order + "HH", block, row)
        count = struct.unpack_from(word, block, row + 4)[0]
        size, place = count * ifd.size_of(kind), row + 4 + inline
        if size > inline:
            far = struct.unpack_from(word, block, place)[0]
            struct.pack_into(word, block, place, far + base)
            if tag == MAKER_NOTE:
                block[far : far + size] = relocated(bytes(block[far : far + size]), far, far + base)
            place = far
        if tag in _POINTERS:
            _move_directory(block, struct.unpack_from(word, block, place)[0], base, order, big)
        if tag in _POINTERS or tag in _SEGMENTS:
            width = order + {ifd.LONG: "I", ifd.IFD: "I"}.get(kind, "Q")
            for at_value in range(place, place + size, struct.calcsize(width)):
                struct.pack_into(width, block, at_value, struct.unpack_from(width, block, at_value)[0] + base)
