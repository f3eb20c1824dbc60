"""The report of a batch: one flat row a picture, as JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..images import write_bytes
from .inputs import Outcome

Row = dict[str, Any]


def as_text(name: object) -> str:
    r"""A name that is not UTF-8 as text: the bytes in question as \xNN, so that JSON and logs stay valid."""
    return os.fsencode(str(name)).decode("utf-8", "backslashreplace")


def as_line(text: str) -> str:
    """The same on one line, without what would steer a terminal: names may hold line ends and escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in as_text(text))


def row_of(outcome: Outcome) -> Row:
    """One picture as a flat record, for --json and --report."""
    return {
        "file": as_text(outcome.task.name),
        "source": as_text(outcome.task.source),
        "output": None if outcome.error else as_text(outcome.task.target),
        "status": "failed" if outcome.error else "done",
        "error": as_text(outcome.error) if outcome.error else None,
        "notes": "; ".join(map(as_text, outcome.notes)),
        "megapixels": round(outcome.megapixels, 4),
        "steps": round(outcome.steps, 3),
        "seconds": round(outcome.seconds, 3),
        **{name: None if value is None else round(value, 5) for name, value in outcome.scores.items()},
    }


def check_report(path: Path) -> None:
    """UsageError where the suffix names no form of report."""
    if path.suffix not in (".json", ".csv"):
        raise UsageError(f"--report {path} is neither .json nor .csv", "name it so")


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
