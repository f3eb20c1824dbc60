"""Where the tiles of a picture lie, what they see, and how they become a picture again: pure geometry (paper §3.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..methods.contract import Frame, Size


@dataclass(frozen=True)
class Axis:
    """One direction of a grid: intervals of `size` px, each sharing `overlap` px with the next, over [0, length).

    All begin at multiples of `align` px, if the stride is one. As far as that allows, the row of intervals is centred,
    so that both ends stick out alike, by half a stride or half a tile at most.
    """

    length: int
    size: int
    overlap: int
    discard: int
    align: int = 1

    def __post_init__(self) -> None:
        if self.length < 1 or not 0 <= 2 * self.discard <= self.overlap < self.size:
            raise ValueError(f"need length ≥ 1 and 0 ≤ 2·discard ≤ overlap < size: {self}")

    @property
    def stride(self) -> int:
        return self.size - self.overlap

    @property
    def count(self) -> int:
        return max(1, -((self.overlap - self.length) // self.stride))

    def start(self, k: int) -> int:
        """Where interval k begins [px]; negative where it sticks out."""
        excess = self.count * self.stride + self.overlap - self.length
        return k * self.stride - excess // (2 * self.align) * self.align

    def indices(self, k: int, margin: int = 0) -> np.ndarray:
        """The pixels that interval k sees, (size + 2·margin,) in [0, length), reflected as often as it takes.

        A triangle wave, not `np.pad`: one formula for any length, 1 px included, and no padded copy.
        """
        at = self._places(k, margin)
        period = max(2 * (self.length - 1), 1)
        return np.minimum(at % period, -at % period)

    def inside(self, k: int, margin: int = 0) -> np.ndarray:
        """Which pixels that interval k sees are the picture's own, none's reflection; (size + 2·margin,) bool."""
        at = self._places(k, margin)
        return (at >= 0) & (at < self.length)

    def _places(self, k: int, margin: int) -> np.ndarray:
        return np.arange(self.start(k) - margin, self.start(k) + self.size + margin)

    def kind(self, k: int) -> int:
        """0 to 3, by whether a neighbour lies after interval k, and before it; intervals of a kind weigh alike."""
        return 2 * (k > 0) + (k < self.count - 1)

    def weights(self, k: int) -> np.ndarray:
        """The share that interval k has in each of its pixels, (size,) in [0, 1].

        It is what k takes over from its predecessor less what it hands over to its successor, so the sum over
        all k telescopes to 1 whatever the ramp is.
        """
        at = np.arange(self.size)
        taken = self._takeover(at) if k > 0 else np.ones(self.size)
        handed = self._takeover(at - self.stride) if k < self.count - 1 else np.zeros(self.size)
        return taken - handed

    def emphasis(self, k: int, agreement: float) -> np.ndarray:
        """What keeps the standard deviation of two textures of that correlation where they blend, (size,), 1 or more.

        w·a + (1 − w)·b has the variance 1 − 2·w·(1 − w)·(1 − agreement), if a and b have 1.
        """
        w = self.weights(k)
        return (1 - 2 * w * (1 - w) * (1 - agreement)) ** -0.5

    def _takeover(self, at: np.ndarray) -> np.ndarray:
        """0 in the first `discard` px of an overlap, 1 in the last, linear between them.

        Linear where the paper averages: an average of two tiles that disagree has two edges of half the
        difference, a ramp of 8 px has none above an eighth. In steps of 2⁻¹², so that the product of two
        weights is a multiple of 2⁻²⁴, exact in float32.
        """
        ramp = self.overlap - 2 * self.discard
        return np.rint(np.clip((2 * (at - self.discard) + 1) / max(2 * ramp, 1), 0, 1) * 2**12) / 2**12


THUMBNAILS = (128, 256)  # [px] the sides of tiles for what is a picture in small, where few shapes are wanted
SPLIT = 448  # [px of the output] the shortest side of a tile that is cut out: tiles have borders, and a budget each
LARGEST = 640**2  # [px of the output] that a tile has at most: memory is that of one tile


@dataclass(frozen=True)
class Grid:
    """Tiles of one size over a height×width picture of at least 1×1, numbered row by row.

    Where a tile lies depends on the picture's size alone. `discard` px at each inner side are seen by the
    network but not used; at the picture's own border everything is used.
    """

    height: int
    width: int
    tile: Size = (256, 256)
    overlap: int = 32
    discard: int = 12
    align: int = 1  # tiles begin at multiples of it
    agreement: float = 1.0  # correlation of two tiles' textures where they blend

    @classmethod
    def of(cls, height: int, width: int, frame: Frame) -> Grid:
        """The tiles of a picture as a method wants them."""
        return cls(height, width, frame.tile, frame.overlap, frame.discard, frame.align, frame.agreement)

    def magnified(self, scale: int) -> Grid:
        """The same tiles in a picture that is larger by `scale` on each side."""
        lengths = ("height", "width", "overlap", "discard", "align")
        height, width = self.tile
        larger = {name: scale * getattr(self, name) for name in lengths}
        return replace(self, tile=(scale * height, scale * width), **larger)

    @property
    def y(self) -> Axis:
        return Axis(self.height, self.tile[0], self.overlap, self.discard, self.align)

    @property
    def x(self) -> Axis:
        return Axis(self.width, self.tile[1], self.overlap, self.discard, self.align)

    @property
    def rows(self) -> int:
        return self.y.count

    @property
    def cols(self) -> int:
        return self.x.count

    def __len__(self) -> int:
        return self.rows * self.cols

    def origin(self, i: int) -> tuple[int, int]:
        """(y, x) of tile i's first pixel in the picture's coordinates [px]; negative where it sticks out."""
        row, col = divmod(i, self.cols)
        return self.y.start(row), self.x.start(col)

    def crop(self, picture: np.ndarray, i: int, margin: int = 0) -> np.ndarray:
        """What tile i sees of the picture, and `margin` px more on every side.

        (H, W, C) -> (h + 2·margin, w + 2·margin, C) of a tile of h×w px; beyond the border, the picture's reflection.
        """
        row, col = divmod(i, self.cols)
        return picture[self.y.indices(row, margin)[:, None], self.x.indices(col, margin)]

    def window(self, i: int) -> np.ndarray:
        """The weights of tile i, of its size, float32 in [0, 1]; over all tiles they sum to exactly 1 everywhere."""
        row, col = divmod(i, self.cols)
        return np.outer(self.y.weights(row), self.x.weights(col)).astype(np.float32)

    def emphasis(self, i: int) -> np.ndarray:
        """The factors of tile i's texture that blending would thin out, of its size, float32; 1 where it is alone."""
        row, col = divmod(i, self.cols)
        return np.outer(self.y.emphasis(row, self.agreement), self.x.emphasis(col, self.agreement)).astype(np.float32)


def fitted(frame: Frame, height: int, width: int) -> Frame:
    """The frame with that tile, among those its sides allow, by which the networks see the fewest pixels of a picture.

    Of equals, the one with the fewest tiles. Sides below SPLIT are for pictures that are no longer than they. The
    picture's size decides, and no other picture.
    """
    down, across = _along(frame, height), _along(frame, width)

    def seen(tile: Size) -> tuple[int, int]:
        (rows, high), (cols, wide) = down[tile[0]], across[tile[1]]
        return rows * high * cols * wide, rows * cols

    tiles = (tile for tile in product(down, across) if tile[0] * tile[1] * frame.scale**2 <= LARGEST)
    return replace(frame, tile=min(tiles, key=seen, default=frame.tile))


def with_few_shapes(frame: Frame) -> Frame:
    """The frame with its own tile for all pictures, but for thumbnails and strips."""
    return replace(frame, sides=tuple(side for side in frame.sides if side in (*THUMBNAILS, *frame.tile)))


def _along(frame: Frame, length: int) -> dict[int, tuple[int, int]]:
    """By the side of a tile: how many cover a length, and what the networks see of each [px]."""
    sides = (side for side in frame.sides if side >= min(SPLIT // frame.scale, length))
    axes = {side: Axis(length, side, frame.overlap, frame.discard, frame.align) for side in sides}
    return {side: (axis.count, side + 2 * frame.context) for side, axis in axes.items()}
