"""RDDM's walk: the reconstruction's own network learns on from what it is shown while it walks (Liu et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...data.crops import Batches
from ...device import channels_last, find_precision, placed, replica
from ...diffusion.rddm import RDDMSpec, ResidualDenoisingDiffusion
from ...methods.rddm import STEPS, before_the_last, walked
from ...metrics.fidelity import psnr
from ...nets.nafnet import NAFNet
from ..perceptual import Perceptual

# What is left of the residual at the end of the walk is little, and so is its error: each level counts by its share.
LEAST_LEFT = 0.1
# With LPIPS, the share of batches that the network has walked by itself to the last level, where its answer is the
# result. LPIPS counts there alone: answers on the way only decide what the next is shown, and looks that each of them
# adds pile up (learned at all levels, the whole walk lost 1.5 dB and gained no LPIPS).
WALKED = 0.5


class Walk:
    """From I_t = I_0 + ᾱ·I_res, at any level, the network answers Î_0; one view, without noise of its own.

    It starts as `nafnet`, which stays what the walk sets out from. The loss is the absolute error, as a share of the
    residual that is left; with `perceptual`, LPIPS beside it at the walk's end, as a share of the reconstruction's.
    """

    def __init__(self, nafnet: NAFNet, start: NAFNet, batches: Batches, perceptual: Perceptual | None = None) -> None:
        self.batches, self.perceptual = batches, perceptual
        self.process = ResidualDenoisingDiffusion(RDDMSpec())
        self.nafnet = replica(nafnet, batches.device, find_precision(batches.device))
        self.net: nn.Module = placed(NAFNet(start.spec), batches.device)
        self.net.load_state_dict(start.state_dict())

    def loss(self, forward: Callable[..., Any], rng: torch.Generator) -> Tensor:
        clean, noisy = self.batches.draw(rng)
        if self.perceptual and float(torch.rand(1, generator=rng, device=rng.device)) < WALKED:
            return self._loss_at_the_end(forward, clean, noisy, rng)
        level = torch.rand(len(clean), generator=rng, device=rng.device)
        state = self.process.corrupt(clean, level, torch.zeros_like(clean), noisy)
        return self._error(forward(channels_last(state)).float(), clean, level).mean()

    def _loss_at_the_end(
        self, forward: Callable[..., Any], clean: Tensor, noisy: Tensor, rng: torch.Generator
    ) -> Tensor:
        """Of the answer after the network's own walk to the last level: what the walk comes to."""
        assert self.perceptual
        r = self._reconstruct(noisy)
        with torch.no_grad():
            state, level = before_the_last(self.process, lambda x: forward(channels_last(x)), noisy, r, STEPS)
        answer = forward(channels_last(state)).float()
        return (self._error(answer, clean, level) + self.perceptual(answer, r, clean, rng)).mean()

    def _error(self, answer: Tensor, clean: Tensor, level: Tensor) -> Tensor:
        return (answer - clean).abs().mean(dim=(1, 2, 3)) / (level + LEAST_LEFT)

    @torch.no_grad()
    def validate(self, net: nn.Module) -> dict[str, float]:
        """After the whole walk: PSNR and its change by the walk [dB]; LPIPS over the reconstruction's, if learned."""
        scores: dict[str, float] = {}
        for name, (clean, noisy) in self.batches.examples(16).items():
            r = self._reconstruct(noisy)
            restored = walked(self.process, net, noisy, r, STEPS).clamp(0, 1)
            before, after = (float(psnr(p, clean, data_range=1.0).mean()) for p in (r.clamp(0, 1), restored))
            scores |= {f"psnr_{name}": after, f"dpsnr_{name}": after - before}
            if self.perceptual:
                distance = self.perceptual.lpips
                scores[f"lpips_{name}"] = float(distance(restored, clean).mean() / distance(r, clean).mean())
        return scores

    @torch.no_grad()
    def samples(self, net: nn.Module) -> Tensor:
        """x, r(x), the walk's end and y beside one another."""
        rows = []
        for y, x in self.batches.examples(2).values():
            r = self._reconstruct(x)
            rows.append(torch.stack([x, r, walked(self.process, net, x, r, STEPS), y], dim=1))
        return torch.cat(rows)

    def _reconstruct(self, noisy: Tensor) -> Tensor:
        with torch.inference_mode():
            r = self.nafnet(noisy)
        return r.clone()  # a normal tensor again, so that autograd may save it
