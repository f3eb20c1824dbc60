"""DiffPIR: half-quadratic splitting between a denoiser and a measurement, along a falling noise (Zhu et al. 2023).

The state is z = y + σ·ε, with everything on the [0, 1] scale. The paper's x_t is √γ·(2z − 1) with its noise
√((1 − γ)/γ) = 2σ; its authors' code mixes the two scales, so that their λ is four times this one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ModelError
from .process import per_tile


@dataclass(frozen=True)
class HQSSpec:
    """How much the denoiser is believed, how stochastic the steps are, and between which noises they walk."""

    trust: float = 1.0  # λ: the denoiser's answer at σ has the variance σ²/λ
    zeta: float = 1.0  # ζ: share of fresh noise in each step; 0: deterministic
    start: float = 1.0  # σ of the first level
    last: float = 0.02  # σ of the last level, from which the step goes to 0

    def __post_init__(self) -> None:
        if not (self.trust > 0 and 0 <= self.zeta <= 1 and 0 < self.last <= self.start):
            raise ModelError(f"impossible process {self}", "need λ > 0, ζ in [0, 1] and 0 < last ≤ start")


class HalfQuadraticSplitting:
    """One step at a time; the level is σ, (N,), and 0 is the clean picture. Tensors are (N, 3, H, W).

    Between the denoiser's answer and the step comes the data step of an operator (`Operator.meet`) with the answer's
    `variance`: argmin_x ‖pixels − H·x‖²/σ_n² + λ‖x − ŷ‖²/σ² in closed form.
    """

    end = 0.0

    def __init__(self, spec: HQSSpec) -> None:
        self.spec = spec

    def levels(self, evaluations: int) -> tuple[float, ...]:
        """Levels to visit, noisiest first, evenly spaced in log σ from `start` to `last`; one where these are equal."""
        if self.spec.last == self.spec.start:
            evaluations = min(evaluations, 1)
        ratio = (self.spec.last / self.spec.start) ** (1 / max(evaluations - 1, 1))
        return tuple(self.spec.start * ratio**i for i in range(evaluations))

    def corrupt(self, x0: Tensor, level: Tensor, noise: Tensor, noisy: Tensor | None = None, /) -> Tensor:
        """z = x_0 + σ·ε."""
        return x0 + per_tile(level, x0) * noise

    def target(self, x0: Tensor, level: Tensor, noise: Tensor, noisy: Tensor | None = None, /) -> Tensor:
        """The denoiser answers the clean picture."""
        return x0

    def begin(self, level: Tensor, noise: Tensor, noisy: Tensor | None = None, /) -> Tensor:
        """The first picture that an operator makes of the measurement, partly noised."""
        return self.corrupt(torch.full_like(noise, 0.5) if noisy is None else noisy, level, noise)

    def variance(self, level: Tensor) -> Tensor:
        """v = σ²/λ, (N,): how far the denoiser's answer may be drawn away; σ_n²/v is the paper's ρ."""
        return level.square() / self.spec.trust

    def step(
        self, state: Tensor, answer: Tensor, level: Tensor, after: Tensor, noise: Tensor, noisy: Tensor | None = None, /
    ) -> Tensor:
        """z' = x̂_0 + σ'·(√(1 − ζ)·(z − x̂_0)/σ + √ζ·ε) with the answer as x̂_0; to `end`, x̂_0 itself."""
        direction = (state - answer) / per_tile(level, state)
        zeta = self.spec.zeta
        return answer + per_tile(after, state) * ((1 - zeta) ** 0.5 * direction + zeta**0.5 * noise)
