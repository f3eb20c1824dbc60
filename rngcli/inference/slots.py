"""What a method holds of the tiles in flight: rows of tensors on the device, allocated once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..methods.contract import Held
from .scheduler import TileState
from .transfer import sent


class Slots:
    """`count` rows of each thing held, and where batches of `capacity` are padded one more, which padding goes to.

    Padding reads the first tile's row, so that every batch has one shape.
    """

    def __init__(self, holds: Mapping[str, tuple[int, ...]], count: int, capacity: int, device: torch.device) -> None:
        self.count, self.capacity, self.device = count, capacity, device
        rows = count + (capacity > 1)
        self.held: Held = {key: zeros((rows, *shape), device) for key, shape in holds.items()}

    def of(self, tiles: Sequence[TileState]) -> tuple[Tensor, Tensor]:
        """Where each row of a batch is read from, and where it is written to, (capacity,) int64 each."""
        slots = [tile.slot for tile in tiles]
        padding = self.capacity - len(tiles)
        both = [slots + [slots[0]] * padding, slots + [self.count] * padding]
        read, write = sent(np.array(both, np.int64), self.device)
        return read, write

    def read(self, rows: Tensor) -> Held:
        """What is held in `rows`, copied, pictures as they lie."""
        return {key: _lying(value)[rows] if value.dim() != 4 else _lying(value)[rows].permute(0, 3, 1, 2)
                for key, value in self.held.items()}  # fmt: skip

    def write(self, held: Held, rows: Tensor) -> None:
        """Keep something of what a method holds, in `rows`."""
        for key, value in held.items():
            _lying(self.held[key]).index_copy_(0, rows, _lying(value))


def zeros(shape: Sequence[int], device: torch.device) -> Tensor:
    """Pictures lie as (N, H, W, C), whatever their order of axes says: what convolutions are fastest on."""
    if len(shape) != 4:
        return torch.zeros(*shape, device=device)
    n, channels, height, width = shape
    return torch.zeros((n, height, width, channels), device=device).permute(0, 3, 1, 2)


def _lying(value: Tensor) -> Tensor:
    """Pictures (N, C, H, W) as they lie, (N, H, W, C): a row of it is one piece of memory."""
    return value.permute(0, 2, 3, 1) if value.dim() == 4 else value
