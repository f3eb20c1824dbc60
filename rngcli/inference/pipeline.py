"""A method on a device: slots for its tiles, full batches, number format, keyed noise; knows no method by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..device import channels_last, find_device, find_precision
from ..diffusion.operators import Identity, Operator, Seen
from ..methods import open_method
from ..methods.contract import STATE, Held, Request, Step
from ..models.bundle import Bundle
from .noise import gaussian_field
from .scheduler import TileState
from .tiling import Grid

BEGIN = 2**32 - 1  # the step number of the starting noise; the steps themselves count from 0


@dataclass(frozen=True)
class Crop:
    """What a tile sees, its context included.

    pixels (wide, wide, 3) float32 in [0, 1]; valid (wide, wide) bool, false in holes and beyond the picture's border;
    sigma: σ_n on the [0, 1] scale, NaN where it is not known.
    """

    pixels: np.ndarray
    valid: np.ndarray
    sigma: float


class Pipeline:
    """A method's networks on a device, and slots for `slots` tiles, allocated once: memory does not depend on pictures.

    Every call of the method has the shape of `capacity` tiles, padded where there are fewer: a tile's result is then
    the same bit for bit whoever its neighbours are.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str = "auto",
        precision: str = "auto",
        capacity: int | None = None,
        method: str | None = None,
        operator: Operator | None = None,
    ) -> None:
        """method: its name in the bundle, by default the first; operator: what but noise happened to the pictures."""
        self.bundle, self.precision = bundle, precision
        self.device = find_device(device)
        self.dtype = find_precision(self.device, precision)
        self.capacity = capacity or default_capacity(self.device)
        # Started tiles wait here for their turn, so that starts and steps are full batches alike.
        self.slots = 1 if self.capacity == 1 else 2 * self.capacity
        self.name = method or next(iter(bundle.methods), "")
        self.operator = operator or Identity()
        self.method = open_method(bundle, self.name, self.device, self.dtype, self.operator)
        self.frame = self.method.frame
        self.held: Held = {key: self._zeros(self.slots, *shape) for key, shape in self.method.holds.items()}

    def halved(self) -> Pipeline:
        """The same pipeline with half the capacity; this one's slots and networks are let go first."""
        del self.held, self.method
        capacity = max(1, self.capacity // 2)
        return Pipeline(self.bundle, str(self.device), self.precision, capacity, self.name, self.operator)

    def with_method(self, name: str) -> Pipeline:
        """Another method of the same bundle, on the same device."""
        return Pipeline(self.bundle, str(self.device), self.precision, self.capacity, name, self.operator)

    def _zeros(self, *shape: int) -> Tensor:
        zeros = torch.zeros(shape, device=self.device)
        return channels_last(zeros) if len(shape) == 4 else zeros

    def require(self, request: Request) -> None:
        """UsageError where the method has no such option, ModelError where the bundle lacks what it needs for it."""
        request.refuse_beyond(self.method.understands, self.name)
        self.method.require(request)

    # --- prefill -----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def start(self, tiles: Sequence[TileState], crops: Sequence[Crop], request: Request) -> None:
        """Start at most `capacity` tiles that have just got their slots, and set each one's plan."""
        held, plans = self.method.start(self._seen(crops), request)
        slots = [tile.slot for tile in tiles]
        for key, value in held.items():
            self.held[key][slots] = value[: len(tiles)]
        for tile, plan in zip(tiles, plans, strict=False):
            tile.plan = plan
        self._begin([tile for tile in tiles if tile.plan], request.seed)

    def _seen(self, crops: Sequence[Crop]) -> Seen:
        wide = self.frame.wide
        pixels, valid = self._zeros(self.capacity, 3, wide, wide), self._zeros(self.capacity, 1, wide, wide)
        for row, crop in enumerate(crops):
            pixels[row] = torch.from_numpy(crop.pixels).permute(2, 0, 1)
            valid[row, 0] = torch.from_numpy(crop.valid)
        sigma = [crop.sigma for crop in crops] + [float("nan")] * (self.capacity - len(crops))
        return Seen(pixels, valid, self._levels(sigma))

    def _begin(self, tiles: Sequence[TileState], seed: int) -> None:
        if tiles:
            noise = self._noise(self._padded(tiles), BEGIN, seed)
            levels = self._levels([tile.plan[0] for tile in self._padded(tiles)])
            state = self.method.begin(self._held_by(self._padded(tiles)), levels, noise)
            self.held[STATE][[tile.slot for tile in tiles]] = state[: len(tiles)]

    # --- decode ------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def step(self, tiles: Sequence[TileState], seed: int) -> None:
        """One evaluation of the network for at most `capacity` tiles, each at its own level."""
        padded = self._padded(tiles)
        held = self._held_by(padded)
        now = self._levels([tile.plan[tile.done] for tile in padded])
        after = self._levels([(*tile.plan, self.method.end)[tile.done + 1] for tile in padded])
        noise = torch.zeros_like(held[STATE])
        if self.method.stochastic:
            noise = self._noise(padded, torch.tensor([tile.done for tile in padded]), seed)
        state = self.method.step(held, Step(now, after, noise))
        self.held[STATE][[tile.slot for tile in tiles]] = state[: len(tiles)]

    @torch.inference_mode()
    def finish(self, tile: TileState, detail: float, grid: Grid) -> np.ndarray:
        """The picture of a tile whose plan is done, (scale·tile, scale·tile, 3) float32, not clamped.

        Where it will blend with others of the output's `grid`, what is generated is emphasised by what their
        disagreement costs.
        """
        base, generated = map(self.frame.middle, self.method.finish(self._held_by([tile])))
        picture = base[0]
        if tile.plan:
            emphasis = torch.from_numpy(grid.emphasis(tile.index)).to(self.device)
            picture = picture + detail * self.method.unit * emphasis * generated[0]
        return picture.permute(1, 2, 0).cpu().numpy()

    def start_of(self, tile: TileState) -> float:
        """How far in the noise a tile starts, as a share of the fullest start, in [0, 1]."""
        return self.method.start_share(tile.plan[0]) if tile.plan else 0.0

    # --- batches -----------------------------------------------------------------------------------------------

    def _padded(self, tiles: Sequence[TileState]) -> list[TileState]:
        return [*tiles, *[tiles[0]] * (self.capacity - len(tiles))]

    def _held_by(self, tiles: Sequence[TileState]) -> Held:
        slots = [tile.slot for tile in tiles]
        return {key: value[slots] for key, value in self.held.items()}

    def _noise(self, tiles: Sequence[TileState], step: int | Tensor, seed: int) -> Tensor:
        """Of the state's shape, by the places of its pixels in the output."""
        origins = (torch.tensor([tile.origin for tile in tiles]) - self.frame.context) * self.frame.scale
        channels, side, _ = self.method.holds[STATE]
        return gaussian_field(seed, step, origins, side, channels, self.device)

    def _levels(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.device)


def default_capacity(device: torch.device) -> int:
    """Tiles in flight: on a GPU enough to fill it, on a CPU one, where more bring memory traffic and nothing else."""
    return 1 if device.type == "cpu" else 16
