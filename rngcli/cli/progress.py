"""Progress as a person sees it, on stderr: a bar where that is a terminal, and lines that pass above it."""

from __future__ import annotations

import sys

from tqdm import tqdm


def bar(total: float | None, desc: str, unit: str, quiet: bool = False) -> tqdm:
    """A bar that goes away when it is closed; a silent one where `quiet`, or where stderr is no terminal.

    `unit` in the plural: "pictures" is shown as "3.2 pictures/s". Speed and time left are those of the last updates;
    beside them stands what `set_postfix_str` is told.
    """
    return tqdm(
        total=total, desc=desc, unit=f" {unit}", disable=quiet or None, leave=False, dynamic_ncols=True, smoothing=0.1,
        file=sys.stderr,
    )  # fmt: skip


def write(line: str) -> None:
    """A line on stderr, above the bars that are open."""
    tqdm.write(line, file=sys.stderr)
