"""What `rng denoise` tells: data on stdout, words on stderr and in a log, a report in a file."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from ..batch.inputs import Outcome, Task, told
from ..batch.ownership import check_log
from ..batch.reference import has_no_partner
from ..batch.report import as_line, row_of
from ..errors import EnvironmentFault, Interrupted, RngError
from . import progress
from .batch_progress import BatchProgress
from .score_table import figure, score_table
from .streams import data_output

if TYPE_CHECKING:
    from ..batch.file_options import Watch


class Reporter:
    """stdout is for data, stderr for people: a progress bar on a terminal, plain lines elsewhere and in the log."""

    goes_on = "what is written is whole; the same command goes on from there"

    def __init__(self, json: bool, quiet: bool, log: Path | None = None) -> None:
        self.json, self.quiet = json, quiet
        self.begun = time.monotonic()
        self.bar: BatchProgress | None = None
        self._flying: set[str] = set()  # begun, and not settled
        if log:
            check_log(log)
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
        """A line of JSON; a reader that has seen enough and goes stops no picture."""
        if not self.json:
            return
        line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        try:
            self.json = data_output(line)
        except EnvironmentFault:
            self.json = False
            raise

    @contextmanager
    def progress(self, total: int, calls: float) -> Iterator[Watch]:
        """The bar over `total` pictures, where stderr is a terminal; yields whom a run tells.

        calls: network calls that a tile is likely to take, until the first pictures tell.
        """
        from ..batch.file_options import Watch

        with BatchProgress(total, calls, self.quiet) as bar:
            self.bar = bar if bar.shown else None
            yield Watch(begun=self._begin, stepped=bar.stepped)
        self.bar = None

    def _begin(self, task: Task, megapixels: float, tiles: int) -> None:
        self._flying.add(task.name)
        if self.bar:
            self.bar.begun(task.name, megapixels, tiles)

    def outcome(self, outcome: Outcome) -> None:
        """One picture is settled."""
        self._emit(row_of(outcome))
        self._flying.discard(outcome.task.name)
        if self.bar:
            self.bar.settled(outcome)
        if not (outcome.error or outcome.before):
            figures = "".join(f"  {name} {figure(value)}" for name, value in outcome.scores.items())
            pages = f"  {outcome.pages} pages" if outcome.pages > 1 else ""
            noise = "" if outcome.sigma is None else f"  noise {outcome.sigma:.1f}"
            line = f"{outcome.task.name}{pages}  {outcome.steps:.1f} steps  {outcome.seconds:.1f} s{noise}{figures}"
            (self.log if self.bar else self.say)(line)
        for note in () if outcome.before else outcome.notes:
            self.say(f"{outcome.task.name}: {note}")

    def summary(
        self,
        outcomes: Sequence[Outcome],
        total: int,
        passed_over: Counter[str] | None = None,
        working: float | None = None,
    ) -> None:
        """What was done, with mean scores; then every failure with its reason, also where the run is quiet.

        working: the seconds that were spent on it, if not all since the command began.
        """
        failed = [outcome for outcome in outcomes if outcome.error]
        before = sum(outcome.before for outcome in outcomes)
        done = [outcome for outcome in outcomes if not (outcome.error or outcome.before)]
        dropped = len(self._flying)
        unbegun = total - len(outcomes) - dropped
        seconds = time.monotonic() - self.begun if working is None else working
        if not self.quiet and (scored := [outcome for outcome in outcomes if outcome.scores]):
            Console(stderr=True, highlight=False, soft_wrap=True).print(score_table(scored))
        megapixels = sum(outcome.megapixels for outcome in done)
        counts = f"{len(done)} done, {before} done before, {len(failed)} failed"
        counts += f", {dropped} dropped half done" * (dropped > 0) + f", {unbegun} not begun" * (unbegun > 0)
        speed = f" ({_speed(megapixels / max(seconds, 1e-9))})" if megapixels else ""
        self.say(f"{counts} in {seconds:.1f} s{speed}")
        if noise := [outcome.sigma for outcome in outcomes if outcome.sigma is not None]:
            self.say(_noise_line(noise))
        if passed_over:
            self.say(told(passed_over))
        if alone := sum(has_no_partner(outcome) for outcome in outcomes):
            self.say(f"{alone} of {len(outcomes)} have no partner in the reference")
        for outcome in failed:
            line = f"failed: {outcome.task.name}: {outcome.error}"
            self.log(line)
            print(as_line(line), file=sys.stderr)
        end = {"done": len(done), "skipped": before, "failed": len(failed), "dropped": dropped, "not_begun": unbegun}
        self._emit({"summary": {**end, "passed_over": sum((passed_over or {}).values()), "seconds": round(seconds, 3)}})


def _speed(rate: float) -> str:
    """Megapixels a second, and what that means for a photograph of 24."""
    return f"{rate:.2f} Mpx/s: 24 Mpx in {progress.duration(24 / rate)}"


def _noise_line(sigmas: Sequence[float]) -> str:
    least, middle, most = (float(np.quantile(sigmas, q)) for q in (0, 0.5, 1))
    several = f" in the median, {least:.1f} to {most:.1f}" if len(sigmas) > 1 else ""
    return f"noise before: σ {middle:.1f} of 255{several}"
