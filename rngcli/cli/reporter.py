"""What `rng denoise` tells: data on stdout, words on stderr and in a log, a report in a file."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..batch.inputs import Outcome, Task
from ..batch.report import as_line, as_text, row_of, write_report
from ..errors import EnvironmentFault, Interrupted, RngError
from . import progress
from .batch_progress import BatchProgress

if TYPE_CHECKING:
    from ..batch.worker import Watch


@contextmanager
def reported(path: Path | None, outcomes: list[Outcome]) -> Iterator[None]:
    """Write the report at the end, also of a run that was cut short; a place that takes none is refused at once."""
    if not path:
        yield
        return
    with _reporting(path):
        path.open("a").close()
    try:
        yield
    finally:
        write_report(path, [row_of(outcome) for outcome in outcomes])


@contextmanager
def _reporting(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cause = f"the report {path} cannot be written ({error.strerror})"
        raise EnvironmentFault(cause, "choose another") from None


class Reporter:
    """stdout is for data, stderr for people: a progress bar on a terminal, plain lines elsewhere and in the log."""

    goes_on = "what is written is whole; the same command goes on from there"

    def __init__(self, json: bool, quiet: bool, log: Path | None = None) -> None:
        self.json, self.quiet = json, quiet
        self.begun = time.monotonic()
        self.bar: BatchProgress | None = None
        self._flying: set[str] = set()  # begun, and not settled
        try:
            self._log: IO[str] | None = log.open("a", encoding="utf-8") if log else None
        except OSError as error:
            raise EnvironmentFault(f"the log {log} cannot be written ({error.strerror})", "choose another") from None

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._log:
            self._log.close()

    @contextmanager
    def failures(self) -> Iterator[None]:
        """What ends the run within stands in the log, too."""
        try:
            yield
        except KeyboardInterrupt:
            raise Interrupted("interrupted", self.goes_on) from None
        except RngError as error:
            self.log(f"rng: {error}")
            raise

    def say(self, line: str) -> None:
        """A line for people; only the log gets it where the run is quiet."""
        self.log(line)
        if not self.quiet:
            progress.write(as_line(line))

    def log(self, line: str) -> None:
        """A line for the log alone."""
        if not self._log:
            return
        try:
            self._log.write(as_line(line) + "\n")
            self._log.flush()
        except OSError as error:
            name, self._log = self._log.name, None
            raise EnvironmentFault(f"the log {name} cannot be written ({error.strerror})", "choose another") from None

    def _emit(self, row: dict[str, Any]) -> None:
        """A line of JSON, in UTF-8 whatever the locale."""
        if not self.json:
            return
        try:
            sys.stdout.buffer.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            sys.stdout.buffer.flush()
        except OSError as error:
            self.json = False
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries once more at its end
            # A reader that has seen enough closes the pipe: the pictures are to be done all the same.
            if not isinstance(error, BrokenPipeError):
                raise EnvironmentFault(f"stdout takes no more ({error.strerror})", "check where it goes") from None

    @contextmanager
    def progress(self, total: int, calls: float) -> Iterator[Watch]:
        """The bar over `total` pictures, where stderr is a terminal; yields whom a run tells.

        calls: network calls that a tile is likely to take, until the first pictures tell.
        """
        from ..batch.worker import Watch

        with BatchProgress(total, calls, self.quiet) as bar:
            self.bar = bar if bar.shown else None
            yield Watch(begun=self._begin, stepped=bar.stepped)
        self.bar = None

    def _begin(self, task: Task, megapixels: float, tiles: int) -> None:
        self._flying.add(task.name)
        if self.bar:
            self.bar.begun(task.name, megapixels, tiles)

    def skipped(self, task: Task) -> None:
        """One picture was done before."""
        self._emit({"file": as_text(task.name), "source": as_text(task.source), "output": as_text(task.target),
                    "status": "skipped", "error": None})  # fmt: skip

    def outcome(self, outcome: Outcome) -> None:
        """One picture is settled."""
        self._emit(row_of(outcome))
        self._flying.discard(outcome.task.name)
        if self.bar:
            self.bar.settled(outcome)
        if not outcome.error:
            figures = "".join(f"  {name} {_figure(value)}" for name, value in outcome.scores.items())
            line = f"{outcome.task.name}  {outcome.steps:.1f} steps  {outcome.seconds:.1f} s{figures}"
            (self.log if self.bar else self.say)(line)
        for note in outcome.notes:
            self.say(f"{outcome.task.name}: {note}")

    def summary(self, outcomes: list[Outcome], skipped: int, total: int) -> None:
        """What was done, with mean scores; then every failure with its reason, also where the run is quiet."""
        done = [outcome for outcome in outcomes if not outcome.error]
        failed = [outcome for outcome in outcomes if outcome.error]
        dropped = len(self._flying)
        unbegun = total - skipped - len(outcomes) - dropped
        seconds = time.monotonic() - self.begun
        if not self.quiet and (scored := [outcome for outcome in done if outcome.scores]):
            Console(stderr=True, highlight=False, soft_wrap=True).print(_score_table(scored))
        megapixels = sum(outcome.megapixels for outcome in done)
        counts = f"{len(done)} done, {skipped} done before, {len(failed)} failed"
        counts += f", {dropped} dropped half done" * (dropped > 0) + f", {unbegun} not begun" * (unbegun > 0)
        self.say(f"{counts} in {seconds:.1f} s ({megapixels / max(seconds, 1e-9):.2f} Mpx/s)")
        for outcome in failed:
            line = f"failed: {outcome.task.name}: {outcome.error}"
            self.log(line)
            print(as_line(line), file=sys.stderr)
        end = {"done": len(done), "skipped": skipped, "failed": len(failed), "dropped": dropped, "not_begun": unbegun}
        self._emit({"summary": {**end, "seconds": round(seconds, 3)}})


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"


def _score_table(done: Sequence[Outcome]) -> Table:
    names = list(dict.fromkeys(name for outcome in done for name in outcome.scores))
    table = Table("picture", "steps", "seconds", *names, title="against the reference")
    for outcome in done:
        figures = (_figure(outcome.scores.get(name)) for name in names)
        # As Text: in a string, rich would take brackets for markup and :words: for emoji.
        table.add_row(Text(as_line(outcome.task.name)), f"{outcome.steps:.1f}", f"{outcome.seconds:.1f}", *figures)
    table.add_section()
    steps = np.mean([outcome.steps for outcome in done])
    table.add_row("mean", f"{steps:.1f}", "", *(_figure(_mean_of(name, done)) for name in names))
    return table


def _mean_of(name: str, done: Sequence[Outcome]) -> float | None:
    values = [value for outcome in done if (value := outcome.scores.get(name)) is not None]
    return float(np.mean(values)) if values else None
