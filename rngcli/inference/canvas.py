"""The picture that tiles are blended into, on the device or on the host; only its unfinished rows are held there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import PictureError
from .job import Rows
from .tiling import Grid

ONE = 2**24  # 1.0 in the canvas's fixed point: 256 times finer than a 16-bit picture, and int32 still holds ±128
LIMIT = 64.0  # no tile of a picture in [0, 1] comes near it


def no_colours() -> PictureError:
    """What a picture fails with where a tile of it is not finite, or absurd."""
    return PictureError("the model returned values that are no colours", "try --precision fp32 or another model")


def are_colours(tiles: Tensor) -> Tensor:
    """Which of tiles (N, …) can be blended, (N,) bool; false for NaN too."""
    return tiles.abs().flatten(1).amax(1) < LIMIT


def fixed_point(tiles: Tensor, windows: Tensor) -> Tensor:
    """Weighted tiles in the canvas's fixed point, int32: rounded once, and from there on only integers are added."""
    return (windows * tiles * ONE).round_().to(torch.int32)


def as_floats(rows: Tensor) -> Tensor:
    """Rows of a canvas, int32, as float32."""
    return rows * (1 / ONE)


def clamped(rows: Tensor) -> Tensor:
    """The same within [0, 1]."""
    return as_floats(rows.clamp(0, ONE))


class Canvas:
    """The picture that tiles are blended into, the same bit for bit in whatever order they arrive, wherever it lies.

    Sums of floats depend on their order; sums of integers do not. Rows that no tile is missing from any more are made
    `finished` values of, float32, and leave for `pixels` on the host: what is held in fixed point is a row of tiles or
    two, whatever the picture's height.
    """

    def __init__(
        self,
        grid: Grid,
        channels: int = 3,
        device: torch.device | str = "cpu",
        finished: Callable[[Tensor], Tensor] = as_floats,
        rows: Rows | None = None,
    ) -> None:
        self.grid, self.device, self.finished = grid, torch.device(device), finished
        self.missing = set(range(len(grid)))  # the tiles still to come
        self.pixels = np.empty((grid.height, grid.width, channels), np.float32) if rows is None else rows
        axis = grid.y
        # Band k begins where row k of tiles does: what lies above it, later rows leave alone.
        self._edges = [0, *(axis.start(k) for k in range(1, axis.count)), grid.height]
        self._touched = [
            [k for k in range(row, axis.count) if self._edges[k] < axis.start(row) + axis.size]
            for row in range(axis.count)
        ]
        self._due = [grid.cols * sum(k in touched for touched in self._touched) for k in range(axis.count)]
        self._bands: dict[int, Tensor] = {}
        self._leaving: list[tuple[int, Tensor]] = []  # finished bands that nobody has asked for yet
        self._travelling: deque[int] = deque()

    def add(self, i: int, tile: np.ndarray) -> None:
        """Blend in tile i, (*grid.tile, C) float32, once; PictureError where a value is not finite or absurd."""
        values = torch.as_tensor(tile, device=self.device)
        if not are_colours(values[None]):
            raise no_colours()
        self.put(i, fixed_point(values, torch.from_numpy(self.grid.window(i)[..., None]).to(self.device)))

    def put(self, i: int, share: Tensor) -> None:
        """Blend in tile i, weighted and in fixed point, (*grid.tile, C) int32 on the canvas's device, once."""
        self.missing.remove(i)
        (y, x), (height, width) = self.grid.origin(i), self.grid.tile
        left, right = max(x, 0), min(x + width, self.grid.width)
        for k in self._touched[i // self.grid.cols]:
            top, bottom = max(y, self._edges[k]), min(y + height, self._edges[k + 1])
            rows = self._band(k)[top - self._edges[k] : bottom - self._edges[k], left:right]
            rows += share[top - y : bottom - y, left - x : right - x]
            self._due[k] -= 1
            if not self._due[k]:
                self._leave(k)

    def _band(self, k: int) -> Tensor:
        if k not in self._bands:
            shape = self._edges[k + 1] - self._edges[k], *self.pixels.shape[1:]
            self._bands[k] = torch.zeros(shape, dtype=torch.int32, device=self.device)
        return self._bands[k]

    def _leave(self, k: int) -> None:
        """Rows that are finished: straight to the host from there, from a device when they are asked for."""
        self._leaving.append((k, self.finished(self._bands.pop(k))))
        if self.device.type == "cpu":
            self._all_arrive()

    def leave(self) -> list[Tensor]:
        """Finished rows on the device, each once, to be fetched for `arrive`."""
        left = [rows for _, rows in self._leaving]
        self._travelling += [k for k, _ in self._leaving]
        self._leaving.clear()
        return left

    def arrive(self, rows: Tensor) -> None:
        """Take in the oldest of the rows that have left, on the host by now."""
        k = self._travelling.popleft()
        self.pixels[self._edges[k] : self._edges[k + 1]] = rows.numpy()

    def _all_arrive(self) -> None:
        for rows in self.leave():
            self.arrive(rows.cpu())

    @property
    def whole(self) -> bool:
        """Whether every pixel has arrived."""
        return not (self.missing or self._leaving or self._travelling)

    def finish(self) -> Any:
        """The blended picture, (H, W, C) float32; ValueError while tiles are missing."""
        if self.missing:
            raise ValueError(f"{len(self.missing)} of {len(self.grid)} tiles are missing")
        self._all_arrive()
        return self.pixels
