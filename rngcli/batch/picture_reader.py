"""A task's picture, read from disk with all that its denoising needs: its source's state, its mask."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .. import images
from ..errors import PictureError
from ..inference.banding import UNKNOWN, Banding, find_banding
from ..inference.noise_level import noise_level
from .file_options import FileOptions
from .inputs import Task
from .manifest import State
from .manifest_entry import Source

_NO_PICTURE = images.Image(np.zeros((1, 1, 3), np.float32))


@dataclass(frozen=True)
class ReadPicture:
    """A picture in memory, and the state of the file it came from; None where nobody asks.

    Where the file holds several, `pages` are all of them, still open, and this is number `page`, from 0.
    """

    picture: images.Image
    source: Source | None
    valid: np.ndarray | None = None  # (H, W) bool, false in holes
    noise: float = float("nan")  # estimated σ_n on the [0, 1] scale
    pages: images.TiffPages | None = None
    page: int = 0
    banding: Banding | None = UNKNOWN  # what rows and columns have in common
    samples: np.ndarray | None = None  # (H, W, 3) uint8 or uint16, of a large picture, whose pixels mean nothing then

    def with_banding(self) -> ReadPicture:
        """With what rows and columns have in common."""
        return replace(self, banding=find_banding(self.picture.pixels if self.samples is None else self.samples))

    @property
    def nbytes(self) -> int:
        """What it takes of the memory, but for small things."""
        return int((self.picture.pixels if self.samples is None else self.samples).nbytes)


def read_picture(task: Task, files: FileOptions, large: int | None = None) -> ReadPicture | None:
    """The picture, or the first page, with what it was made from; None where another run has just done it.

    One of at least `large` pixels is read as integers, where that will do.
    """
    journal = files.journal
    there = task.fresh and os.path.lexists(task.target)
    if there and journal and journal.state(task.source, task.target) is State.DONE:
        return None
    try:
        source = Source.of(task.source) if journal else None
    except (OSError, ValueError):
        source = None  # reading says why
    if pages := _pages(task):
        return read_page(task, ReadPicture(_NO_PICTURE, source, pages=pages), 0, files)
    if large and (stored := read_large(task, files, large)):
        noise = noise_level(_Floats(stored.samples))  # type: ignore[arg-type]
        return ReadPicture(stored.image, source, None, noise, samples=stored.samples)
    return _seen(ReadPicture(images.read(task.source, files.read), source), task, files)


def _seen(read: ReadPicture, task: Task, files: FileOptions) -> ReadPicture:
    """With the picture's mask, if there are masks, and its noise level."""
    valid = _valid(task, read.picture, files) if files.masks else None
    return replace(read, valid=valid, noise=noise_level(read.picture.pixels, valid))


def read_large(task: Task, files: FileOptions, least: int) -> images.StoredTiff | None:
    """The picture as integers, where it is large enough, and nothing is asked for that needs all of it at once."""
    if images.FORMAT_OF_SUFFIX.get(task.target.suffix.lower(), "tiff") != "tiff" or not files.strength.full:
        return None
    if files.step_maps or files.reference or files.masks or not task.source.is_file():
        return None
    stored = images.read_stored(task.source, files.read, least)
    turned = stored and files.write.strip_metadata and stored.image.metadata.orientation != 1
    return None if turned else stored


class _Floats:
    """Stored samples that read as floats in [0, 1], a piece at a time."""

    def __init__(self, samples: np.ndarray) -> None:
        self._samples, self.shape = samples, samples.shape

    def __getitem__(self, place: tuple[slice, slice]) -> np.ndarray:
        return self._samples[place] / np.float32(np.iinfo(self._samples.dtype).max)


def read_page(task: Task, read: ReadPicture, page: int, files: FileOptions) -> ReadPicture:
    """Another page of the same file, which is closed where it cannot be read."""
    assert read.pages
    try:
        picture = images.decode_page(read.pages, page, files.read)
        return _seen(replace(read, picture=picture, page=page), task, files)
    except BaseException:
        read.pages.close()
        raise


def _pages(task: Task) -> images.TiffPages | None:
    """The pages of a TIFF of several; PictureError where the output's format holds one picture."""
    try:
        pages = images.TiffPages.of(task.source) if task.source.is_file() else None
    except (OSError, ValueError):
        return None  # reading says why
    suffix = task.target.suffix.lower()
    if pages and images.FORMAT_OF_SUFFIX.get(suffix, "tiff") != "tiff":
        pages.close()
        cause = f"a TIFF of {len(pages)} pages, and a {suffix[1:].upper()} holds one"
        raise PictureError(cause, "leave it a TIFF, or split it into single pictures first")
    return pages


def _valid(task: Task, picture: images.Image, files: FileOptions) -> np.ndarray:
    """What the picture's mask leaves of it, (H, W) bool."""
    masks = files.masks
    assert masks
    path = masks if masks.is_file() else next((p for p in mask_names(masks, task.name) if p.is_file()), None)
    if path is None:
        raise PictureError(f"there is no mask {masks / task.name}", "draw one, white where pixels are missing")
    valid: np.ndarray = images.read(path, files.read).pixels.mean(axis=2) < 0.5
    if valid.shape != picture.pixels.shape[:2]:
        (h, w), (height, width) = valid.shape, picture.pixels.shape[:2]
        raise PictureError(f"the mask {path} is {w}×{h} px, the picture {width}×{height}", "give one of its size")
    return valid


def mask_names(masks: Path, name: str) -> tuple[Path, Path]:
    """Where the mask of a picture is looked for: under its very name, or as a PNG."""
    return masks / name, (masks / name).with_suffix(".png")
