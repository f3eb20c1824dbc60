"""RDDM: from the clean picture to the one that was seen, along its residual and along noise (Liu et al. 2024).

I_t = I_0 + ᾱ_t·I_res + β̄_t·ε with I_res = I_in − I_0. The residual carries what is certain, the noise what may vary;
each has a schedule of its own. I_in = 0 is plain generation, and then this is DDPM and DDIM (`from_ddpm`).

Pictures are in [0, 1] here, where the paper's are in [−1, 1]: β̄ is half and β̄² a quarter of the paper's, and nothing
is clamped: a residual spans [−1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ModelError
from .process import per_tile

CHANNELS = {"residual": 3, "noise": 3, "both": 6}  # what the network answers, by what it predicts


@dataclass(frozen=True)
class Ramp:
    """A sum of steps that grows from 0 at u = `first` to 1 at u = `last`: steps ∝ x^power, or (1 − x)^power if falling.

    These are the paper's P(x, a) and P(1 − x, a), in the limit of many steps; power 0 is its "average".
    """

    power: float = 0.0
    falling: bool = False
    first: float = 0.0
    last: float = 1.0

    def __post_init__(self) -> None:
        if self.power < 0 or not 0 <= self.first < self.last <= 1:
            raise ModelError(f"impossible schedule {self}", "need power ≥ 0 and 0 ≤ first < last ≤ 1")

    def __call__(self, u: Tensor) -> Tensor:
        x = ((u - self.first) / (self.last - self.first)).clamp(0, 1)
        return 1 - (1 - x) ** (self.power + 1) if self.falling else x ** (self.power + 1)


class Point(NamedTuple):
    """Where on its way a state is: (ᾱ, β̄), each (N, 1, 1, 1)."""

    alpha: Tensor
    beta: Tensor


@dataclass(frozen=True)
class RDDMSpec:
    """The two schedules, what the network predicts, and how stochastic the steps are.

    The default walks along the residual alone. That of the paper's restoration is
    RDDMSpec(Ramp(1, falling=True), Ramp(1), variance=0.25).
    """

    residual: Ramp = field(default_factory=Ramp)  # ᾱ
    noise: Ramp = field(default_factory=Ramp)  # β̄² / variance
    variance: float = 0.0  # β̄_T², the noise where the walk ends; the paper's s (`sum_scale`) is four times it
    prediction: str = "residual"  # "residual", "noise", or "both": six channels, the residual first
    eta: float = 0.0  # share of the posterior's variance in each step; 0: deterministic, 1: ancestral
    start: float = 1.0  # u of the first level

    def __post_init__(self) -> None:
        if self.prediction not in CHANNELS or self.variance < 0 or not 0 <= self.eta <= 1 or not 0 < self.start <= 1:
            raise ModelError(f"impossible process {self}", f"prediction is one of {', '.join(CHANNELS)}")
        if self.prediction == "noise" and (self.variance == 0 or self.residual(torch.tensor(self.start)) == 1):
            cause = "noise alone tells nothing of the picture where there is none, or where ᾱ = 1"
            raise ModelError(cause, "give variance > 0 and start < 1, or predict the residual")


class ResidualDenoisingDiffusion:
    """One step at a time; the level is u = t/T in [0, 1], (N,), and 0 is the clean picture.

    States, noise and pictures are (N, 3, H, W); `noisy` is I_in, and 0 where there is none.
    """

    end = 0.0

    def __init__(self, spec: RDDMSpec) -> None:
        self.spec = spec

    def levels(self, evaluations: int) -> tuple[float, ...]:
        """Levels to visit, noisiest first, evenly spaced from `start`; the last step goes to `end`."""
        return tuple(self.spec.start * (1 - i / evaluations) for i in range(evaluations))

    def at(self, level: Tensor, like: Tensor) -> Point:
        """ᾱ and β̄ of levels (N,), in the number format of `like`."""
        u = per_tile(level, like)
        return Point(self.spec.residual(u), (self.spec.variance * self.spec.noise(u)).sqrt())

    def corrupt(self, x0: Tensor, level: Tensor, noise: Tensor, noisy: Tensor | None = None, /) -> Tensor:
        """I_t = I_0 + ᾱ_t·I_res + β̄_t·ε."""
        alpha, beta = self.at(level, x0)
        return x0 + alpha * (_or_zero(noisy, x0) - x0) + beta * noise

    def target(self, x0: Tensor, level: Tensor, noise: Tensor, noisy: Tensor | None = None, /) -> Tensor:
        """What the network learns: I_res, ε, or both, one after the other."""
        if self.spec.prediction == "noise":
            return noise
        residual = _or_zero(noisy, x0) - x0
        return residual if self.spec.prediction == "residual" else torch.cat([residual, noise], dim=1)

    def begin(self, level: Tensor, noise: Tensor, noisy: Tensor | None = None, /) -> Tensor:
        """I_T = I_in + β̄_T·ε."""
        return _or_zero(noisy, noise) + self.at(level, noise).beta * noise

    def estimate(self, state: Tensor, answer: Tensor, level: Tensor, noisy: Tensor) -> tuple[Tensor, Tensor]:
        """(Î_0, Î_res) from the network's answer."""
        alpha, beta = self.at(level, state)
        if self.spec.prediction == "both":
            residual, noise = answer.chunk(2, dim=1)
            return state - alpha * residual - beta * noise, residual
        if self.spec.prediction == "noise":
            answer = noisy - (state - alpha * noisy - beta * answer) / (1 - alpha)
        return noisy - answer, answer

    def step(
        self, state: Tensor, answer: Tensor, level: Tensor, after: Tensor, noise: Tensor, noisy: Tensor | None = None, /
    ) -> Tensor:
        """From `level` to the lower `after`; at `end` this is Î_0."""
        start, residual = self.estimate(state, answer, level, _or_zero(noisy, state))
        return walk(state, start, residual, (self.at(level, state), self.at(after, state)), self.spec.eta, noise)


def walk(
    state: Tensor, start: Tensor, residual: Tensor, points: tuple[Point, Point], eta: float, noise: Tensor
) -> Tensor:
    """From one point to the next, on whatever path: I_t' = I_t − (ᾱ − ᾱ')Î_res − (β̄ − √(β̄'² − σ²))ε̂ + σ·z.

    σ² = η·(β̄² − β̄'²)·β̄'²/β̄²; η = 1 is the ancestral step. β̄·ε̂ is what Î_0 and ᾱ·Î_res leave of the state. Where
    there is no noise it belongs to the residual and shrinks with ᾱ: I_t' = Î_0 + (ᾱ'/ᾱ)(I_t − Î_0) if I_in − Î_0 is
    the residual.
    """
    (alpha, beta), (alpha_after, beta_after) = points
    left = _ratio(beta_after, beta).square()
    variance = eta * (beta.square() - beta_after.square()) * left
    kept = (left - _ratio(variance, beta.square())).clamp(min=0).sqrt()
    rest = torch.where(beta > 0, kept, _ratio(alpha_after, alpha)) * (state - start - alpha * residual)
    return start + alpha_after * residual + rest + variance.clamp(min=0).sqrt() * noise


def from_ddpm(gamma: Tensor) -> Point:
    """The point that x_t = √γ·x_0 + √(1 − γ)·ε is, with I_in = 0: ᾱ = 1 − √γ, β̄ = √(1 − γ)."""
    return Point(1 - gamma.sqrt(), (1 - gamma).sqrt())


def to_ddpm(point: Point) -> tuple[Tensor, Tensor]:
    """(γ, scale): scale·(I_t − ᾱ·I_in) is DDPM's x_t at γ. The scale is 1 where (1 − ᾱ)² + β̄² = 1."""
    signal = (1 - point.alpha).square()
    power = signal + point.beta.square()
    return signal / power, power.rsqrt()


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part/whole, and 0 where the whole is 0."""
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, 1), 0)


def _or_zero(noisy: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if noisy is None else noisy
