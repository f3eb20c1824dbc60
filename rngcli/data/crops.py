"""What training is fed with: crops of photographs made noisy, and of real pairs; fresh ones, and held-out ones."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..device import channels_last
from .degrade import DegradeSpec, degrade, only
from .photographs import Photographs


@dataclass
class Batches:
    """Where a stage's batches come from: photographs, how many crops at a time, how they are degraded; real pairs."""

    photographs: Photographs
    size: int = 16
    noise: DegradeSpec = field(default_factory=DegradeSpec)
    pairs: Photographs | None = None
    pairs_share: float = 0.5  # of a batch, where there are pairs

    @property
    def device(self) -> torch.device:
        return self.photographs.train.device

    @property
    def real(self) -> int:
        """How many crops of a batch come from real pairs."""
        return round(self.pairs_share * self.size) if self.pairs else 0

    def draw(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """(clean y, noisy x), (size, 3, crop, crop) each, fresh: degraded photographs, then real pairs."""
        parts = []
        if self.real < self.size:
            sharp = self.photographs.train.sample(self.size - self.real, rng)
            parts.append(degrade(sharp, self.noise, rng))
        if self.pairs and self.real:
            parts.append(_sides(self.pairs.train.sample(self.real, rng)))
        clean, noisy = (channels_last(torch.cat(side)) for side in zip(*parts, strict=True))
        return clean, noisy

    def held_out(self, n: int, noise: DegradeSpec) -> tuple[Tensor, Tensor]:
        """n fixed pairs from the held-out pictures; the same at every call."""
        rng = torch.Generator(self.device).manual_seed(0)
        clean, noisy = degrade(self.photographs.held_out.sample(n, rng), noise, rng)
        return channels_last(clean), channels_last(noisy)

    def held_out_pairs(self, n: int) -> tuple[Tensor, Tensor] | None:
        """n fixed crops (clean, noisy) of the held-out real pairs, if there are any."""
        if not self.pairs:
            return None
        clean, noisy = _sides(self.pairs.held_out.sample(n, torch.Generator(self.device).manual_seed(0)))
        return channels_last(clean), channels_last(noisy)

    def examples(self, n: int) -> dict[str, tuple[Tensor, Tensor]]:
        """n held-out crops (clean, noisy) of each kind, and of real "pairs" where there are any.

        White noise of σ = "25" and "50", and the same in 8-bit files; "camera"; "soft" pictures by a camera; "grey"
        ones; `WIDER`.
        """
        kinds = {"25": gaussian(25), "50": gaussian(50), "camera": CAMERA, "soft": SOFT}
        kinds |= {f"{sigma}_8bit": gaussian(sigma, clipped=1) for sigma in (25, 50)}
        kinds |= {kind: only(kind) for kind in WIDER} | {"grey": GREY}
        found = {name: self.held_out(n, noise) for name, noise in kinds.items()}
        real = self.held_out_pairs(n)
        return found | {"pairs": real} if real else found


def _sides(pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Noisy and clean in six channels (N, 6, H, W) -> (clean, noisy)."""
    noisy, clean = pairs.chunk(2, dim=1)
    return clean, noisy


def gaussian(sigma: float, clipped: float = 0.0) -> DegradeSpec:
    """White noise of one σ (0–255 scale) on sharp pictures, a share of them clipped and rounded to 8 bits."""
    return only("awgn", sigma=(sigma, sigma), clipped_share=clipped)


CAMERA = only("camera")
SOFT = only("camera", blur_share=(1.0, 1.0))
GREY = only("awgn", sigma=(10.0, 50.0), clipped_share=1.0, grey_share=1.0)
WIDER = ("night", "film", "coarse", "jpeg", "bands")
