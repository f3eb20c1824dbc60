"""RnG's process: DDPM and DDIM on the scaled residual d̃ = (y − r(x))/σ_d (paper §3.1, eqs. 1–3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import ModelError
from .process import Process
from .schedule import ScheduleSpec


@dataclass(frozen=True)
class ProcessSpec:
    """What the generator predicts, at which scale, and how stochastic its steps are."""

    sigma_d: float = 0.03  # standard deviation of y − r(x) on the [0, 1] scale, measured after stage 1
    prediction: str = "v"  # "eps" (paper eq. 2) or "v" (Salimans and Ho 2022)
    eta: float = 0.0  # 0: deterministic (DDIM); 1: the posterior's variance (DDPM)
    last: float = 0.05  # the last level visited, σ in units of σ_d
    gain: float = 1.0  # on the generated residual: few steps of a young generator return less than its true spread
    schedule: ScheduleSpec = field(default_factory=ScheduleSpec)
    begins: str = "fresh"  # "fresh" noise, or the picture's "own", which the reconstruction took away
    agreement: float = 1.0  # correlation of two tiles' residuals where they blend; what averages out is made up for

    def __post_init__(self) -> None:
        if self.prediction not in ("eps", "v") or not self.sigma_d > 0:
            raise ModelError(f"impossible process {self}", 'prediction must be "eps" or "v", sigma_d positive')
        if not (self.last > 0 and 0 <= self.eta <= 1 and self.gain > 0 and 0 < self.agreement <= 1):
            raise ModelError(f"impossible process {self}", "last, gain, agreement above 0, eta from 0 to 1")
        if self.begins not in ("fresh", "own"):
            raise ModelError(f"unknown noise {self.begins!r} to begin with", 'it must be "fresh" or "own"')


def _per_picture(level: Tensor) -> Tensor:
    """(N,) -> (N, 1, 1, 1)."""
    return level.float()[:, None, None, None]


class ResidualDiffusion:
    """One step at a time; every level γ is of shape (N,), so tiles at different levels share a batch.

    d and noise are (N, C, H, W) float32 in units of σ_d; γ in (0, 1], 1 meaning no noise. As a `Process` it takes the
    noisy picture too, and leaves it aside: its state is a residual, which knows of no picture.
    """

    end = 1.0

    def __init__(self, spec: ProcessSpec) -> None:
        self.spec = spec

    @property
    def stochastic(self) -> bool:
        return self.spec.eta > 0

    def corrupt(self, d0: Tensor, gamma: Tensor, noise: Tensor, noisy: Tensor | None = None) -> Tensor:
        """d_t = √γ d_0 + √(1 − γ) ε (eq. 2)."""
        g = _per_picture(gamma)
        return g.sqrt() * d0 + (1 - g).sqrt() * noise

    def target(self, d0: Tensor, gamma: Tensor, noise: Tensor, noisy: Tensor | None = None) -> Tensor:
        """What the network learns: ε, or v = √γ ε − √(1 − γ) d_0."""
        if self.spec.prediction == "eps":
            return noise
        g = _per_picture(gamma)
        return g.sqrt() * noise - (1 - g).sqrt() * d0

    def begin(self, gamma: Tensor, noise: Tensor, noisy: Tensor | None = None) -> Tensor:
        """d_T = √(1 − γ_T) ε.

        Algorithm 1 as printed starts every budget from unit noise, which only fits γ_T ≈ 0; this start has the
        noise that the level says. What it lacks of the residual's own variance is the budget's limit on detail.
        """
        return (1 - _per_picture(gamma)).sqrt() * noise

    def estimate(self, d_t: Tensor, prediction: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """(d̂_0, ε̂) from the network's answer."""
        g = _per_picture(gamma)
        if self.spec.prediction == "eps":
            return (d_t - (1 - g).sqrt() * prediction) / g.sqrt(), prediction
        return g.sqrt() * d_t - (1 - g).sqrt() * prediction, (1 - g).sqrt() * d_t + g.sqrt() * prediction

    def step(
        self,
        d_t: Tensor,
        prediction: Tensor,
        gamma: Tensor,
        gamma_next: Tensor,
        noise: Tensor,
        noisy: Tensor | None = None,
    ) -> Tensor:
        """From level γ to the less noisy γ_next (DDIM eq. 12 with its η; η = 1 is ancestral sampling, eq. 3).

        γ_next = 1 returns d̂_0: the last step is the same formula, not a special case.
        """
        d0, eps = self.estimate(d_t, prediction, gamma)
        g, g_next = _per_picture(gamma), _per_picture(gamma_next)
        variance = self.spec.eta**2 * (1 - g_next) / (1 - g) * (1 - g / g_next)
        direction = (1 - g_next - variance).clamp(min=0).sqrt()
        return g_next.sqrt() * d0 + direction * eps + variance.clamp(min=0).sqrt() * noise


def sample(
    process: Process,
    predict: Callable[[Tensor, Tensor], Tensor],
    plan: Sequence[float],
    draw: Callable[[], Tensor],
    first: Callable[[Tensor], Tensor] = lambda noise: noise,
) -> Tensor:
    """d̂_0 of a whole batch that shares one plan, for training and searches.

    predict(d_t, level) -> network's answer; plan: levels, noisiest first; draw() -> (N, C, H, W) standard normal, asked
    for once where the steps are deterministic, else once more a step; first: what the first of it becomes.
    """
    noise = first(draw())
    levels = [noise.new_full((len(noise),), level) for level in (*plan, process.end)]
    d_t = process.begin(levels[0], noise) if plan else torch.zeros_like(noise)
    for level, after in pairwise(levels):
        noise = draw() if process.stochastic else torch.zeros_like(noise)
        d_t = process.step(d_t, predict(d_t, level), level, after, noise)
    return d_t


def measure_sigma_d(residuals: Tensor) -> float:
    """σ_d: root mean square of residuals (N, 3, H, W), the figure that brings d̃ to unit variance."""
    return float(residuals.double().square().mean().sqrt().to(torch.float32))
