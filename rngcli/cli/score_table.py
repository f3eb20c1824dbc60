"""What `rng denoise --reference` shows at its end: scores, and what they gain over the input's own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from rich.table import Table
from rich.text import Text

from ..batch.inputs import Outcome
from ..batch.reference import gain
from ..batch.report import as_line


def score_table(scored: Sequence[Outcome]) -> Table:
    """A row a picture, then the means; the gain in PSNR where the input has a score of its own."""
    names = list(dict.fromkeys(name for outcome in scored for name in outcome.scores))
    gained = [name for name in names if name == "psnr" and any(outcome.input_scores for outcome in scored)]
    heads = (head for name in names for head in ((name, "gain") if name in gained else (name,)))
    table = Table("picture", "steps", "seconds", *heads, title="against the reference")
    for outcome in scored:
        cells = [figure(value) for values in _columns([outcome], names, gained) for value in values]
        # As Text: in a string, rich would take brackets for markup and :words: for emoji.
        table.add_row(Text(as_line(outcome.task.name)), f"{outcome.steps:.1f}", f"{outcome.seconds:.1f}", *cells)
    table.add_section()
    steps = np.mean([outcome.steps for outcome in scored])
    table.add_row("mean", f"{steps:.1f}", "", *map(_mean, _columns(scored, names, gained)))
    return table


def figure(value: float | None) -> str:
    return "n/a" if value is None else "∞" if math.isinf(value) else f"{value:.4f}"


def _columns(
    outcomes: Sequence[Outcome], names: Sequence[str], gained: Sequence[str]
) -> list[list[float | None]]:
    columns: list[list[float | None]] = []
    for name in names:
        columns.append([outcome.scores.get(name) for outcome in outcomes])
        if name in gained:
            columns.append([gain(outcome, name) for outcome in outcomes])
    return columns


def _mean(column: Sequence[float | None]) -> str:
    """The mean; pictures equal to the reference have an infinite PSNR, and are counted beside it."""
    values = [value for value in column if value is not None]
    finite = [value for value in values if math.isfinite(value)]
    equal = f" + {len(values) - len(finite)} ∞" if len(finite) < len(values) else ""
    return figure(float(np.mean(finite)) if finite else None if not values else math.inf) + (equal if finite else "")
