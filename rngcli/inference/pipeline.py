"""A batch of tiles on a device: start, step, finish; the only place that decides the networks' precision."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..device import Net, channels_last, find_device, find_precision, placed
from ..diffusion.residual import ResidualDiffusion
from ..diffusion.schedule import Budget, sigma_of
from ..errors import ModelError, UsageError
from ..models.bundle import Bundle, Generator
from .noise import gaussian_field
from .scheduler import TileState
from .tiling import Grid

TILE = 256  # [px], the paper's
CONTEXT = 16  # more pixels on every side that the networks see: without them, generated detail shows a faint grid
WIDE = TILE + 2 * CONTEXT
BEGIN = 2**32 - 1  # the step number of the starting noise; the steps themselves count from 0


@dataclass(frozen=True)
class Request:
    """What a user may ask of every tile."""

    max_steps: int = 100  # the most evaluations of the generator
    steps: int | None = None  # None: the controller decides; else this many evaluations everywhere
    detail: float = 1.0  # the share of the generated residual that is added, in [0, 1]
    seed: int = 0
    budget: int | None = None  # the number of one of the model's budgets, for every tile

    @property
    def generates(self) -> bool:
        """Whether the generator can be needed at all."""
        return self.detail != 0 and self.steps != 0 and self.max_steps != 0


class Pipeline:
    """Networks on a device, and slots for `slots` tiles, allocated once: memory does not depend on the pictures.

    Every network call has the shape of `capacity` tiles, padded where there are fewer: a tile's result is then the
    same bit for bit whoever its neighbours are.
    """

    def __init__(self, bundle: Bundle, device: str = "auto", precision: str = "auto", capacity: int | None = None):
        self.bundle, self.precision = bundle, precision
        self.device = find_device(device)
        self.dtype = find_precision(self.device, precision)
        self.capacity = capacity or default_capacity(self.device)
        # Started tiles wait here for their turn, so that starts and steps are full batches alike.
        self.slots = 1 if self.capacity == 1 else 2 * self.capacity
        self.process = ResidualDiffusion(bundle.process)
        self.nafnet = self._copy(bundle.nafnet, self.dtype)
        self.generator = bundle.generator and self._copy(bundle.generator, self.dtype)
        # In float32 everywhere: it is small, and its roundings must not tip a tile into another budget.
        self.controller = bundle.controller and self._copy(bundle.controller, torch.float32)
        self.noisy = self._tiles(self.slots)  # x
        self.reconstruction = self._tiles(self.slots)  # r(x)
        self.residual = self._tiles(self.slots)  # d̃_t

    def _copy(self, net: Net, dtype: torch.dtype) -> Net:
        """The bundle's networks stay as they are: they may serve another pipeline at another precision."""
        return placed(deepcopy(net), self.device, dtype)

    def halved(self) -> Pipeline:
        """The same pipeline with half the capacity; this one's slots are let go first."""
        del self.noisy, self.reconstruction, self.residual, self.nafnet, self.generator, self.controller
        return Pipeline(self.bundle, str(self.device), self.precision, max(1, self.capacity // 2))

    def _tiles(self, n: int) -> Tensor:
        """Zeros (n, 3, WIDE, WIDE) float32 on the device."""
        return channels_last(torch.zeros(n, 3, WIDE, WIDE, device=self.device))

    def require(self, request: Request) -> None:
        """ModelError where the bundle lacks a network that `request` needs."""
        if not request.generates:
            return
        if self.generator is None:
            raise ModelError("this model has no generator yet", "use --detail 0, or `rng train generate`")
        if request.budget is not None and not 0 <= request.budget < len(self.bundle.budgets):
            cause = f"this model has no budget {request.budget}"
            raise UsageError(cause, f"its budgets are 0 to {len(self.bundle.budgets) - 1}")
        if self.controller is None and request.steps is None and request.budget is None:
            raise ModelError("this model has no step controller yet", "give --steps N, or `rng train controller`")

    # --- prefill -----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def start(self, tiles: Sequence[TileState], pixels: Sequence[np.ndarray], request: Request) -> None:
        """Reconstruct at most `capacity` tiles that have just got their slots, and set each one's plan.

        pixels: for each tile (WIDE, WIDE, 3) float32 in [0, 1].
        """
        wide = self._tiles(self.capacity)
        for row, picture in enumerate(pixels):
            wide[row] = torch.from_numpy(picture).permute(2, 0, 1)
        slots = [tile.slot for tile in tiles]
        self.noisy[slots] = wide[: len(tiles)]
        r = self.nafnet(wide)
        self.reconstruction[slots] = r[: len(tiles)]
        for tile, budget in zip(tiles, self._budgets(_middle(wide), _middle(r), request), strict=False):
            tile.plan = budget.plan(self.bundle.process.last, request.max_steps)
        self._begin([tile for tile in tiles if tile.plan], request.seed)

    def _budgets(self, noisy: Tensor, r: Tensor, request: Request) -> list[Budget]:
        if not request.generates:
            return [Budget(1.0, 0)] * len(noisy)
        if request.steps is not None:
            return [replace(self.bundle.budgets[-1], evaluations=request.steps)] * len(noisy)
        if request.budget is not None:
            return [self.bundle.budgets[request.budget]] * len(noisy)
        assert self.controller is not None
        seen = self.controller.condition(noisy, r)
        return [self.bundle.budgets[i] for i in self.controller.budget(seen)]

    def _begin(self, tiles: Sequence[TileState], seed: int) -> None:
        if tiles:
            levels = self._levels([tile.plan[0] for tile in tiles])
            noise = self._noise(tiles, BEGIN, seed)
            self.residual[[tile.slot for tile in tiles]] = self.process.begin(levels, noise)

    def _noise(self, tiles: Sequence[TileState], step: int | Tensor, seed: int) -> Tensor:
        origins = torch.tensor([tile.origin for tile in tiles]) - CONTEXT
        return gaussian_field(seed, step, origins, WIDE, device=self.device)

    def _levels(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.device)

    def start_of(self, tile: TileState) -> float:
        """How far in the noise a tile starts, as a share of the fullest budget's start, in [0, 1]."""
        return sigma_of(tile.plan[0]) / self.bundle.budgets[-1].start if tile.plan else 0.0

    # --- decode ------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def step(self, tiles: Sequence[TileState], seed: int) -> None:
        """One evaluation of the generator for at most `capacity` tiles, each at its own level."""
        slots = [tile.slot for tile in tiles]
        now = self._levels([tile.plan[tile.done] for tile in tiles])
        after = self._levels([(*tile.plan, 1.0)[tile.done + 1] for tile in tiles])
        d_t = self.residual[slots]
        noise = torch.zeros_like(d_t)
        if self.process.spec.eta > 0:
            noise = self._noise(tiles, torch.tensor([tile.done for tile in tiles]), seed)
        self.residual[slots] = self.process.step(d_t, self._predict(slots, now), now, after, noise)

    def _predict(self, slots: list[int], levels: Tensor) -> Tensor:
        """The generator's answers for these slots, (len(slots), 3, WIDE, WIDE) float32."""
        generator: Generator = self.generator  # type: ignore[assignment]
        missing = self.capacity - len(slots)
        index = slots + slots[:1] * missing
        levels = torch.cat([levels, levels[:1].expand(missing)])
        condition = generator.condition(self.noisy[index], self.reconstruction[index])
        answer = generator(self.residual[index], condition, levels)
        return answer[: len(slots)].float()

    @torch.inference_mode()
    def finish(self, tile: TileState, detail: float, grid: Grid) -> np.ndarray:
        """r + detail·gain·σ_d·d̃_0 of a tile whose plan is done, (TILE, TILE, 3) float32, not clamped.

        Where it will blend with others of its `grid`, what is generated is emphasised by what their disagreement costs.
        """
        picture = _middle(self.reconstruction[tile.slot])
        if tile.plan:
            process = self.bundle.process
            emphasis = torch.from_numpy(grid.emphasis(tile.index, process.agreement)).to(self.device)
            picture = picture + detail * process.gain * process.sigma_d * emphasis * _middle(self.residual[tile.slot])
        return picture.permute(1, 2, 0).cpu().numpy()


def _middle(wide: Tensor) -> Tensor:
    """Without the context, (…, TILE, TILE)."""
    return wide[..., CONTEXT:-CONTEXT, CONTEXT:-CONTEXT]


def default_capacity(device: torch.device) -> int:
    """Tiles in flight: on a GPU enough to fill it, on a CPU one, where more bring memory traffic and nothing else."""
    return 1 if device.type == "cpu" else 16
