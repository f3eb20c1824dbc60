"""What `rng denoise` tells: data on stdout, words on stderr, a report in a file."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ..errors import EnvironmentFault

if TYPE_CHECKING:
    from ..worker import Outcome


def row_of(outcome: Outcome) -> dict[str, Any]:
    """One picture as a flat record, for --json and --report."""
    return {
        "file": outcome.task.name,
        "output": None if outcome.error else str(outcome.task.target),
        "status": "failed" if outcome.error else "done",
        "error": str(outcome.error) if outcome.error else None,
        "megapixels": round(outcome.megapixels, 4),
        "steps": round(outcome.steps, 3),
        "seconds": round(outcome.seconds, 3),
        **{name: round(value, 5) for name, value in outcome.scores.items()},
    }


@contextmanager
def reported(path: Path | None, outcomes: list[Outcome]) -> Iterator[None]:
    """Write the report at the end, also of a run that was cut short."""
    try:
        yield
    finally:
        if path:
            rows = [row_of(outcome) for outcome in outcomes]
            try:
                _write_rows(path, rows)
            except OSError as error:
                raise EnvironmentFault(
                    f"the report {path} cannot be written ({error.strerror})", "choose another"
                ) from None


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        if path.suffix == ".json":
            json.dump(rows, file, indent=1, ensure_ascii=False)
        else:
            columns = list(dict.fromkeys(name for row in rows for name in row))
            table = csv.DictWriter(file, columns)
            table.writeheader()
            table.writerows(rows)


class Teller:
    """stdout is for data, stderr for people: a progress bar on a terminal, plain lines elsewhere."""

    def __init__(self, json: bool, quiet: bool) -> None:
        self.json, self.quiet = json, quiet
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.begun = time.monotonic()
        self.bar: Progress | None = None

    def say(self, line: str) -> None:
        if not self.quiet:
            self.console.print(line, markup=False)

    @contextmanager
    def progress(self, total: int) -> Iterator[Callable[[int], None] | None]:
        """The bar, where stderr is a terminal; yields what to call with each network call's tile count."""
        if self.quiet or not self.console.is_terminal:
            yield None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("pictures"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[tiles]} tile steps"),
        )
        with Progress(*columns, console=self.console, transient=True) as self.bar:
            self.line = self.bar.add_task("denoising", total=total, tiles=0)
            yield self._count

    def _count(self, tiles: int) -> None:
        assert self.bar is not None
        self.bar.update(self.line, tiles=self.bar.tasks[self.line].fields["tiles"] + tiles)

    def outcome(self, outcome: Outcome) -> None:
        """One picture is settled."""
        if self.json:
            print(json.dumps(row_of(outcome), ensure_ascii=False), flush=True)
        if self.bar:
            self.bar.advance(self.line)
        elif not outcome.error:
            figures = "".join(f"  {name} {value:.4g}" for name, value in outcome.scores.items())
            self.say(f"{outcome.task.name}  {outcome.steps:.1f} steps  {outcome.seconds:.1f} s{figures}")
        for note in outcome.notes:
            self.say(f"{outcome.task.name}: {note}")

    def summary(self, outcomes: list[Outcome], skipped: int) -> None:
        """What was done, with mean scores; then every failure with its reason, also where the run is quiet."""
        done = [outcome for outcome in outcomes if not outcome.error]
        failed = [outcome for outcome in outcomes if outcome.error]
        seconds = time.monotonic() - self.begun
        if done and done[0].scores and not self.quiet:
            self.console.print(_score_table(done))
        megapixels = sum(outcome.megapixels for outcome in done)
        self.say(
            f"{len(done)} done, {skipped} done before, {len(failed)} failed"
            f" in {seconds:.1f} s ({megapixels / max(seconds, 1e-9):.2f} Mpx/s)"
        )
        for outcome in failed:
            print(f"failed: {outcome.task.name}: {outcome.error}", file=sys.stderr)
        if self.json:
            end = {"done": len(done), "skipped": skipped, "failed": len(failed), "seconds": round(seconds, 3)}
            print(json.dumps({"summary": end}), flush=True)


def _score_table(done: list[Outcome]) -> Table:
    table = Table("picture", "steps", "seconds", *done[0].scores, title="against the reference")
    for outcome in done:
        figures = (f"{value:.4f}" for value in outcome.scores.values())
        table.add_row(outcome.task.name, f"{outcome.steps:.1f}", f"{outcome.seconds:.1f}", *figures)
    means = (float(np.mean([outcome.scores[name] for outcome in done])) for name in done[0].scores)
    steps = np.mean([outcome.steps for outcome in done])
    table.add_section()
    table.add_row("mean", f"{steps:.1f}", "", *(f"{mean:.4f}" for mean in means))
    return table
