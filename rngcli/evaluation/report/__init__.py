"""What an evaluation found, and the forms in which people and programs read it; one file a form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...errors import UsageError
from ...images import write_bytes
from .page import html
from .record import Case, Closeup, Estimate, Metric, Picture, Report, Row, Summary, bootstrap, summarise
from .tables import as_csv, as_json, as_markdown, read, terminal

FORMS: dict[str, Callable[[Report], str]] = {".json": as_json, ".csv": as_csv, ".md": as_markdown, ".html": html}

__all__ = [
    "FORMS", "Case", "Closeup", "Estimate", "Metric", "Picture", "Report", "Row", "Summary", "bootstrap", "form_of",
    "read", "summarise", "terminal", "write",
]  # fmt: skip


def form_of(path: Path) -> Callable[[Report], str]:
    """The form that the suffix of `path` names. Raises UsageError for any other suffix."""
    if path.suffix.lower() not in FORMS:
        raise UsageError(f"no report is written as {path.name!r}", f"end its name in {', '.join(FORMS)}")
    return FORMS[path.suffix.lower()]


def write(report: Report, path: Path) -> None:
    """Write the report whole or not at all, in the form that the suffix names."""
    write_bytes(path, form_of(path)(report).encode())
