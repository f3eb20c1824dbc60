"""How strongly each pixel of a tile counts, for whole batches of tiles on a device; and what becomes of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..methods.contract import Frame
from .canvas import are_colours, fixed_point
from .scheduler import TileState
from .tiling import Axis, Grid
from .transfer import Fetch, sent

Tables = tuple[Tensor, Tensor]  # down (kinds, height), across (kinds, width)


@dataclass(frozen=True)
class Finished:
    """Tiles whose plans are done, in the canvas's fixed point, (capacity, *tile, 3) int32 on the device.

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
        grid = Grid.of(*frame.tile, frame).magnified(frame.scale)

        def tables(values: Callable[[Axis, int], np.ndarray]) -> Tables:
            rows = ([values(axis, k) for axis, k in _every_kind(axis)] for axis in (grid.y, grid.x))
            down, across = (sent(np.stack(one).astype(np.float32), device) for one in rows)
            return down, across

        self._weights = tables(lambda axis, k: axis.weights(k))
        self._emphasis = tables(lambda axis, k: axis.emphasis(k, grid.agreement))

    def emphasis(self, kinds: Tensor) -> Tensor:
        """kinds (N, 2) int64, down and across -> (N, 1, *tile), for texture that blending would thin out."""
        return _outer(self._emphasis, kinds)[:, None]

    def weighted(self, tiles: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
        """Tiles (N, *tile, 3) in the canvas's fixed point, and which of them are colours, (N,) bool."""
        return fixed_point(tiles, _outer(self._weights, kinds)[..., None]), are_colours(tiles)


def _every_kind(axis: Axis) -> list[tuple[Axis, int]]:
    """An interval of each kind in the order of Axis.kind: without neighbours; the first, last and middle of three."""
    alone, row = (replace(axis, length=axis.size + k * axis.stride) for k in (0, 2))
    return [(alone, 0), (row, 0), (row, 2), (row, 1)]


def _outer(tables: Tables, kinds: Tensor) -> Tensor:
    down, across = (table[kind] for table, kind in zip(tables, kinds.unbind(1), strict=True))
    return down[:, :, None] * across[:, None, :]
