"""What a person sees of a training: on a terminal a line that moves, and everywhere a line a checkpoint."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ..training.trainer import Trainer, TrainSpec


class Follower:
    """Tells one process's part of a training, on stderr; nothing where `quiet`."""

    def __init__(self, quiet: bool = False, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self.quiet = quiet
        self._score = ""

    def say(self, line: str) -> None:
        if not self.quiet:
            self.console.print(line, markup=False)

    def follow(self, trainer: Trainer, crops: int) -> None:
        """Let it run to its end; a step takes `crops` crops on all ranks together."""
        # The run is closed at once, so that what is learned is saved at once.
        with self._line(trainer, crops) as watch, closing(trainer.run(watch)) as run:
            for progress in run:
                scores = [f"{name} {value:.4g}" for name, value in progress.scores.items()]
                self._score = next((score for score in scores if "psnr" in score), "")
                at = f"step {progress.step}  {progress.minutes:.1f} min  loss {progress.loss:.4f}"
                self.say("  ".join([at, *scores]))

    @contextmanager
    def _line(self, trainer: Trainer, crops: int) -> Iterator[Callable[[float], None] | None]:
        """The line that moves; yields whom each step's loss is told."""
        if self.quiet or not self.console.is_terminal:
            yield None
            return
        columns = (BarColumn(20), TextColumn("{task.description}", markup=False))
        with Progress(*columns, console=self.console, transient=True, refresh_per_second=4) as bar:
            line, pace = bar.add_task("the first step", total=1.0), Pace(trainer.spec, crops)

            def watch(loss: float) -> None:
                told = f"step {trainer.step}  loss {pace.loss(loss):.4f}  {pace.told(trainer.step, trainer.minutes)}"
                completed = trainer.spec.progress(trainer.step, trainer.minutes)
                bar.update(line, completed=completed, description=f"{told}  {self._score}")

            yield watch


class Pace:
    """How fast the last steps were; the first one of all, which compiles, does not count."""

    def __init__(self, spec: TrainSpec, crops: int, window: int = 30) -> None:
        self.spec, self.crops = spec, crops
        self._minutes: deque[float] = deque(maxlen=window)
        self._losses: deque[float] = deque(maxlen=window)

    def loss(self, loss: float) -> float:
        """The mean over the last steps, of which this is one."""
        self._losses.append(loss)
        return sum(self._losses) / len(self._losses)

    def told(self, step: int, minutes: float) -> str:
        """Crops a second and the time that is left, from the second step on."""
        self._minutes.append(minutes)
        took = (minutes - self._minutes[0]) / max(len(self._minutes) - 1, 1)  # [min] a step
        if took <= 0:
            return ""
        ends = [(self.spec.steps - step) * took] if self.spec.steps else []
        ends += [self.spec.minutes - minutes] if self.spec.minutes else []
        left = max(0.0, min(ends))
        shown = f"{left:.0f} min" if left >= 1 else f"{60 * left:.0f} s"
        return f"{self.crops / (60 * took):.1f} pictures/s  {shown} left"
