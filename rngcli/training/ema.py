"""The exponential moving average of a network's weights: what is validated, and what goes into a bundle."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, step: int, most: float) -> None:
    """Move `average` towards `net` after optimiser step `step`; buffers are copied.

    Quickly at first, so that the random start is forgotten; `most` is the decay that is reached in the end, in [0, 1).
    """
    decay = min(most, (1 + step) / (10 + step))
    ours: list[Tensor] = list(average.parameters())
    theirs: list[Tensor] = list(net.parameters())
    torch._foreach_lerp_(ours, theirs, 1 - decay)
    for mine, other in zip(average.buffers(), net.buffers(), strict=True):
        mine.copy_(other)
