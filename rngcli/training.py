"""One training loop for every stage: resumable, bounded by steps or minutes, with an average of the weights."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .device import bfloat16_pays
from .errors import RngError, UsageError


@dataclass(frozen=True)
class TrainSpec:
    """How long and how fast; what is trained, and on what, is the task's business."""

    steps: int | None = None  # stop after so many optimiser steps …
    minutes: float | None = None  # … or after so much training time, whichever is given
    lr: float = 1e-3
    weight_decay: float = 1e-4
    ema: float = 0.999
    clip: float = 1.0  # gradient norm
    warmup: int = 100  # [steps]
    accumulate: int = 1  # batches per optimiser step
    seed: int = 0
    compile: bool = False
    save_minutes: float = 4.0  # between checkpoints, each with a validation

    def progress(self, step: int, minutes: float) -> float:
        """The share of the run that is over, in [0, 1]."""
        shares = [step / self.steps if self.steps else 0.0, minutes / self.minutes if self.minutes else 0.0]
        return min(1.0, max(shares))

    def learning_rate(self, step: int, minutes: float) -> float:
        """Linear warm-up, then half a cosine that reaches zero when the steps or the minutes are spent."""
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress(step, minutes)))
        return self.lr * cosine * min(1.0, (step + 1) / self.warmup)


class Task(Protocol):
    """What a stage brings: a network, a loss on a fresh random batch, a score."""

    net: nn.Module

    def loss(self, forward: Callable[..., Any], rng: torch.Generator) -> Tensor:
        """The loss of one batch drawn with `rng`; `forward` is the network, perhaps compiled."""

    def validate(self, net: nn.Module) -> dict[str, float]:
        """Scores of the averaged network on held-out pictures."""


@dataclass
class Progress:
    """Where a run stands; one line of log.jsonl."""

    step: int
    minutes: float
    loss: float
    lr: float
    scores: dict[str, float]


def step_generator(seed: int, step: int, batch: int, device: torch.device) -> torch.Generator:
    """Randomness belongs to the step: a resumed run draws what the unbroken one would have drawn."""
    return torch.Generator(device).manual_seed(((seed * 1_000_003 + step) * 64 + batch) & (2**63 - 1))


class Trainer:
    """Optimiser, average and clock of one run; its whole state is one file."""

    def __init__(self, task: Task, spec: TrainSpec, folder: Path) -> None:
        if spec.steps is None and spec.minutes is None:
            raise UsageError("training needs an end", "give --steps or --minutes")
        self.task, self.spec, self.folder = task, spec, folder
        self.device = next(task.net.parameters()).device
        self.average = deepcopy(task.net).eval().requires_grad_(False)
        self.forward: Callable[..., Any] = torch.compile(task.net) if spec.compile else task.net
        self.optimiser = torch.optim.AdamW(
            task.net.parameters(), lr=spec.lr, betas=(0.9, 0.99), weight_decay=spec.weight_decay, fused=True
        )
        self.step, self.minutes = 0, 0.0
        folder.mkdir(parents=True, exist_ok=True)

    # --- state -------------------------------------------------------------------------------------------------

    @property
    def state_file(self) -> Path:
        return self.folder / "state.pt"

    def resume(self) -> bool:
        """Continue where the run in `folder` stopped; False where there is none."""
        if not self.state_file.exists():
            return False
        state = torch.load(self.state_file, map_location=self.device, weights_only=True)
        self.task.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.minutes = state["step"], state["minutes"]
        return True

    def save(self) -> None:
        """Write the state whole or not at all."""
        state = {
            "net": self.task.net.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "minutes": self.minutes,
        }
        part = self.state_file.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self.state_file)

    # --- one step ----------------------------------------------------------------------------------------------

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16) if bfloat16_pays(self.device) else nullcontext()

    def train_step(self) -> float:
        """One optimiser step; returns its loss."""
        lr = self.spec.learning_rate(self.step, self.minutes)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.task.net.train()
        total = 0.0
        for batch in range(self.spec.accumulate):
            rng = step_generator(self.spec.seed, self.step, batch, self.device)
            with self._autocast():
                loss = self.task.loss(self.forward, rng) / self.spec.accumulate
            loss.backward()
            total += loss.item()
        if not math.isfinite(total):
            raise RngError(f"the loss became {total} at step {self.step}", "lower --lr and resume from the last state")
        nn.utils.clip_grad_norm_(self.task.net.parameters(), self.spec.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self._follow()
        self.step += 1
        return total

    @torch.no_grad()
    def _follow(self) -> None:
        """Exponential moving average of the weights, quick at first so that the random start is forgotten."""
        decay = min(self.spec.ema, (1 + self.step) / (10 + self.step))
        ours: list[Tensor] = list(self.average.parameters())
        theirs: list[Tensor] = list(self.task.net.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - decay)
        for mine, other in zip(self.average.buffers(), self.task.net.buffers(), strict=True):
            mine.copy_(other)

    # --- the run -----------------------------------------------------------------------------------------------

    def run(self) -> Iterator[Progress]:
        """Train to the end of the spec; yields at each checkpoint, and once at the end. Saved also when interrupted."""
        losses: list[float] = []
        last_save = time.monotonic()
        try:
            while self.spec.progress(self.step, self.minutes) < 1:
                start = time.monotonic()
                losses.append(self.train_step())
                self.minutes += (time.monotonic() - start) / 60
                if time.monotonic() - last_save > 60 * self.spec.save_minutes:
                    yield self._checkpoint(losses)
                    losses, last_save = [], time.monotonic()
        finally:
            self.save()
        yield self._checkpoint(losses)

    def _checkpoint(self, losses: list[float]) -> Progress:
        self.save()
        mean = sum(losses) / len(losses) if losses else math.nan
        lr = self.spec.learning_rate(self.step, self.minutes)
        progress = Progress(self.step, self.minutes, mean, lr, self.task.validate(self.average))
        with open(self.folder / "log.jsonl", "a") as log:
            log.write(json.dumps(progress.__dict__) + "\n")
        return progress
