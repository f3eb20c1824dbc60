"""Reports for terminals, spreadsheets, documents and programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ...batch.report import json_number
from ...errors import NoInputError
from ..paired import PairedDifference
from .figures import shown
from .record import Case, Estimate, Metric, Report, Summary, best, bracket, row_as_dict, row_from, summarise
from .rivalry import rivalries, told

FORMAT = "rng-report-1"


def terminal(report: Report) -> Group:
    """One table a case, best means in bold, with protocol and provenance below."""
    summaries = summarise(report)
    parts: list[Table | Text] = []
    for case in report.cases:
        here = [s for s in summaries if s.case == case.name]
        parts += [_rich_table(case, here, report.metrics), *map(Text, told(report, case.name))]
        parts.append(Text(case.protocol, style="dim"))
    facts = " · ".join(f"{name} {value}" for name, value in report.provenance.items())
    parts += [Text(note, style="yellow") for note in report.notes]
    return Group(*parts, Text(f"[…] {bracket(summaries)}", style="dim"), Text(facts, style="dim"))


def _rich_table(case: Case, summaries: Sequence[Summary], metrics: Sequence[Metric]) -> Table:
    table = Table(title=f"{case.name} · {case.pictures} pictures", title_justify="left", title_style="bold")
    table.add_column("method", no_wrap=True)
    for metric in metrics:
        table.add_column(metric.heading, justify="right")
    table.add_column("steps/tile", justify="right")
    table.add_column("s/MP", justify="right")
    for summary in summaries:
        cells = [Text(text, style="bold" if top else "") for text, top in _cells(summary, summaries, metrics)]
        table.add_row(summary.label, *cells, f"{summary.evaluations:.1f}", f"{summary.seconds_per_megapixel:.2f}")
    return table


def _cells(summary: Summary, among: Sequence[Summary], metrics: Sequence[Metric]) -> list[tuple[str, bool]]:
    """Each metric's text, and whether its mean is the best of the case."""
    cells = []
    for metric in metrics:
        estimate = summary.scores.get(metric.key)
        top = estimate is not None and round(estimate.mean, metric.digits) == best(among, metric)
        cells.append((shown(estimate, metric), top))
    return cells


def as_markdown(report: Report) -> str:
    """The summary as tables, then protocol, provenance, notes and problems."""
    lines = [f"# {report.title}", ""]
    summaries = summarise(report)
    for case in report.cases:
        here = [s for s in summaries if s.case == case.name]
        heads = [metric.heading for metric in report.metrics]
        lines += [f"## {case.name}, {case.pictures} pictures", "", _row("method", *heads, "steps/tile", "s/MP")]
        lines.append(_row("---", *["---:"] * (len(heads) + 2)))
        for s in here:
            cells = [f"**{text}**" if top else text for text, top in _cells(s, here, report.metrics)]
            lines.append(_row(s.label, *cells, f"{s.evaluations:.1f}", f"{s.seconds_per_megapixel:.2f}"))
        lines += ["", *(f"- at equal PSNR, {line}" for line in told(report, case.name)), ""]
        lines += [f"Protocol: {case.protocol}.", ""]
    lines += [f"[…] {bracket(summaries)}.", ""]
    lines += [f"- {metric.label}: {metric.protocol}" for metric in report.metrics]
    lines += [f"- {name}: {value}" for name, value in report.provenance.items()]
    for heading, texts in (("Notes", report.notes), ("Problems", report.problems)):
        lines += ["", f"{heading}:", "", *(f"- {text}" for text in texts)] if texts else []
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def as_csv(report: Report) -> str:
    """One line a row, scores in full precision, an empty field where there is none."""
    sink = io.StringIO()
    keys = [metric.key for metric in report.metrics]
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(["case", "method", "picture", *keys, "evaluations", "seconds", "megapixels", "strength"])
    for row in report.rows:
        scores = [row.scores.get(key) for key in keys]
        spent = row.evaluations, row.seconds, row.megapixels, row.strength
        writer.writerow([row.case, row.method, row.key, *scores, *spent])
    return sink.getvalue()


def as_dict(report: Report) -> dict:
    """The report without pictures, and with its summary, for JSON."""
    whole = {"format": FORMAT, **{k: v for k, v in vars(report).items() if k not in ("pictures", "closeups")}}
    for key in ("cases", "metrics"):
        whole[key] = [asdict(item) for item in whole[key]]
    whole["rows"] = [row_as_dict(row) for row in report.rows]
    whole["rivals"] = [asdict(one) | {"difference": _finite(one.difference)} for one in rivalries(report)]
    summary = [asdict(s) | {"scores": {k: _estimate(e) for k, e in s.scores.items()}} for s in summarise(report)]
    return {**whole, "provenance": dict(report.provenance), "summary": summary}


def _estimate(estimate: Estimate | None) -> dict | None:
    return _finite(estimate) | {"interval": estimate.is_interval} if estimate else None


def _finite(estimate: Estimate | PairedDifference) -> dict:
    return {name: json_number(value) for name, value in asdict(estimate).items()}


def as_json(report: Report) -> str:
    """All but the pictures; `read` is its inverse."""
    return json.dumps(as_dict(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read(path: Path) -> Report:
    """A report from its JSON. Raises NoInputError where the file is absent or something else."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] != FORMAT:
            raise ValueError(f"format {stored['format']!r}")
        return Report(
            stored["title"],
            tuple(Case(**case) for case in stored["cases"]),
            tuple(stored["methods"]),
            tuple(Metric(**metric) for metric in stored["metrics"]),
            tuple(row_from(row) for row in stored["rows"]),
            stored["provenance"],
            tuple(stored["problems"]),
            tuple(stored["notes"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoInputError(f"{path} is no JSON report ({error})", "write one with `rng eval --report`") from error
