"""A large TIFF that is never in memory as floats: read as integers, written a band of rows at a time."""

from __future__ import annotations

import os
import struct
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from rngcli.errors import PictureError
from rngcli.images import ifd, raw, segments, tiff
from rngcli.images.colour import from_stored
from rngcli.images.files import told_by_exif
from rngcli.images.fitting import as_held
from rngcli.images.ifd import Directory
from rngcli.images.image import Depth, Encoding, Image, ReadOptions, WriteOptions, check_size, to_samples
from rngcli.images.tiff import PageForm
from rngcli.images.tiff_pages import FileBytes

if TYPE_CHECKING:
    from tifffile import TiffPage

_PACKERS = min(4, os.cpu_count() or 1)  # threads
_WIDTH, _LENGTH, _OFFSETS, _ROWS, _SIZES = 0x100, 0x101, 0x111, 0x116, 0x117


@dataclass(frozen=True)
class StoredTiff:
    """A picture as it is stored: `samples` (H, W, 3) uint8 or uint16, and all else in `image`.

    The pixels of `image` are of the same shape, take no memory, and mean nothing.
    """

    image: Image
    samples: np.ndarray


def read_stored(path: Path, options: ReadOptions, least: int) -> StoredTiff | None:
    """A TIFF of at least so many pixels; None for others, and for those that must be read in another way.

    That is, with anything beside RGB or grey of 8 or 16 bit, or with colours that are computed before the denoising.
    PictureError where the samples are damaged.
    """
    from tifffile import TiffFile

    with path.open("rb") as file:
        data = FileBytes(file)
        try:
            if not ifd.header(data) or raw.is_raw(data):
                return None
            pages, thumbnails = tiff.pages_of(data)
            opened = TiffFile(file)
            page, tags = opened.pages.first, pages[0][1]
            if len(pages) > 1 or page.imagewidth * page.imagelength < least or not _is_plain(page):
                return None
        except Exception:  # reading it in the usual way says what it is
            return None
        check_size(page.imagewidth, page.imagelength, options.max_pixels)
        image = _without_pixels(page, tags, thumbnails)
        if image.tone is not None:
            return None
        segments.check_packing(page)
        samples = segments.unpacked(data, page)
    return StoredTiff(image, samples if samples.shape[2] == 3 else samples.repeat(3, axis=2))


def _is_plain(page: TiffPage) -> bool:
    channels = {1: 1, 2: 3}.get(page.photometric)
    layout = page.samplesperpixel == channels and page.planarconfig == 1 and page.imagedepth == 1
    return layout and page.bitspersample in (8, 16) and page.sampleformat == 1


def _without_pixels(page: TiffPage, tags: Directory, thumbnails: bool) -> Image:
    grey = page.samplesperpixel == 1
    place = np.broadcast_to(np.float32(0), (page.imagelength, page.imagewidth, 3))
    image = Image(
        place[:1, :1], "tiff", cast("Depth", page.bitspersample), grey, metadata=tiff.metadata_of(tags, grey),
        encoding=Encoding(uncompressed=page.compression == 1),
    )  # fmt: skip
    return replace(tiff.told(from_stored(told_by_exif(image)), page, tags, thumbnails), pixels=place)


class BandedTiff:
    """A TIFF file that takes (H, W, 3) float32 in [0, 1] as an array does, rows at a time, in any order: t[a:b] = rows.

    Rows wait as integers until those above them are there; strips are packed by threads of its own.
    """

    def __init__(self, file: BinaryIO, image: Image, options: WriteOptions) -> None:
        """image: as `StoredTiff` has it. PictureError where a TIFF cannot hold it."""
        held = as_held(image, "tiff", options)
        height, width, _ = self.shape = image.pixels.shape
        self._file, self._depth, self._grey = file, held.depth, held.grey
        self._packed = not held.encoding.uncompressed
        row = width * (1 if held.grey else 3) * (held.depth // 8)
        source = ifd.parse(held.metadata.exif) or Directory()
        self._form = PageForm(source.order, height * row > tiff.CLASSIC_LIMIT)
        self._tree = ifd.parse(tiff.encode(replace(held, pixels=np.zeros((1, 1, 3), np.float32)), options, self._form))
        self._rows = max(1, tiff.STRIP_SIZE // row)  # a strip
        self._waiting: dict[int, np.ndarray] = {}
        self._pieces: list[np.ndarray] = []  # rows of the strip that is next
        self._next = 0
        self._threads = ThreadPoolExecutor(_PACKERS, thread_name_prefix="pack")
        self._packing: deque[Future[bytes]] = deque()
        self._offsets: list[int] = []
        self._sizes: list[int] = []
        self._file.write(bytes(16 if self._form.big else 8))

    def __setitem__(self, place: slice, rows: np.ndarray) -> None:
        self._waiting[place.start] = to_samples(rows, self._depth, self._grey)
        while (band := self._waiting.pop(self._next, None)) is not None:
            self._next += len(band)
            self._take(band)

    def _take(self, band: np.ndarray) -> None:
        while len(band):
            room = self._rows - sum(map(len, self._pieces))
            self._pieces.append(band[:room])
            band = band[room:]
            if sum(map(len, self._pieces)) == self._rows:
                self._pack()

    def _pack(self) -> None:
        strip, self._pieces = np.concatenate(self._pieces), []
        self._packing.append(self._threads.submit(self._bytes_of, strip))
        self._write(at_most=2 * _PACKERS)

    def _bytes_of(self, strip: np.ndarray) -> bytes:
        from imagecodecs import delta_encode, zlib_encode

        stored = delta_encode(strip, axis=1) if self._packed else strip
        data = stored.astype(stored.dtype.newbyteorder(self._form.order)).tobytes()
        return bytes(zlib_encode(data)) if self._packed else data

    def _write(self, at_most: int) -> None:
        while len(self._packing) > at_most:
            data = self._packing.popleft().result()
            self._offsets.append(self._file.tell())
            self._sizes.append(len(data))
            self._file.write(ifd.even(data))

    def finish(self) -> None:
        """All rows are there: the directory; ValueError where they are not."""
        if self._next != self.shape[0]:
            raise ValueError(f"{self.shape[0] - self._next} rows are missing")
        if self._pieces:
            self._pack()
        self._write(at_most=0)
        self.close()
        order, big, tree = self._form.order, self._form.big, self._tree
        if tree is None:
            raise PictureError("the picture cannot be written as TIFF", "choose another format")
        layout = {_WIDTH: (self.shape[1],), _LENGTH: (self.shape[0],), _ROWS: (self._rows,),
                  _OFFSETS: self._offsets, _SIZES: self._sizes}  # fmt: skip
        fields = tree.fields | {tag: ifd.long_field(order, *values) for tag, values in layout.items()}
        place = self._file.tell()
        self._file.write(ifd.serialise(replace(tree, fields=fields), place, order, big))
        mark = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
        self._file.seek(0)
        self._file.write(mark + struct.pack(order + ("HHQ" if big else "I"), *((8, 0, place) if big else (place,))))

    def close(self) -> None:
        """Let go of its threads; what they are at ends."""
        self._threads.shutdown(wait=True, cancel_futures=True)
