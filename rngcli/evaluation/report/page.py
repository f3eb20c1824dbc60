"""The report as one HTML file that needs nothing else: tables, plots, pictures to slide over, the worst at 100 %."""

from __future__ import annotations

from dataclasses import asdict

from ...pages.document import document
from .record import Report, bracket, summarise
from .rivalry import told
from .tables import as_dict


def html(report: Report) -> str:
    """A page that draws itself from its data; opens from disk, light and dark, wide and narrow."""
    data = {
        **as_dict(report),
        "told": {case.name: told(report, case.name) for case in report.cases},
        "bracket": bracket(summarise(report)),
        "pictures": [asdict(picture) for picture in report.pictures],
        "closeups": [asdict(closeup) for closeup in report.closeups],
    }
    return document(__package__ or "", "page", report.title, data)
