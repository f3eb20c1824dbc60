"""Noise schedules: the training table γ_t in float64, and the few levels that inference visits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ModelError


@dataclass(frozen=True)
class ScheduleSpec:
    """The training process: T steps, 1 − α_t linear between two endpoints (paper §4, training details)."""

    steps: int = 2000
    first: float = 1e-6
    last: float = 1e-2
    noisiest: int = 2000  # training draws steps from `quietest` …
    quietest: int = 1
    crowding: float = 1.0  # … to `noisiest`, evenly, or with 2.0 more of the quiet ones: t ∝ u**crowding

    def __post_init__(self) -> None:
        if not (0 < self.first <= self.last < 1 and 1 <= self.quietest <= self.noisiest <= self.steps):
            raise ModelError(f"impossible noise schedule {self}", "the endpoints must lie in (0, 1)")

    def gammas(self) -> Tensor:
        """γ_0 = 1, γ_t = Π_{i ≤ t} α_i for t = 1 … T; (T + 1,) float64, falling."""
        alphas = 1 - torch.linspace(self.first, self.last, self.steps, dtype=torch.float64)
        return torch.cat([torch.ones(1, dtype=torch.float64), alphas.cumprod(0)])

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """(N,) float32 levels γ: a step t at random, then √γ uniform between √γ_t and √γ_{t−1} (WaveGrad; SR3)."""
        roots = self.gammas().sqrt().to(rng.device, torch.float32)
        u = torch.rand(n, generator=rng, device=rng.device) ** self.crowding
        t = (self.quietest + u * (self.noisiest - self.quietest + 1)).long().clamp(max=self.noisiest)
        low, high = roots[t], roots[t - 1]
        root = low + (high - low) * torch.rand(n, generator=rng, device=rng.device)
        return root.square().clamp(1e-6, 1 - 1e-6)


def gamma_of(sigma: float) -> float:
    """γ of the level whose noise has σ times the signal's scale: σ² = (1 − γ)/γ."""
    return 1 / (1 + sigma * sigma)


def sigma_of(gamma: float) -> float:
    """Inverse of `gamma_of`."""
    return math.sqrt((1 - gamma) / gamma)


@dataclass(frozen=True)
class Budget:
    """One class of the step controller: from how far in the noise to start, and in how many evaluations to return.

    `start` is σ = √((1 − γ)/γ) of the first level, in units of the residual's standard deviation.
    """

    start: float
    evaluations: int

    def __post_init__(self) -> None:
        if not (0 < self.start < math.inf and self.evaluations >= 0):
            raise ModelError(f"impossible budget {self}", "its start must be positive, its evaluations 0 or more")

    def plan(self, last: float, most: int) -> tuple[float, ...]:
        """Levels γ to visit, noisiest first: at most `most`, evenly spaced in log σ from `start` down to `last`.

        The step after the last level goes to γ = 1. An empty plan leaves the reconstruction as it is.
        """
        n = min(self.evaluations, most)
        if n == 0:
            return ()
        if n == 1 or self.start <= last:
            return (gamma_of(self.start),)
        ratio = (last / self.start) ** (1 / (n - 1))
        return tuple(gamma_of(self.start * ratio**i) for i in range(n))


def linear_plan(spec: ScheduleSpec, steps: int, budget: int) -> tuple[float, ...]:
    """The paper's own plan: the last `budget` steps of a schedule of `steps`, 1 − α linear over it (Algorithm 1).

    The re-spaced schedule keeps the training schedule's γ_T, so that the two ends mean the same.
    """
    total = -float(spec.gammas()[-1].log())
    weights = torch.linspace(spec.first, spec.last, steps, dtype=torch.float64)
    gammas = torch.exp(-total * weights.cumsum(0) / weights.sum())
    return tuple(gammas[:budget].flip(0).tolist())
