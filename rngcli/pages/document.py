"""A page as one HTML file: its own body, style and script between those that all pages share, and its data as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any


def document(package: str, name: str, title: str, data: Mapping[str, Any]) -> str:
    """NAME.html, NAME.css and NAME.js of `package` in the shared frame, drawing themselves from `data`.

    The page opens from disk, in light and dark, on screens of any width. Raises ValueError for NaN and infinities,
    which JSON lacks.
    """
    # A "</script>" in a file name would end the element that holds the data.
    text = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    parts = {
        "TITLE": escape(title),
        "STYLE": _read(__package__, "common.css") + _read(package, f"{name}.css"),
        "SCRIPT": _read(__package__, "common.js") + _read(package, f"{name}.js"),
        "BODY": _read(package, f"{name}.html"),
        "DATA": text,
    }
    page = _read(__package__, "frame.html")
    for mark, value in parts.items():
        page = page.replace(f"<!--{mark}-->", value, 1)
    return page


def _read(package: str, file: str) -> str:
    return files(package).joinpath(file).read_text(encoding="utf-8")
