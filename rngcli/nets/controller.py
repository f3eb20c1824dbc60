"""The paper's step controller s(x) (§3.2): a tile in, a distribution over budgets out. Shipped: `bands`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError

_INPUTS = {"noisy": 3, "parts": 6}  # what may be looked at, and its channels


@dataclass(frozen=True)
class ControllerSpec:
    """Channels of the eight blocks, the number of budgets (the paper's: 0, 10, …, 100), and what is looked at."""

    channels: tuple[int, ...] = (16, 16, 16, 16, 32, 64, 64, 64)
    budgets: int = 11
    condition: str = "noisy"  # "noisy": x (the paper); "parts": what r(x) took away, and its own fine detail

    def __post_init__(self) -> None:
        sizes = (*self.channels, self.budgets)
        if len(self.channels) != 8 or not 1 <= min(sizes) <= max(sizes) <= 4096:
            raise ModelError(f"impossible controller {self}", "use 8 blocks of 1 to 4096 channels, and some budgets")
        if self.condition not in _INPUTS:
            raise ModelError(f"unknown condition {self.condition!r}", f"use {' or '.join(_INPUTS)}")

    @property
    def inputs(self) -> int:
        return _INPUTS[self.condition]


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def blurred(x: Tensor) -> Tensor:
    """The mean of 3×3 pixels around each, reflected at the border: what is left without the finest band."""
    around = F.pad(x, (1, 1, 1, 1), mode="reflect")
    rows = around[..., :-2, :] + around[..., 1:-1, :] + around[..., 2:, :]
    return (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) / 9


class Controller(nn.Module):
    """What `condition` makes of a tile (N, 3 or 6, H, W) in [0, 1] -> logits (N, budgets).

    Eight 3×3 convolution–batch norm–ReLU blocks, max-pooling after the 2nd, 5th, 6th and 8th, residual
    connections from the 2nd to the 4th and from the 6th to the 8th, one fully connected layer. The last
    features are averaged over the tile before it, so any tile size from 16 px on will do.
    """

    def __init__(self, spec: ControllerSpec) -> None:
        super().__init__()
        self.spec = spec
        inputs = (spec.inputs, *spec.channels[:-1])
        self.blocks = nn.ModuleList(_block(i, o) for i, o in zip(inputs, spec.channels, strict=True))
        self.classify = nn.Linear(spec.channels[-1], spec.budgets)

    def condition(self, noisy: Tensor, reconstruction: Tensor) -> Tensor:
        """What the network sees, by its spec: x; or x − r(x) and what a blur takes from r(x), raised and about a half.

        How strong the noise is, and how sharp the picture, decide; in x itself, light and colour drown them out.
        """
        if self.spec.condition == "noisy":
            return noisy
        r = reconstruction.clamp(0, 1)
        return torch.cat([0.5 + 4 * (noisy - r), 0.5 + 8 * (r - blurred(r))], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        b1, b2, b3, b4, b5, b6, b7, b8 = self.blocks
        second = F.max_pool2d(b2(b1((x - 0.5) * 2)), 2)
        fourth = b4(b3(second)) + second
        sixth = F.max_pool2d(b6(F.max_pool2d(b5(fourth), 2)), 2)
        eighth = F.max_pool2d(b8(b7(sixth)) + sixth, 2)
        return self.classify(eighth.mean(dim=(2, 3)))

    @torch.no_grad()
    def budget(self, x: Tensor) -> Tensor:
        """The most probable budget's index, (N,) int64."""
        return self(x).argmax(dim=1)
