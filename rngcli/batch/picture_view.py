"""A picture before and after for a page: as a whole, and at 100 % where it was changed most; from what is on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .. import images
from ..inference.noise_level import noise_level
from ..inference.tiling import Axis, Grid, fitted
from ..methods.contract import SIDES, Frame
from ..pages.pictures import data_uri, eight_bits, thumbnail, where_most_different
from .inputs import Outcome

WHOLE, SMALL, CROP = 512, 128, 256  # [px]


@dataclass(frozen=True)
class PictureView:
    """Both sides as data URIs, (before, after): the whole picture in two sizes, and the crop where most was changed.

    noise: σ_n of both, estimated; change: root mean square of what was changed in the crop; both on the 0-255 scale.
    rows and columns: the borders of the tiles as shares of the picture's sides, empty where no detail map is known.
    """

    width: int
    height: int
    noise: tuple[float, float]
    change: float
    whole: tuple[str, str] | None
    crop: tuple[str, str] | None
    small: tuple[str, str] | None
    crop_box: tuple[int, int, int, int]  # x, y, width, height [px]
    rows: tuple[float, ...] = ()
    columns: tuple[float, ...] = ()

    @property
    def bytes_large(self) -> int:
        return sum(map(len, (*(self.whole or ()), *(self.crop or ()))))

    @property
    def bytes_small(self) -> int:
        return sum(map(len, self.small or ()))


def view_of(outcome: Outcome, read: images.ReadOptions) -> PictureView:
    """The view of a picture that is done, now or before. Raises RngError where one of its files cannot be read."""
    # One after the other: as floats, both sides of a large picture would take much of the memory.
    (before, noise_before), (after, noise_after) = (
        _read(path, read) for path in (outcome.task.source, outcome.task.target)
    )
    if before.shape != after.shape:  # enlarged by `rng restore`
        before = np.asarray(Image.fromarray(before).resize(after.shape[1::-1], Image.Resampling.NEAREST))
    height, width = after.shape[:2]
    x, y, side_x, side_y = box = where_most_different(before, after, CROP)
    cut = [side[y : y + side_y, x : x + side_x] for side in (before, after)]
    change = float(np.sqrt(np.mean((cut[1].astype(np.float32) - cut[0]) ** 2)))
    shares = outcome.detail_map
    grid = Grid.of(height, width, fitted(Frame(sides=SIDES), height, width))
    return PictureView(
        width, height, (noise_before, noise_after), change,
        _pair(thumbnail(before, WHOLE), thumbnail(after, WHOLE), "WEBP"), _pair(cut[0], cut[1], "JPEG"),
        _pair(thumbnail(before, SMALL), thumbnail(after, SMALL), "WEBP"), box,
        _borders(grid.y, len(shares)), _borders(grid.x, len(shares[0]) if shares else 0),
    )  # fmt: skip


def _read(path: Path, read: images.ReadOptions) -> tuple[np.ndarray, float]:
    """Pixels (H, W, 3) uint8, and their σ_n on the 0-255 scale."""
    pixels = images.in_srgb(images.read(path, read))
    return eight_bits(pixels), 255 * noise_level(pixels)


def _pair(before: np.ndarray, after: np.ndarray, form: str) -> tuple[str, str]:
    return data_uri(before, form), data_uri(after, form)  # type: ignore[arg-type]


def _borders(axis: Axis, count: int) -> tuple[float, ...]:
    """Where tiles end along a side, as shares of it: as methods usually cut, else evenly."""
    if not count:
        return ()
    if axis.count == count:
        ends: Sequence[float] = [axis.start(k) + axis.overlap // 2 for k in range(1, count)]
    else:
        ends = [k * axis.length / count for k in range(1, count)]
    return (0.0, *(round(end / axis.length, 5) for end in ends), 1.0)
