"""A DDPM of a camera's noisy photographs as they are, without clean partners: for pair synthesis (Yang et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...data.photographs import Photographs
from ...device import channels_last, placed
from ...diffusion.ddpm import DDPM, DDPMSpec
from ...nets.unet import UNet, UNetSpec

# 0.3 M parameters: what is learned is the camera's noise, whose grain is small, and no scenes.
NETWORK = UNetSpec(32, (1, 1), 1, (1, 1), patch=1, condition="nothing", embedding=64)


class Unconditional:
    """The network learns, at every level of noise, what a crop of a noisy photograph was before more noise came."""

    def __init__(self, photographs: Photographs, size: int, process: DDPMSpec | None = None) -> None:
        self.photographs, self.size = photographs, size
        self.process = DDPM(process or DDPMSpec())
        self.net: nn.Module = placed(UNet(NETWORK), photographs.train.device)

    def loss(self, forward: Callable[..., Any], rng: torch.Generator) -> Tensor:
        """The error of F, whose variance is one at every level."""
        return self._errors(forward, self.photographs.train.sample(self.size, rng), rng).mean()

    @torch.no_grad()
    def validate(self, net: nn.Module) -> dict[str, float]:
        """The same loss on fixed crops of the held-out photographs."""
        rng = torch.Generator(self.photographs.held_out.device).manual_seed(0)
        crops = self.photographs.held_out.sample(64, rng)
        return {"error": float(torch.cat([self._errors(net, part, rng) for part in crops.split(16)]).mean())}

    def _errors(self, forward: Callable[..., Any], x0: Tensor, rng: torch.Generator) -> Tensor:
        level = self.process.draw(len(x0), rng)
        noise = torch.randn(x0.shape, generator=rng, device=x0.device)
        state = self.process.scaled(self.process.corrupt(x0, level, noise), level)
        answer = forward(channels_last(state), state[:, :0], self.process.gamma(level)).float()
        return (answer - self.process.target(x0, level, noise)).square().mean(dim=(1, 2, 3))
