"""The report as one HTML file that needs nothing else: tables, scatter, pictures to slide over, step maps."""

from __future__ import annotations

import json
from dataclasses import asdict
from html import escape
from importlib.resources import files

from .record import Report
from .tables import as_dict


def html(report: Report) -> str:
    """A page that draws itself from its data; opens from disk, light and dark."""
    data = {**as_dict(report), "pictures": [asdict(picture) for picture in report.pictures]}
    # A "</script>" in a file name would end the element that holds the data.
    text = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    page, style, script = (
        files(__package__).joinpath(f"page.{suffix}").read_text() for suffix in ("html", "css", "js")
    )
    for mark, value in (("STYLE", style), ("SCRIPT", script), ("TITLE", escape(report.title)), ("DATA", text)):
        page = page.replace(f"<!--{mark}-->", value, 1)
    return page
