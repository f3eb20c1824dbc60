"""What happened to a picture before we saw it: pixels = H·y + σ_n·ε."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Seen:
    """What a batch of tiles shows.

    pixels (N, 3, H, W) in [0, 1]; valid (N, 1, H, W): 0 in holes and beyond the picture's border, where pixels are its
    reflection, else 1; sigma (N,): σ_n on the [0, 1] scale, NaN where it is not known.
    """

    pixels: Tensor
    valid: Tensor
    sigma: Tensor


class Operator(Protocol):
    """H: linear, and one with which a method can meet the measurement in closed form."""

    scale: int  # pixels of y for each pixel seen, along each side
    margin: int  # [px seen] how far a pixel of y reaches

    def first(self, seen: Seen) -> Tensor:
        """A first picture of y, (N, 3, scale·H, scale·W), that no network has seen yet."""

    def meet(self, y: Tensor, seen: Seen, variance: Tensor) -> Tensor:
        """y drawn to what was seen: y + v·Hᵀ(v·H·Hᵀ + σ_n²)⁻¹[valid·(pixels − H·y)], v (N,) the variance of y."""


class Identity:
    """Nothing but noise was added."""

    scale, margin = 1, 0

    def first(self, seen: Seen) -> Tensor:
        return seen.pixels

    def meet(self, y: Tensor, seen: Seen, variance: Tensor) -> Tensor:
        v, sigma = (part.float()[:, None, None, None] for part in (variance, seen.sigma))
        return y + v / (v + sigma.square()) * seen.valid * (seen.pixels - y)
