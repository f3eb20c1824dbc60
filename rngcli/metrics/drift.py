"""How true a synthetic noisy picture stays to its clean partner, where the eye would not see that it moved."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

RADIUS = 4  # [px]
_TAPS = torch.softmax(-(torch.arange(-RADIUS, RADIUS + 1) ** 2) / 2.0, dim=0)  # a Gaussian of σ = 1 px


@dataclass
class DetailSlope:
    """The slope of noisy on clean pictures in their finest detail, what a Gaussian of 1 px takes away.

    1: the noise is added to the picture as it is. Below 1: detail has gone, or is another's than the clean picture's,
    and who learns from such pairs learns to sharpen. Noise, which hangs on nothing, does not change it.
    """

    together: float = 0.0
    alone: float = 0.0

    def add(self, noisy: Tensor, clean: Tensor) -> None:
        """One more pair, (3, H, W) each."""
        detail = _detail(clean)
        self.together += float((detail * _detail(noisy)).sum())
        self.alone += float(detail.square().sum())

    @property
    def value(self) -> float:
        """Over all pairs together; nan where no picture has any detail."""
        return self.together / self.alone if self.alone else float("nan")


def _detail(x: Tensor) -> Tensor:
    """x without what is coarser than about a pixel, (3, H, W), in float64."""
    taps = _TAPS.to(x.device, torch.float64)
    wide = F.pad(x.double()[:, None], [RADIUS] * 4, mode="replicate")
    rows = F.conv2d(wide, taps.view(1, 1, 1, -1))
    return x.double() - F.conv2d(rows, taps.view(1, 1, -1, 1))[:, 0]
