"""How good a row's pictures are: the same held-out patches, the same noise for every row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checkpoint import Bundle
from ..device import find_precision, placed
from ..diffusion.residual import ResidualDiffusion, sample
from ..metrics.fidelity import psnr
from ..metrics.lpips import LPIPS
from ..stages import channels_last


@dataclass(frozen=True)
class Case:
    """Held-out patches under white noise of one σ (0–255 scale), (N, 3, H, W) each."""

    sigma: int
    clean: Tensor
    noisy: Tensor


@dataclass(frozen=True)
class Score:
    """A row's figures by σ; PSNR and LPIPS of every patch, so that two rows are compared patch by patch."""

    psnr: dict[str, list[float]]  # [dB]
    lpips: dict[str, list[float]]  # empty where its weights are absent
    reconstruction: dict[str, float]  # mean PSNR of r(x) [dB]
    spread: dict[str, float]  # standard deviation of what is generated over that of what is missing, y − r(x)


class LiteralStart(ResidualDiffusion):
    """Algorithm 1 as printed: every budget starts from unit noise, whatever its level."""

    def begin(self, gamma: Tensor, noise: Tensor) -> Tensor:
        return noise


class Networks:
    """A bundle's networks on a device, for batches of patches that share one plan."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle, self.device = bundle, device
        dtype = find_precision(device)
        self.nafnet = placed(deepcopy(bundle.nafnet), device, dtype)
        self.generator = bundle.generator and placed(deepcopy(bundle.generator), device, dtype)

    @torch.inference_mode()
    def reconstruct(self, noisy: Tensor) -> Tensor:
        """r(x), float32."""
        return self.nafnet(noisy)

    @torch.inference_mode()
    def generate(self, noisy: Tensor, r: Tensor, plan: Sequence[float], process: ResidualDiffusion) -> Tensor:
        """gain·σ_d·d̃_0; the noise is the same for every plan and every network."""
        generator = self.generator
        assert generator is not None
        condition = generator.condition(noisy, r)
        rng = torch.Generator(self.device).manual_seed(0)

        def predict(d_t: Tensor, gamma: Tensor) -> Tensor:
            return generator(d_t, condition, gamma).float()

        def draw() -> Tensor:
            return channels_last(torch.randn(r.shape, generator=rng, device=self.device))

        return process.spec.gain * process.spec.sigma_d * sample(process, predict, plan, draw)


def score(
    networks: Networks, generate: Callable[[Case, Tensor], Tensor], cases: Sequence[Case], lpips: LPIPS | None
) -> Score:
    """Of r(x) + generate(case, r(x)), clamped to [0, 1]."""
    found = Score({}, {}, {}, {})
    for case in cases:
        name, clean = str(case.sigma), case.clean
        r = networks.reconstruct(case.noisy)
        d = generate(case, r)
        y = (r + d).clamp(0, 1)
        found.psnr[name] = psnr(y, clean, data_range=1.0).tolist()
        found.reconstruction[name] = float(psnr(r.clamp(0, 1), clean, data_range=1.0).mean())
        found.spread[name] = float(d.std() / (clean - r).std())
        if lpips:
            found.lpips[name] = lpips(y, clean).tolist()
    return found
