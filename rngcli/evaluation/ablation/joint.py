"""What the two-stage rule is measured against: both networks trained in one go, and a generator with nothing below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ...data.crops import Batches, gaussian
from ...device import channels_last, placed
from ...diffusion.residual import ProcessSpec, ResidualDiffusion
from ...methods.rng import RnGParts
from ...metrics.fidelity import psnr
from ...models.bundle import Bundle
from ...nets.nafnet import NAFNet, NAFNetSpec
from ...nets.unet import UNet, UNetSpec
from ...training.stages.generate import sigma_d_of


class Grey(nn.Module):
    """r(x) = ½: all of the picture is residual."""

    def forward(self, noisy: Tensor) -> Tensor:
        return torch.full_like(noisy, 0.5)


class JointNet(nn.Module):
    """Both networks as one, so that the diffusion loss reaches the reconstruction."""

    def __init__(self, nafnet: NAFNet, generator: UNet, process: ResidualDiffusion) -> None:
        super().__init__()
        self.nafnet, self.generator, self.process = nafnet, generator, process

    def forward(self, noisy: Tensor, clean: Tensor, gamma: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """(d̃_0, the generator's answer to d_t), pictures (N, 3, H, W), γ (N,)."""
        r = self.nafnet(noisy)
        d = clean - r
        # Each batch's own σ_d, as the reconstruction never stands still; outside the gradient, or d would only grow.
        d0 = d / d.detach().square().mean().sqrt()
        return d0, self.generator(self.process.corrupt(d0, gamma, noise), self.generator.condition(noisy, r), gamma)


class Joint:
    """NAFNet and the generator from nothing, by the diffusion loss alone or with a pixel loss on r(x) beside it.

    Both are absolute errors, as in the two stages here (eqs. 4 and 5 with p = 1), in units of σ_d, of equal weight.
    """

    def __init__(self, specs: tuple[NAFNetSpec, UNetSpec], process: ProcessSpec, batches: Batches, supervised: bool):
        self.batches, self.supervised = batches, supervised
        self.process = ResidualDiffusion(process)
        self.net: nn.Module = placed(JointNet(NAFNet(specs[0]), UNet(specs[1]), self.process), batches.device)

    def loss(self, forward: Callable[..., Any], rng: torch.Generator) -> Tensor:
        clean, noisy = self.batches.draw(rng)
        gamma = self.process.spec.schedule.draw(len(clean), rng)
        noise = channels_last(torch.randn(clean.shape, generator=rng, device=clean.device))
        d0, answer = forward(noisy, clean, gamma, noise)
        loss = (answer.float() - self.process.target(d0, gamma, noise)).abs().mean()
        return loss + d0.abs().mean() if self.supervised else loss

    @torch.no_grad()
    def validate(self, net: nn.Module) -> dict[str, float]:
        """PSNR of r(x) at σ = 25 [dB]: what is left of the reconstruction."""
        clean, noisy = self.batches.held_out(16, gaussian(25))
        r: Tensor = net.nafnet(noisy)  # type: ignore[operator]
        return {"psnr_25": float(psnr(r.clamp(0, 1), clean, data_range=1.0).mean())}

    @torch.no_grad()
    def bundle(self, net: JointNet) -> Bundle:
        """The two networks by themselves; σ_d is measured as at the end of a stage 1."""
        process = replace(self.process.spec, sigma_d=sigma_d_of(net.nafnet, self.batches))
        return RnGParts(net.nafnet, net.generator, process=process).bundle()
