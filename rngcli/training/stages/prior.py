"""DiffPIR's prior: the reconstruction's own network learns on at noise of any strength, whose level it is told."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...data.crops import Batches
from ...device import channels_last, placed
from ...metrics.fidelity import psnr
from ...nets.contrast import denoise
from ...nets.nafnet import NAFNet

QUIETEST, NOISIEST = 2 / 255, 510 / 255  # σ that is learned, log-uniform
JUDGED = (5, 25, 50, 100, 255)  # σ on the 0–255 scale


class Prior:
    """White noise, neither clipped nor rounded, on clean photographs; the level is told by contrast alone.

    The loss is each crop's root-mean-square error as a share of what a crop of such noise typically keeps, about √σ:
    the weakest noise would else not count beside the strongest.
    """

    def __init__(self, start: NAFNet, batches: Batches) -> None:
        self.batches = batches
        self.net: nn.Module = placed(NAFNet(start.spec), batches.device)
        self.net.load_state_dict(start.state_dict())

    def loss(self, forward: Callable[..., Any], rng: torch.Generator) -> Tensor:
        clean = self.batches.photographs.train.sample(self.batches.size, rng)
        low, high = math.log(QUIETEST), math.log(NOISIEST)
        sigma = torch.exp(low + (high - low) * torch.rand(len(clean), generator=rng, device=rng.device))
        error = self._denoised(forward, clean, sigma, rng) - clean
        return ((error.square().mean(dim=(1, 2, 3)) + 1e-6) / sigma).sqrt().mean()

    @torch.no_grad()
    def validate(self, net: nn.Module) -> dict[str, float]:
        """PSNR at several σ of the 0–255 scale [dB], on held-out pictures."""
        scores = {}
        for sigma in JUDGED:
            rng = torch.Generator(self.batches.device).manual_seed(0)
            clean = self.batches.photographs.held_out.sample(16, rng)
            levels = torch.full((len(clean),), sigma / 255, device=clean.device)
            restored = self._denoised(net, clean, levels, rng).clamp(0, 1)
            scores[f"psnr_{sigma}"] = float(psnr(restored, clean, data_range=1.0).mean())
        return scores

    def _denoised(self, net: Callable[..., Any], clean: Tensor, sigma: Tensor, rng: torch.Generator) -> Tensor:
        noise = torch.randn(clean.shape, generator=rng, device=clean.device)
        state = channels_last(clean + sigma[:, None, None, None] * noise)
        return denoise(lambda z: net(z).float(), state, sigma)
