"""The step controller s(x): a noisy tile in, a distribution over step budgets out (paper §3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class ControllerSpec:
    """Channels of the eight blocks and the number of budgets (the paper's: 0, 10, …, 100)."""

    channels: tuple[int, ...] = (16, 16, 16, 16, 32, 64, 64, 64)
    budgets: int = 11


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Controller(nn.Module):
    """Noisy tile (N, 3, H, W) in [0, 1] -> logits (N, budgets).

    Eight 3×3 convolution–batch norm–ReLU blocks, max-pooling after the 2nd, 5th, 6th and 8th, residual
    connections from the 2nd to the 4th and from the 6th to the 8th, one fully connected layer. The last
    features are averaged over the tile before it, so any tile size from 16 px on will do.
    """

    def __init__(self, spec: ControllerSpec) -> None:
        super().__init__()
        self.spec = spec
        inputs = (3, *spec.channels[:-1])
        self.blocks = nn.ModuleList(_block(i, o) for i, o in zip(inputs, spec.channels, strict=True))
        self.classify = nn.Linear(spec.channels[-1], spec.budgets)

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
