"""Where the tiles of a picture lie, what they see, and how they become a picture again: pure geometry (paper §3.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..methods.contract import Frame


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


THUMBNAIL = 256  # [px] the largest tile for what is a picture in small
SPLIT = 448  # [px] the smallest tile that a picture is cut into: tiles have borders, and a budget each


@dataclass(frozen=True)
class Grid:
    """Tiles of size×size px over a height×width picture of at least 1×1, numbered row by row.

    Where a tile lies depends on the picture's size alone. `discard` px at each inner side are seen by the
    network but not used; at the picture's own border everything is used.
    """

    height: int
    width: int
    size: int = 256
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
        lengths = ("height", "width", "size", "overlap", "discard", "align")
        return replace(self, **{name: scale * getattr(self, name) for name in lengths})

    @property
    def y(self) -> Axis:
        return Axis(self.height, self.size, self.overlap, self.discard, self.align)

    @property
    def x(self) -> Axis:
        return Axis(self.width, self.size, self.overlap, self.discard, self.align)

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

        (H, W, C) -> (size + 2·margin, size + 2·margin, C); beyond the border, the picture's reflection.
        """
        row, col = divmod(i, self.cols)
        return picture[self.y.indices(row, margin)[:, None], self.x.indices(col, margin)]

    def window(self, i: int) -> np.ndarray:
        """The weights of tile i, (size, size) float32 in [0, 1]; over all tiles they sum to exactly 1 everywhere."""
        row, col = divmod(i, self.cols)
        return np.outer(self.y.weights(row), self.x.weights(col)).astype(np.float32)

    def emphasis(self, i: int) -> np.ndarray:
        """The factors of tile i's texture that blending would thin out, (size, size) float32; 1 where it is alone."""
        row, col = divmod(i, self.cols)
        return np.outer(self.y.emphasis(row, self.agreement), self.x.emphasis(col, self.agreement)).astype(np.float32)


def fitted(frame: Frame, height: int, width: int) -> Frame:
    """The frame with that one of its sides as the tile by which the networks see the fewest pixels of such a picture.

    Sides below SPLIT are for pictures that they hold whole. The picture's size decides, and no other picture.
    """

    def seen(one: Frame) -> int:
        return len(Grid.of(height, width, one)) * one.wide**2

    holding = min(SPLIT, max(height, width))
    return min((replace(frame, tile=tile) for tile in frame.sides if tile >= holding), key=seen, default=frame)
