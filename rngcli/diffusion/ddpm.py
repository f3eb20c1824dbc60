"""DDPM without a condition: pictures out of noise, or back out of a little of it (Ho et al. 2020; Karras et al. 2022).

The state is z = x_0 + σ·ε on the [0, 1] scale; DDPM's x_t is √γ·z with γ = 1/(1 + σ²). A picture that is noised to
some σ* and brought back from there keeps its content and takes on the looks of what was learned (SDEdit, Meng et al.
2022; for training pairs, Yang et al. 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ModelError
from .process import per_tile


@dataclass(frozen=True)
class DDPMSpec:
    """Between which noises the process lives, and what the pictures' values are like."""

    quietest: float = 1.5 / 255  # σ of the last level, from which the step goes to 0
    noisiest: float = 80 / 255  # σ of the noisiest level that is learned
    mean: float = 0.5  # of the pictures' values …
    spread: float = 0.25  # … and their standard deviation, the σ_data of Karras et al.

    def __post_init__(self) -> None:
        if not (0 < self.quietest <= self.noisiest and self.spread > 0):
            raise ModelError(f"impossible process {self}", "need 0 < quietest ≤ noisiest and spread > 0")


class DDPM:
    """One step at a time; the level is σ, (N,), and 0 is a picture. Tensors are (N, 3, H, W).

    The network sees `scaled` states and `gamma`, and answers F of D(z) = μ + c_skip·(z − μ) + c_out·F (Karras et al.
    2022, table 1), which has unit variance at every level.
    """

    end = 0.0
    stochastic = True

    def __init__(self, spec: DDPMSpec) -> None:
        self.spec = spec

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """n levels to learn, log-uniform between the quietest and the noisiest."""
        low, high = math.log(self.spec.quietest), math.log(self.spec.noisiest)
        return torch.exp(low + (high - low) * torch.rand(n, generator=rng, device=rng.device))

    def levels(self, start: float, evaluations: int) -> tuple[float, ...]:
        """Levels to visit, noisiest first, evenly spaced in log σ from `start` to the quietest."""
        ratio = (self.spec.quietest / start) ** (1 / max(evaluations - 1, 1))
        return tuple(start * ratio**i for i in range(evaluations))

    def gamma(self, level: Tensor) -> Tensor:
        """What tells the network the level, (N,): the share of the picture in the variance of the state."""
        return 1 / (1 + (level / self.spec.spread).square())

    def scaled(self, state: Tensor, level: Tensor) -> Tensor:
        """The state around 0 with unit variance, as the network sees it."""
        return (state - self.spec.mean) * self._total(level, state).rsqrt()

    def corrupt(self, x0: Tensor, level: Tensor, noise: Tensor, noisy: Tensor | None = None, /) -> Tensor:
        """z = x_0 + σ·ε."""
        return x0 + per_tile(level, x0) * noise

    def target(self, x0: Tensor, level: Tensor, noise: Tensor, noisy: Tensor | None = None, /) -> Tensor:
        """F: x_0 where there is much noise, −ε where there is little."""
        sigma, spread = per_tile(level, x0), self.spec.spread
        return (sigma / spread * (x0 - self.spec.mean) - spread * noise) * self._total(level, x0).rsqrt()

    def begin(self, level: Tensor, noise: Tensor, noisy: Tensor | None = None, /) -> Tensor:
        """A picture that is partly noised; grey where there is none."""
        return self.corrupt(torch.full_like(noise, self.spec.mean) if noisy is None else noisy, level, noise)

    def estimate(self, state: Tensor, answer: Tensor, level: Tensor) -> Tensor:
        """x̂_0 = D(z) from the network's answer."""
        total, spread = self._total(level, state), self.spec.spread
        skipped = spread**2 / total * (state - self.spec.mean)
        return self.spec.mean + skipped + per_tile(level, state) * spread * total.rsqrt() * answer

    def step(
        self, state: Tensor, answer: Tensor, level: Tensor, after: Tensor, noise: Tensor, noisy: Tensor | None = None, /
    ) -> Tensor:
        """The ancestral step: z' = x̂_0 + (σ'/σ)²·(z − x̂_0) + σ'·√(1 − (σ'/σ)²)·ε; to `end`, x̂_0 itself."""
        estimate = self.estimate(state, answer, level)
        ratio = per_tile((after / level).square(), state)
        return estimate + ratio * (state - estimate) + per_tile(after, state) * (1 - ratio).sqrt() * noise

    def _total(self, level: Tensor, like: Tensor) -> Tensor:
        """Variance of the state."""
        return per_tile(level, like).square() + self.spec.spread**2
