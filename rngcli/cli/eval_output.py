"""How `rng eval` tells what it measures: a bar or a line a row, the table, and what failed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import Exit
from .streams import data_output, words_output

if TYPE_CHECKING:
    from ..evaluation.report import Report, Row


@contextmanager
def row_progress(total: int, quiet: bool) -> Iterator[Callable[[Row], None]]:
    """A bar on a terminal, else a line a row."""
    from ..batch.report import as_line
    from . import progress

    with progress.bar(total, "measuring", "rows", quiet) as bar:
        seen = iter(range(1, total + 1))

        def line(row: Row) -> None:
            scores = "  ".join(f"{key} {value:.4f}" for key, value in row.scores.items() if value is not None)
            progress.write(as_line(f"{next(seen)}/{total}  {row.case}  {row.method}  {row.key}  {scores}"))

        def move(row: Row) -> None:
            bar.set_postfix_str(f"{row.case}  {row.method}", refresh=False)
            bar.update()

        yield (lambda row: None) if quiet else line if bar.disable else move


def tell(report: Report, json: bool) -> None:
    """The table, or the report as JSON, on stdout."""
    from rich.console import Console

    from ..evaluation.report import terminal
    from ..evaluation.report.tables import as_json

    if json:
        data_output(as_json(report).encode())
        return
    # Pipes have no width: rich would fold the table into 80 columns.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    with console.capture() as table:
        console.print(terminal(report))
    words_output(table.get())


def settle(report: Report) -> Exit:
    """What failed, on stderr, and the exit code that says so."""
    from ..batch.report import as_line
    from . import progress

    for problem in report.problems:
        progress.write(f"failed: {as_line(problem)}")
    if not report.rows:
        print("rng: no picture could be measured", file=sys.stderr)
        return Exit.NO_INPUT
    return Exit.SOME_FAILED if report.problems else Exit.OK
