"""The three stages of training as data: what is learned from what (paper §3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .degrade import DegradeSpec, degrade
from .nets.nafnet import NAFNet, NAFNetSpec
from .pool import Pool, is_held_out


@dataclass
class Photographs:
    """The training pictures and the held-out ones, on one device."""

    train: Pool
    held_out: Pool

    @classmethod
    def load(cls, paths: Sequence[Path], crop: int, device: torch.device | str = "cpu") -> Photographs:
        """Decode all of `paths`; the held-out slice is chosen by name."""
        held_out = [p for p in paths if is_held_out(p)] or list(paths[:1])
        train = [p for p in paths if p not in set(held_out)] or list(paths)
        return cls(Pool(train, crop, device), Pool(held_out, crop, device))


def psnr_of(x: Tensor, y: Tensor) -> float:
    """Mean over the batch of the PSNR of x clamped to [0, 1] against y, both (N, 3, H, W) [dB]."""
    mse = (x.clamp(0, 1) - y).square().mean(dim=(1, 2, 3))
    return float((-10 * mse.log10()).mean())


class Reconstruct:
    """Stage 1: NAFNet by a pixel loss on blindly degraded crops (paper eq. 4, with p = 1)."""

    def __init__(self, spec: NAFNetSpec, photographs: Photographs, batch: int = 16, noise: DegradeSpec | None = None):
        self.photographs, self.batch, self.noise = photographs, batch, noise or DegradeSpec()
        device = photographs.train.device
        self.net: nn.Module = NAFNet(spec).to(device, memory_format=torch.channels_last)

    def loss(self, forward: Callable[..., Any], rng: torch.Generator) -> Tensor:
        clean = self.photographs.train.sample(self.batch, rng)
        noisy = degrade(clean, self.noise, rng).contiguous(memory_format=torch.channels_last)
        return (forward(noisy).float() - clean).abs().mean()

    @torch.no_grad()
    def validate(self, net: nn.Module) -> dict[str, float]:
        """PSNR at σ = 25 and 50 on fixed held-out crops, and with camera noise beside the input's."""
        rng = torch.Generator(self.photographs.held_out.device).manual_seed(0)
        clean = self.photographs.held_out.sample(32, rng)
        cases = {
            f"psnr_{sigma}": degrade(clean, DegradeSpec(1.0, (sigma, sigma)), rng) for sigma in (25, 50)
        } | {"psnr_camera": degrade(clean, DegradeSpec(0.0), rng)}
        scores = {name: psnr_of(self._apply(net, noisy), clean) for name, noisy in cases.items()}
        return scores | {"input_camera": psnr_of(cases["psnr_camera"], clean)}

    def _apply(self, net: nn.Module, noisy: Tensor) -> Tensor:
        return torch.cat([net(part.contiguous(memory_format=torch.channels_last)) for part in noisy.split(8)])
