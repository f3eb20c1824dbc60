"""Progress as a person sees it, on stderr: a bar where that is a terminal, and lines that pass above it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from threading import RLock
from typing import IO, TYPE_CHECKING, TypeVar

from tqdm import tqdm
from tqdm.std import EMA

if TYPE_CHECKING:
    from ..training.trainer import Trainer

T = TypeVar("T")
tqdm.set_lock(RLock())  # threads share bars here, processes do not: tqdm's own lock would ask the system for more
MINUTE = 60.0  # [s] between two lines where there is no bar


def bar(total: float | None, desc: str, unit: str, quiet: bool = False, line: str | None = None) -> tqdm:
    """A bar that goes away when it is closed; a silent one where `quiet`, or where stderr is no terminal that draws.

    `unit` in the plural: "pictures" is shown as "3.2 pictures/s". Speed and time left are those of the last updates;
    beside them stands what `set_postfix_str` is told. `line`: another layout, in tqdm's words for bar_format.
    """
    quiet = quiet or os.environ.get("TERM") == "dumb"
    columns, rows = _screen(sys.stderr)
    shown = tqdm(
        total=total, desc=desc, unit=f" {unit}", disable=quiet or None, leave=False, ncols=columns, nrows=rows,
        smoothing=0.1, file=sys.stderr, bar_format=line,
    )  # fmt: skip
    shown.dynamic_ncols = _screen
    return shown


def _screen(file: IO[str]) -> tuple[int, int]:
    """Columns that a line may fill, and rows; a terminal of no size, as some programs open it, counts as 80 × 24."""
    try:
        columns, rows = os.get_terminal_size(file.fileno())
    except (OSError, ValueError, AttributeError):
        columns, rows = 0, 0
    asked = os.environ.get("COLUMNS", "")
    return (int(asked) if asked.isdecimal() and int(asked) else columns or 80) - 1, (rows or 24) - 1


@contextmanager
def waiting(line: str, quiet: bool = False, lasting: bool = False) -> Iterator[None]:
    """A line that stands on a terminal until what is within is done; elsewhere, where `lasting`, one that stays.

    Nothing where `quiet`.
    """
    shown = not quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    if lasting and not (shown or quiet):
        write(line)
    if shown:
        sys.stderr.write(line)
        sys.stderr.flush()
    try:
        yield
    finally:
        if shown:
            sys.stderr.write(f"\r{' ' * len(line)}\r")
            sys.stderr.flush()


def counted(number: int, things: str) -> str:
    """1 picture, 2 pictures."""
    return f"{number} {things.removesuffix('s') if number == 1 else things}"


def duration(seconds: float) -> str:
    """In words, to two digits: 4.2 s, 70 s, 23 min, 5.1 h."""
    unit, length = ("s", 1) if seconds < 100 else ("min", 60) if seconds < 6000 else ("h", 3600)
    amount = seconds / length
    return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"


def write(line: str) -> None:
    """A line on stderr, above the bars that are open."""
    tqdm.write(line, file=sys.stderr)


class Narrator:
    """What `rng train` and `rng ablate` tell: a bar on a terminal, elsewhere a line at once and one a minute."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._score = ""  # of the last checkpoint

    def say(self, line: str) -> None:
        """A line, unless quiet."""
        if not self.quiet:
            write(line)

    def track(self, work: Iterable[T], doing: str, total: int, unit: str) -> Iterator[T]:
        """`work`, item by item, told of as "decoding 900 pictures"."""
        if not total:
            yield from work
            return
        with bar(total, doing, unit, self.quiet) as shown:
            lines = _Lines(doing, unit, self.quiet or not shown.disable)
            lines.tell(0, total)
            for done, item in enumerate(work, start=1):
                yield item
                shown.update()
                lines.tell_each_minute(done, total)

    def follow(self, trainer: Trainer, crops: int) -> None:
        """Let a training run to its end, a line a checkpoint; a step takes `crops` crops on all ranks together."""
        loss = EMA(smoothing=0.05)  # of the last steps
        with bar(None, "training", "pictures", self.quiet) as shown:
            lines = _Lines("training", "pictures", self.quiet or not shown.disable)
            first, begun = trainer.step, trainer.spec.progress(trainer.step, trainer.minutes)

            def watch(latest: float) -> None:
                done = (trainer.step - first) * crops
                share = (trainer.spec.progress(trainer.step, trainer.minutes) - begun) / (1 - begun)  # of what was left
                about = "  ".join(filter(None, [f"step {trainer.step}  loss {loss(latest):.4f}", self._score]))
                shown.total = round(done / max(share, 1e-9))
                shown.set_postfix_str(about, refresh=False)
                shown.update(crops)
                if trainer.step == first + 1:  # which compiles: the speed is that of the steps from here on
                    shown.initial = shown.last_print_n = shown.n
                    shown.start_t = shown.last_print_t = time.time()
                lines.tell_each_minute(done, shown.total, about)

            # The run is closed at once, so that what is learned is saved at once.
            with closing(trainer.run(watch)) as run:
                for progress in run:
                    scores = [f"{name} {value:.4g}" for name, value in progress.scores.items()]
                    self._score = next((score for score in scores if "psnr" in score), "")
                    at = f"step {progress.step}  {progress.minutes:.1f} min  loss {progress.loss:.4f}"
                    self.say("  ".join([at, *scores]))


class _Lines:
    """What stands in for a bar where stderr is no terminal."""

    def __init__(self, doing: str, unit: str, silent: bool) -> None:
        self.doing, self.unit, self.silent = doing, unit, silent
        self._begun = self._told = time.monotonic()

    def tell(self, done: int, total: int, about: str = "") -> None:
        """How far it is; before the first item, what is to be done."""
        self._told = now = time.monotonic()
        if self.silent:
            return
        if not done:
            write(f"{self.doing} {counted(total, self.unit)}")
            return
        took = now - self._begun
        left = tqdm.format_interval(max(0.0, took / done * (total - done)))
        told = f"{self.doing}: {done} of {total} {self.unit}, {done / max(took, 1e-9):.1f}/s, {left} left"
        write("  ".join(filter(None, [told, about])))

    def tell_each_minute(self, done: int, total: int, about: str = "") -> None:
        """The same, if a minute has passed since the last line."""
        if time.monotonic() - self._told >= MINUTE:
            self.tell(done, total, about)
