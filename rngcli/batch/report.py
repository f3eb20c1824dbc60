"""The report of a batch: one flat row a picture, as JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import EnvironmentFault, UsageError
from ..images import write_bytes
from .inputs import Outcome, Task
from .ownership import check_place

Row = dict[str, Any]


def json_number(value: float | None) -> float | str | None:
    """JSON has no infinity, which is the PSNR of equal pictures: it becomes the string "inf"."""
    return value if value is None or math.isfinite(value) else str(value)


def as_text(name: object) -> str:
    r"""A name that is not UTF-8 as text: the bytes in question as \xNN, so that JSON and logs stay valid."""
    return os.fsencode(str(name)).decode("utf-8", "backslashreplace")


def as_line(text: str) -> str:
    """A name as one printable line: line ends, and what would steer a terminal, are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in as_text(text))


def row_of(outcome: Outcome) -> Row:
    """One picture as a flat record, for --json and --report; figures that are not known are None."""
    known = outcome.megapixels > 0 or not outcome.before
    return {
        **_head(outcome.task, "failed" if outcome.error else "skipped" if outcome.before else "done"),
        "output": None if outcome.error else as_text(outcome.task.target),
        "error": as_text(outcome.error) if outcome.error else None,
        "notes": "; ".join(map(as_text, outcome.notes)),
        "pages": None if outcome.error else outcome.pages,
        "megapixels": round(outcome.megapixels, 4) if known else None,
        "steps": round(outcome.steps, 3) if known else None,
        "seconds": round(outcome.seconds, 3) if known else None,
        "sigma": None if outcome.sigma is None else round(outcome.sigma, 2),
        **_rounded(outcome.scores),
        **_rounded({f"input_{name}": value for name, value in outcome.input_scores.items()}),
    }


def _rounded(scores: Mapping[str, float | None]) -> Row:
    return {name: json_number(None if value is None else round(value, 5)) for name, value in scores.items()}


def rows_of(tasks: Sequence[Task], outcomes: Sequence[Outcome]) -> list[Row]:
    """A row for every task, in their order; what has no outcome was not begun, or dropped half done."""
    settled = {_key(outcome.task): outcome for outcome in outcomes}
    return [row_of(settled[_key(task)]) if _key(task) in settled else _head(task, "not begun") for task in tasks]


def _key(task: Task) -> tuple[str, Path]:
    return task.name, task.source


def _head(task: Task, status: str) -> Row:
    return {"file": as_text(task.name), "source": as_text(task.source), "output": None, "status": status, "error": None}


def check_report(path: Path) -> None:
    """UsageError where the suffix names no form of report, or where the file is somebody's own."""
    if path.suffix not in (".json", ".csv", ".html"):
        raise UsageError(f"--report {path} is neither .json nor .csv, nor .html", "name it so")
    if not path.parent.is_dir():
        raise EnvironmentFault(f"the report {path} cannot be written ({path.parent} is no folder)", "choose another")
    check_place(path, "the report")


def write_report(path: Path, rows: Sequence[Row]) -> None:
    """Whole or not at all. Raises EnvironmentFault where the disk refuses."""
    write_bytes(path, (_as_json(rows) if path.suffix == ".json" else _as_csv(rows)).encode())


def _as_json(rows: Sequence[Row]) -> str:
    return json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _as_csv(rows: Sequence[Row]) -> str:
    sink = io.StringIO(newline="")
    table = csv.DictWriter(sink, list(dict.fromkeys(name for row in rows for name in row)))
    table.writeheader()
    table.writerows(rows)
    return sink.getvalue()
