"""How good a row's pictures are: the same held-out patches, the same noise for every row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from ...diffusion.residual import ResidualDiffusion
from ...metrics.detail_ratio import spread
from ...metrics.fidelity import psnr
from ...metrics.lpips import LPIPS
from ...training.sampler import Sampler


@dataclass(frozen=True)
class PatchSet:
    """Held-out patches under white noise of one σ (0–255 scale), (N, 3, H, W) each."""

    sigma: int
    clean: Tensor
    noisy: Tensor


@dataclass(frozen=True)
class PatchScores:
    """A row's figures by σ; PSNR and LPIPS of every patch, so that two rows are compared patch by patch."""

    psnr: dict[str, list[float]]  # [dB]
    lpips: dict[str, list[float]]  # empty where its weights are absent
    reconstruction: dict[str, float]  # mean PSNR of r(x) [dB]
    spread: dict[str, float]  # standard deviation of what is generated over that of what is missing, y − r(x)


class LiteralStart(ResidualDiffusion):
    """Algorithm 1 as printed: every budget starts from unit noise, whatever its level."""

    def begin(self, gamma: Tensor, noise: Tensor, noisy: Tensor | None = None) -> Tensor:
        return noise


def score(
    sampler: Sampler, generate: Callable[[PatchSet, Tensor], Tensor], sets: Sequence[PatchSet], lpips: LPIPS | None
) -> PatchScores:
    """Of r(x) + generate(patches, r(x)), clamped to [0, 1]."""
    found = PatchScores({}, {}, {}, {})
    for patches in sets:
        name, clean = str(patches.sigma), patches.clean
        r = sampler.reconstruct(patches.noisy)
        d = generate(patches, r)
        y = (r + d).clamp(0, 1)
        found.psnr[name] = psnr(y, clean, data_range=1.0).tolist()
        found.reconstruction[name] = float(psnr(r.clamp(0, 1), clean, data_range=1.0).mean())
        found.spread[name] = spread(d, clean - r)
        if lpips:
            found.lpips[name] = lpips(y, clean).tolist()
    return found
