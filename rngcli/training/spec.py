"""How long and how fast a stage is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import UsageError

MOST_LR = 1.0


@dataclass(frozen=True)
class TrainSpec:
    """How long and how fast; what is trained, and on what, is the stage's business. Raises UsageError."""

    steps: int | None = None  # stop after so many optimiser steps …
    minutes: float | None = None  # … or after so much training time, whichever is given
    lr: float = 1e-3
    weight_decay: float = 1e-4
    ema: float = 0.999
    clip: float = 1.0  # gradient norm
    warmup: int = 100  # [steps]
    accumulate: int = 1  # batches per optimiser step, on each rank
    seed: int = 0
    optimiser: str = "adamw"
    compile: bool = False  # where the device can
    save_minutes: float = 4.0  # between checkpoints, each with a validation …
    overhead: float = 0.1  # … and longer where these would take more than this share of the time

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise UsageError("training needs an end", "give --steps or --minutes")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise UsageError(f"--minutes {self.minutes:g} is no time to train", "give a number above 0")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"--steps {self.steps} is no number of steps", "give 1 or more")
        if not 0 <= self.lr <= MOST_LR:
            raise UsageError(f"--lr {self.lr:g} is no learning rate", f"give one from 0 to {MOST_LR:g}, such as 0.001")

    def progress(self, step: int, minutes: float) -> float:
        """The share of the run that is over, in [0, 1]."""
        shares = [step / self.steps if self.steps else 0.0, minutes / self.minutes if self.minutes else 0.0]
        return min(1.0, max(shares))

    def learning_rate(self, step: int, minutes: float) -> float:
        """Linear warm-up, then half a cosine that reaches zero when the steps or the minutes are spent."""
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress(step, minutes)))
        return self.lr * cosine * min(1.0, (step + 1) / self.warmup)
