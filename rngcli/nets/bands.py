"""A step controller that goes by statistics: how strong the noise was, and how much detail is left, band by band."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError
from .controller import blurred

CELL = 16  # [px], the side of the cells whose energies are told apart
FLOOR = 1e-6  # of an energy: a quarter of a level of 255, squared


@dataclass(frozen=True)
class BandSpec:
    """How many octaves are looked at, the width of the hidden layer, and the number of budgets."""

    octaves: int = 3
    hidden: int = 64
    dropout: float = 0.1
    budgets: int = 11

    def __post_init__(self) -> None:
        sizes, most = (self.hidden, self.budgets), CELL.bit_length()
        if not (1 <= self.octaves <= most and 1 <= min(sizes) <= max(sizes) <= 4096):
            raise ModelError(f"impossible controller {self}", f"use 1 to {most} octaves, and up to 4096 of the rest")


class BandController(nn.Module):
    """What `condition` makes of a tile, (N, 4·octaves, H/16, W/16) -> logits (N, budgets).

    The paper's controller (§3.2, `controller.py`) has to find out by eight convolutions what decides, and some hundred
    labels do not teach it that. Here it is given: for each octave, in light and in colour, how much x − r(x) and r(x)
    hold, as the logarithm of the mean over the tile and as the mean of logarithms. The first is ruled by where there is
    most, the second by what is typical; where they differ, a tile is uneven.
    """

    def __init__(self, spec: BandSpec) -> None:
        super().__init__()
        self.spec = spec
        statistics = 2 * 4 * spec.octaves
        self.normalise = nn.BatchNorm1d(statistics, affine=False)
        self.hidden = nn.Linear(statistics, spec.hidden)
        self.dropout = nn.Dropout(spec.dropout)
        self.classify = nn.Linear(spec.hidden, spec.budgets)

    def condition(self, noisy: Tensor, reconstruction: Tensor) -> Tensor:
        """The logarithm of each cell's amplitude, of x − r(x) in light and in colour, then of r(x); octaves upwards.

        noisy, reconstruction: (N, 3, H, W) in [0, 1], H and W at least CELL.
        """
        # Channel by channel in memory, whatever lies there: all that follows goes along rows.
        r = reconstruction.float().contiguous().clamp(0, 1)
        parts = [part for picture in (noisy.float().contiguous() - r, r) for part in _light_and_colour(picture)]
        energies = [e for part in parts for e in _energies(part, self.spec.octaves)]
        return 0.5 * torch.log(torch.cat(energies, dim=1) + FLOOR)

    def statistics(self, x: Tensor) -> Tensor:
        """Of the tile, from its cells: (N, 8·octaves), the logarithms of the means before the means of logarithms."""
        cells = x.flatten(2)
        overall = 0.5 * torch.log(torch.exp(2 * cells).mean(dim=2))
        return torch.cat([overall, cells.mean(dim=2)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        features = F.relu(self.hidden(self.normalise(self.statistics(x))))
        return self.classify(self.dropout(features))

    @torch.no_grad()
    def budget(self, x: Tensor) -> Tensor:
        """The most promising budget's index, (N,) int64."""
        return self(x).argmax(dim=1)


def _light_and_colour(picture: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of the three channels (N, 1, H, W), and what they differ from it by (N, 3, H, W)."""
    light = picture.mean(dim=1, keepdim=True)
    return light, picture - light


def _energies(x: Tensor, octaves: int) -> list[Tensor]:
    """For each octave, from the finest, the mean square of what a blur takes away, by cells: (N, 1, H/16, W/16)."""
    found = []
    for octave in range(octaves):
        coarse = blurred(x)
        band = (x - coarse).square().mean(dim=1, keepdim=True)
        found.append(F.avg_pool2d(band, CELL >> octave))
        x = F.avg_pool2d(coarse, 2)
    return found
