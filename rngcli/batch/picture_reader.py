"""A task's picture, read from disk with all that its denoising needs: its source's state, its mask."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import images
from ..errors import PictureError
from .file_options import FileOptions
from .inputs import Task
from .manifest import State
from .manifest_entry import Source


@dataclass(frozen=True)
class ReadPicture:
    """A picture in memory, and the state of the file it came from; None where nobody asks."""

    picture: images.Image
    source: Source | None
    valid: np.ndarray | None = None  # (H, W) bool, false in holes


def read_picture(task: Task, files: FileOptions) -> ReadPicture | None:
    """The picture with what it was made from; None where another run has just done it."""
    journal = files.journal
    there = task.fresh and os.path.lexists(task.target)
    if there and journal and journal.state(task.source, task.target) is State.DONE:
        return None
    try:
        source = Source.of(task.source) if journal else None
    except (OSError, ValueError):
        source = None  # reading says why
    picture = images.read(task.source, files.read)
    return ReadPicture(picture, source, _valid(task, picture, files) if files.masks else None)


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
