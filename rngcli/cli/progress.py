"""Progress as a person sees it, on stderr: a bar where that is a terminal, and lines that pass above it."""

from __future__ import annotations

import os
import sys
from typing import IO

from tqdm import tqdm


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


def write(line: str) -> None:
    """A line on stderr, above the bars that are open."""
    tqdm.write(line, file=sys.stderr)
