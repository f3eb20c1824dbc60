"""The perceptual loss of stage 2, beside the squared error: LPIPS of what the generator restores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..metrics.lpips import LPIPS

PERCEPTUAL_UP_TO = 0.93  # σ of the noisiest level that LPIPS is learned on, where the fullest budget may begin
SHIFT = 16  # [px], the coarsest stride of the networks and of LPIPS's features
# What the reconstruction leaves of LPIPS counts as at least this much: a clean picture's share would have no bound.
LEAST_LEFT = 0.02


@dataclass(frozen=True)
class Perceptual:
    """A weight on the LPIPS of r(x) + σ_d·d̂_0 as a share of r(x)'s own, beside d̃_0's squared error as a share of d̃_0's.

    LPIPS is large where noise is strong. By shares, each crop counts alike; by plain sums, what detail saves at strong
    noise would outweigh the harm that it does to a soft picture, which is small in itself and yet several times what
    the reconstruction had left.

    The squared error's best answer at a noisy level is the mean of all residuals that fit, which has no fine detail;
    few steps hardly bring it back. LPIPS's best answer is one of those residuals, or near to it. A model trained so is
    flattered by LPIPS, most of all with this backbone: judge it by other measures too.
    """

    lpips: LPIPS
    weight: float

    def __call__(self, restored: Tensor, r: Tensor, clean: Tensor, rng: torch.Generator) -> Tensor:
        """(N,), from RGB (N, 3, H, W) each: the restored picture, the reconstruction r(x), the truth.

        Seen from a corner drawn at random, or the network would learn where in its own grid LPIPS looks away.
        """
        y, x = torch.randint(SHIFT, (2,), generator=rng, device=rng.device).tolist()
        truth = self.lpips.features(clean[..., y:, x:])
        distance = self.lpips.distance(self.lpips.features(restored[..., y:, x:]), truth)
        left = self.lpips.distance(self.lpips.features(r[..., y:, x:]), truth)
        return self.weight * distance / left.clamp(min=LEAST_LEFT)
