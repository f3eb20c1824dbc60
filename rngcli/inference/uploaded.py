"""A picture where its tiles are cut from: sent to the device once, or kept on the host where it is too large."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from ..methods.contract import Frame, Size
from .banding import Banding
from .scheduler import TileState
from .tiling import Grid
from .transfer import sent

_BITS: dict[type[np.generic], type[np.generic]] = {np.uint16: np.int16}  # torch indexes no unsigned 16 bits


@dataclass(frozen=True)
class Uploaded:
    """Pixels (H, W, 3) as they were given: float32 in [0, 1], uint8, or the bits of uint16 as int16.

    valid (H, W) bool is false in holes; None: there are none. sigma: σ_n on the [0, 1] scale, NaN where unknown.
    banding: what rows (H, 3) and columns (W, 3) have too much, which tiles are cut without; None: nothing.
    """

    grid: Grid
    pixels: Tensor
    valid: Tensor | None
    sigma: float
    banding: tuple[Tensor, Tensor] | None = None

    @classmethod
    def of(
        cls,
        pixels: np.ndarray,
        valid: np.ndarray | None,
        sigma: float,
        frame: Frame,
        device: torch.device,
        banding: Banding | None = None,
    ) -> Uploaded:
        """pixels (H, W, 3) float32 in [0, 1], or uint8 or uint16 with full scale at 1."""
        grid = Grid.of(pixels.shape[0], pixels.shape[1], frame)
        bits = _BITS.get(pixels.dtype.type)
        stored = np.ascontiguousarray(pixels).view(bits) if bits else pixels
        offsets = None if banding is None else (sent(banding.rows, device), sent(banding.columns, device))
        return cls(grid, sent(stored, device), None if valid is None else sent(valid, device), sigma, offsets)

    def tiles(self, places: Tensor, wide: Size) -> tuple[Tensor, Tensor]:
        """What tiles see, by their `places` on the picture's device: (n, *wide, 3) float32, and bool."""
        height, width = wide
        y, on_y, x, on_x = places.split([height, height, width, width], dim=1)
        rows, columns = y[:, :, None], x[:, None, :]
        inside = (on_y[:, :, None] & on_x[:, None, :]).bool()
        if self.valid is not None:
            inside &= self.valid[rows, columns]
        seen = self._floats(self.pixels[rows, columns])
        if self.banding:
            of_rows, of_columns = self.banding
            seen = seen - of_rows[rows] - of_columns[columns]
        return seen, inside

    def _floats(self, stored: Tensor) -> Tensor:
        if stored.dtype == torch.float32:
            return stored
        values = stored.int() & 0xFFFF  # of int16, the bits that were meant
        full = torch.full((), 255.0 if stored.dtype == torch.uint8 else 65535.0, device=stored.device)
        return values.float() / full  # by a tensor: a GPU divides by a number as a product, which rounds otherwise


def cut(
    tiles: Sequence[TileState], pictures: Sequence[Uploaded | None], context: int, into: tuple[Tensor, Tensor]
) -> None:
    """What tiles see of their pictures, `context` px around them included.

    into: pixels (N, 3, *wide) and valid (N, 1, *wide), N ≥ len(tiles); rows of tiles whose picture is None
    stay as they are.
    """
    pixels, valid = into
    for first, picture, where in _of_one_picture(tiles, pictures, context):
        seen, inside = picture.tiles(sent(where, picture.pixels.device), (pixels.shape[2], pixels.shape[3]))
        rows = slice(first, first + len(where))
        pixels.permute(0, 2, 3, 1)[rows] = sent(seen, pixels.device)
        valid[rows, 0] = sent(inside, valid.device).float()


def _of_one_picture(
    tiles: Sequence[TileState], pictures: Sequence[Uploaded | None], context: int
) -> Iterator[tuple[int, Uploaded, np.ndarray]]:
    """Neighbouring rows of a batch that are cut from one picture: the first of them, the picture, and where."""
    of_picture = groupby(zip(range(len(tiles)), tiles, pictures, strict=True), key=lambda row: id(row[2]))
    for _, group in of_picture:
        rows, same, (picture, *_) = zip(*group, strict=True)
        if picture:
            yield rows[0], picture, np.stack([places(picture.grid, tile.index, context) for tile in same])


def places(grid: Grid, index: int, margin: int) -> np.ndarray:
    """Where a tile and `margin` px around it look, one after the other, int64: rows, columns, each with what is inside.

    (2·(height + width),) of what is seen, so that a batch is sent at once.
    """
    of_axes = zip((grid.y, grid.x), divmod(index, grid.cols), strict=True)
    return np.concatenate([look(k, margin) for axis, k in of_axes for look in (axis.indices, axis.inside)])
