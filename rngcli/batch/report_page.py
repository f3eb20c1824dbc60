"""The report of a batch as a page: every picture before and after, worst first, and a table of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..images import write_bytes
from ..pages.document import document
from .gallery import LARGE, SMALL, Gallery, badness
from .inputs import Outcome, Task
from .reference import gain, has_no_partner
from .report import as_text, json_number, rows_of


def write_page(
    path: Path,
    title: str,
    facts: Mapping[str, str],
    tasks: Sequence[Task],
    outcomes: Sequence[Outcome],
    gallery: Gallery,
) -> None:
    """Whole or not at all: a row for every task, and what `gallery` has of them. Raises EnvironmentFault."""
    settled = {(outcome.task.name, outcome.task.source): outcome for outcome in outcomes}
    pictures = []
    for task, row in zip(tasks, rows_of(tasks, outcomes), strict=True):
        outcome = settled.get((task.name, task.source))
        pictures.append({**row, **(_seen(outcome, gallery) if outcome else {})})
    whole = {
        "title": as_text(title),
        "facts": {name: as_text(value) for name, value in facts.items()},
        "metrics": list(dict.fromkeys(name for outcome in outcomes for name in outcome.scores)),
        "alone": sum(has_no_partner(outcome) for outcome in outcomes),
        "bound": (LARGE + SMALL) // 2**20,
        "pictures": pictures,
    }
    write_bytes(path, document(__package__ or "", "batch_page", as_text(title), whole).encode())


def _seen(outcome: Outcome, gallery: Gallery) -> dict[str, Any]:
    """What the page shows of an outcome beside its row."""
    gains = {name: json_number(gain(outcome, name)) for name in outcome.scores}
    view = gallery.view(outcome)
    if not view:
        reason = gallery.reason(outcome)
        return {"gains": gains, "unseen": as_text(reason) if reason else None}
    return {
        "gains": gains,
        "badness": json_number(badness(outcome, view)),
        "view": asdict(view),
        "detail": outcome.detail_map,
    }
