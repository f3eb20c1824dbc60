"""How strongly each pixel of a tile counts, for whole batches of tiles on a device; and what becomes of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..methods.contract import Frame
from .canvas import are_colours, fixed_point
from .scheduler import TileState
from .tiling import Axis, Grid
from .transfer import Fetch, sent


@dataclass(frozen=True)
class Finished:
    """Tiles whose plans are done, in the canvas's fixed point, (capacity, side, side, 3) int32 on the device.

    `told`: on the way to the host are which of them are colours, (capacity,) bool, the shares themselves where one is
    for a canvas there, and whatever else was asked for.
    """

    tiles: Sequence[TileState]
    shares: Tensor
    told: Fetch
    to_host: bool

    def wait(self) -> tuple[list[bool], Tensor | None, list[Tensor]]:
        """Which tiles are colours, their shares on the host where they were asked for, and what else was."""
        colours, *rest = self.told.wait()
        shares = rest.pop(0) if self.to_host else None
        return colours.tolist(), shares, rest


class Blending:
    """The weights and the emphasis of tiles, by where a tile has neighbours; at the output's scale."""

    def __init__(self, frame: Frame, device: torch.device) -> None:
        grid = Grid.of(frame.tile, frame.tile, frame).magnified(frame.scale)
        stride = grid.size - grid.overlap
        alone, row = (Axis(grid.size + k * stride, grid.size, grid.overlap, grid.discard) for k in (0, 2))
        # By Axis.kind: without neighbours; the first, the last, and the middle one of three.
        kinds = [(alone, 0), (row, 0), (row, 2), (row, 1)]

        def table(values: Callable[[Axis, int], np.ndarray]) -> Tensor:
            return sent(np.stack([values(axis, k) for axis, k in kinds]).astype(np.float32), device)

        self._weights = table(lambda axis, k: axis.weights(k))
        self._emphasis = table(lambda axis, k: axis.emphasis(k, grid.agreement))

    def emphasis(self, kinds: Tensor) -> Tensor:
        """kinds (N, 2) int64, down and across -> (N, 1, side, side), for texture that blending would thin out."""
        return _outer(self._emphasis, kinds)[:, None]

    def weighted(self, tiles: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
        """Tiles (N, side, side, 3) in the canvas's fixed point, and which of them are colours, (N,) bool."""
        return fixed_point(tiles, _outer(self._weights, kinds)[..., None]), are_colours(tiles)


def _outer(table: Tensor, kinds: Tensor) -> Tensor:
    return table[kinds[:, 0]][:, :, None] * table[kinds[:, 1]][:, None, :]
