"""One training loop for every stage, on any number of ranks: resumable, bounded, with an average of the weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from ..atomic import remove_parts, whole
from ..device import bfloat16_pays, keep_freed_memory, tensors_kept
from ..errors import Diverged, EnvironmentFault, ModelError
from ..signals import Interruption
from .compile_fallback import Forward
from .distributed import Ranks
from .ema import update_average
from .optim import optimisers
from .spec import TrainSpec
from .stage import Illustrated, Progress, Stage, draw


def step_generator(seed: int, step: int, batch: int, device: torch.device) -> torch.Generator:
    """Randomness belongs to the step: a resumed run draws what the unbroken one would have drawn.

    `batch` counts through the ranks, so that two ranks draw what one draws that accumulates two batches.
    """
    key = (seed * 1_000_003 + step) * 64 + batch % 64 + batch // 64 * 2_654_435_761
    return torch.Generator(device).manual_seed(key & (2**63 - 1))


DAMAGED = "remove it to begin the stage anew, or give another --run"


class Trainer:
    """Optimisers, average and clock of one run; its whole state is one file."""

    def __init__(
        self,
        stage: Stage,
        spec: TrainSpec,
        folder: Path,
        ranks: Ranks | None = None,
        interruption: Interruption | None = None,
    ) -> None:
        self.stage, self.spec, self.folder = stage, spec, folder
        self.ranks, self.interruption = ranks or Ranks(), interruption or Interruption()
        self.device = next(stage.net.parameters()).device
        self.average = deepcopy(stage.net).eval().requires_grad_(False)
        self.forward = Forward(stage.net, self.device, spec.compile)
        keep_freed_memory()
        self._parallel: nn.Module = self.forward  # what the ranks train together, once a run begins
        self.tell: Callable[[str], None] = lambda line: None
        self.optimisers = optimisers(stage.net, spec.optimiser, spec.lr, spec.weight_decay)
        self.step, self.minutes = 0, 0.0
        self.scores: dict[str, float] = {}  # of the last checkpoint
        self._whole = True  # whether the state is one between two steps
        self._saved_at, self._cost = time.monotonic(), 0.0  # [s] of the last checkpoint
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentFault(f"{folder} cannot be made ({error.strerror})", "give another --run") from error

    # --- state -------------------------------------------------------------------------------------------------

    @property
    def state_file(self) -> Path:
        return self.folder / "state.pt"

    def resume(self) -> bool:
        """Continue where the run in `folder` stopped; False where there is none.

        Raises ModelError where its state is damaged, or another network's.
        """
        if not self.state_file.exists():
            return False
        state = self._state_of_before()
        try:
            self.stage.net.load_state_dict(state["net"])
            self.average.load_state_dict(state["average"])
            for optimiser, its in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(its)
            self.step, self.minutes = state["step"], state["minutes"]
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            remedy = "give the --size and --optimiser that it was begun with, or another --run"
            raise ModelError(f"{self.state_file} is no state of this network", remedy) from error
        return True

    def _state_of_before(self) -> dict[str, Any]:
        try:
            state = torch.load(self.state_file, map_location=self.device, weights_only=True)
            if isinstance(state, dict):
                return state
        except (RuntimeError, ValueError, KeyError, EOFError, UnpicklingError) as error:
            raise ModelError(f"{self.state_file} is damaged ({type(error).__name__})", DAMAGED) from error
        raise ModelError(f"{self.state_file} is damaged: it holds no state", DAMAGED)

    def save(self) -> None:
        """Write the state whole or not at all; rank 0 alone, since all ranks hold the same."""
        if not self.ranks.first:
            return
        state = {
            "net": self.stage.net.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
            "minutes": self.minutes,
        }
        with whole(self.state_file) as part, part.open("wb") as file:
            torch.save(state, file)

    # --- one step ----------------------------------------------------------------------------------------------

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16) if bfloat16_pays(self.device) else nullcontext()

    def train_step(self) -> float:
        """One optimiser step; returns its loss, the mean over its batches on all ranks."""
        lr = self.spec.learning_rate(self.step, self.minutes)
        for group in (group for optimiser in self.optimisers for group in optimiser.param_groups):
            group["lr"] = lr
        self.stage.net.train()
        loss, norm = self._gradient()
        # Perhaps the compiler's fault; on all ranks alike, since they share losses and gradients.
        while not math.isfinite(loss + norm) and (way := self.forward.next_way()):
            self.tell(f"step {self.step} gave no finite numbers; tried again with {way}")
            loss, norm = self._gradient()
        for name, value in (("loss", loss), ("gradient", norm)):
            if not math.isfinite(value):
                raise Diverged(f"the {name} became {value} at step {self.step}", "lower --lr, and run it again")
        self._whole = False
        for optimiser in self.optimisers:
            optimiser.step()
        update_average(self.average, self.stage.net, self.step, self.spec.ema)
        self.step += 1
        self._whole = True
        return loss

    def _gradient(self) -> tuple[float, float]:
        """The step's mean loss, and the norm of its gradient before it is clipped."""
        self.stage.net.zero_grad(set_to_none=True)
        with tensors_kept():
            loss = self._backward()
        return loss, float(nn.utils.clip_grad_norm_(self.stage.net.parameters(), self.spec.clip))

    def _backward(self) -> float:
        """The gradients of the step's batches, averaged over the ranks; returns the mean loss of all."""
        total = 0.0
        for batch in range(self.spec.accumulate):
            last = batch == self.spec.accumulate - 1  # whose backward pass averages what all have added up
            with self.ranks.together(), nullcontext() if last else self.ranks.alone(self._parallel):
                total += self._backward_of(batch)
        return self.ranks.mean(total)  # so a rank whose loss is no number stops them all

    def _backward_of(self, batch: int) -> float:
        """Add the gradients of one batch of this rank; returns its part of the mean loss."""
        number = self.ranks.rank * self.spec.accumulate + batch
        rng = step_generator(self.spec.seed, self.step, number, self.device)
        torch.manual_seed(rng.initial_seed())  # for what a network draws itself, as dropout does
        with self._autocast():
            loss = self.stage.loss(self._parallel, rng) / self.spec.accumulate
        loss.backward()
        return loss.item()

    # --- the run -----------------------------------------------------------------------------------------------

    def run(self, watch: Callable[[float], None] | None = None) -> Generator[Progress, None, None]:
        """Train to the end of the spec; rank 0 yields at each checkpoint, and once at the end.

        Saved also at a failure, but for one of the numbers: then the last checkpoint is what the run goes on from.

        `watch` is told each step's loss. A signal that `interruption` has held back ends it with KeyboardInterrupt, on
        every rank.
        """
        losses: list[float] = []
        self._begin_alike()
        try:
            while True:
                with self.interruption.held():
                    if not self._goes_on():
                        break
                    start = time.monotonic()
                    losses.append(self.train_step())
                    self.minutes += (time.monotonic() - start) / 60
                if watch:
                    watch(losses[-1])
                if self._is_due():
                    yield self._checkpoint(losses)
                    losses = []
            if self.ranks.first:
                yield self._checkpoint(losses)
        except Diverged:  # the weights of now would meet the same number again: those of the last checkpoint stay
            raise
        except BaseException:  # Ctrl-C, and whoever no longer listens, too
            if self._whole:
                self.save()
            raise

    def _begin_alike(self) -> None:
        (step,) = self.ranks.broadcast(self.step)
        if step != self.step:
            cause = f"rank {self.ranks.rank} is at step {self.step}, but rank 0 at step {step:.0f}"
            raise EnvironmentFault(cause, "put --run where all machines see it")
        self._parallel = self.ranks.parallel(self.forward)
        self.ranks.copy_rank0([*self.average.parameters(), *self.average.buffers()])
        if self.ranks.first:
            remove_parts(self.folder)
        self._saved_at = time.monotonic()

    def _goes_on(self) -> bool:
        """Whether another step is due: by rank 0's clock, and unless rank 0 was asked to stop."""
        self.minutes, asked = self.ranks.broadcast(self.minutes, float(self.interruption.asked))
        if asked:
            raise KeyboardInterrupt
        return self.spec.progress(self.step, self.minutes) < 1

    def _is_due(self) -> bool:
        """Whether a checkpoint is; never where the run is about to end, which has one of its own."""
        ends = self.interruption.asked or self.spec.progress(self.step, self.minutes) >= 1
        wait = max(60 * self.spec.save_minutes, self._cost / self.spec.overhead)
        return self.ranks.first and not ends and time.monotonic() - self._saved_at > wait

    def _checkpoint(self, losses: list[float]) -> Progress:
        start = time.monotonic()
        self.save()
        mean = sum(losses) / len(losses) if losses else math.nan
        lr = self.spec.learning_rate(self.step, self.minutes)
        self.scores = self.stage.validate(self.average)
        progress = Progress(self.step, self.minutes, mean, lr, self.scores)
        if losses:  # a run that was at its end already has that line
            progress.append_to(self.folder / "log.jsonl")
        if isinstance(self.stage, Illustrated):
            draw(self.stage.samples(self.average), self.folder / "samples" / f"{self.step:07}.png")
        self._saved_at = time.monotonic()
        self._cost = self._saved_at - start
        return progress
