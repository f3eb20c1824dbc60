"""Stage 1: NAFNet by a pixel loss (paper §3.3, eq. 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...data.crops import Batches
from ...device import placed
from ...errors import UsageError
from ...metrics.fidelity import psnr
from ...nets.nafnet import NAFNet, NAFNetSpec


def mean_absolute(x: Tensor, y: Tensor) -> Tensor:
    """Paper eq. 4 with p = 1."""
    return (x - y).abs().mean()


def root_mean_square(x: Tensor, y: Tensor) -> Tensor:
    """Each crop's own root-mean-square error, averaged: its optimum is the mean, which is what PSNR asks for.

    Not the mean of squares (paper eq. 4 with p = 2), in which a crop of strong noise counts many times one of weak.
    """
    return ((x - y).square().mean(dim=(1, 2, 3)) + 1e-6).sqrt().mean()


LOSSES = {"l1": mean_absolute, "rms": root_mean_square}


class Reconstruct:
    """Stage 1: NAFNet by a pixel loss on blindly degraded crops (paper eq. 4)."""

    def __init__(self, spec: NAFNetSpec, batches: Batches, loss: str = "l1") -> None:
        if loss not in LOSSES:
            raise UsageError(f"unknown loss {loss!r}", f"use {' or '.join(LOSSES)}")
        self.batches, self.distance = batches, LOSSES[loss]
        self.net: nn.Module = placed(NAFNet(spec), batches.device)

    def loss(self, forward: Callable[..., Any], rng: torch.Generator) -> Tensor:
        clean, noisy = self.batches.draw(rng)
        return self.distance(forward(noisy).float(), clean)

    @torch.no_grad()
    def validate(self, net: nn.Module) -> dict[str, float]:
        """PSNR at σ = 25 and 50, and for every other kind of noise beside the input's [dB]."""
        scores = {}
        for name, (clean, noisy) in self.batches.examples(32).items():
            restored = torch.cat([net(part) for part in noisy.split(8)])
            scores[f"psnr_{name}"] = float(psnr(restored.clamp(0, 1), clean, data_range=1.0).mean())
            if not name[0].isdigit():  # of white noise its σ is told
                scores[f"input_{name}"] = float(psnr(noisy, clean, data_range=1.0).mean())
        return scores

    @torch.no_grad()
    def samples(self, net: nn.Module) -> Tensor:
        """x, r(x) and y beside one another."""
        rows = [torch.stack([x, net(x), y], dim=1) for y, x in self.batches.examples(2).values()]
        return torch.cat(rows)
