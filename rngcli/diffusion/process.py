"""What every diffusion process offers: single steps, with a level for each tile; whoever schedules owns the loop."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Process(Protocol):
    """One step at a time on states (N, C, H, W) float32; levels (N,), so that tiles at different levels share a batch.

    What a level means is the process's own affair; `end` is that of a state without noise. `noisy` is the picture as
    the camera gave it, (N, 3, H, W), for the processes that walk from it; others leave it aside.
    """

    end: float

    @property
    def stochastic(self) -> bool:
        """Whether `step` uses its noise."""

    def corrupt(self, x0: Tensor, level: Tensor, noise: Tensor, noisy: Tensor | None = None, /) -> Tensor:
        """The state at `level` that x0 is hidden in."""

    def target(self, x0: Tensor, level: Tensor, noise: Tensor, noisy: Tensor | None = None, /) -> Tensor:
        """What the network is to answer to that state."""

    def begin(self, level: Tensor, noise: Tensor, noisy: Tensor | None = None, /) -> Tensor:
        """The state that sampling begins with, where x0 is not known."""

    def step(
        self, state: Tensor, answer: Tensor, level: Tensor, after: Tensor, noise: Tensor, noisy: Tensor | None = None, /
    ) -> Tensor:
        """From `level` to the less noisy `after`, by the network's answer; at `end`, what it makes of x0."""


def per_tile(level: Tensor, like: Tensor) -> Tensor:
    """A number for each tile, to be multiplied with its pixels: (N,) -> (N, 1, 1, 1) in the number format of `like`."""
    return level.to(like.dtype)[:, None, None, None]
