"""Two reports side by side: the paired difference of every score, picture by picture, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from ...errors import UsageError
from ..paired import PairedDifference
from .figures import shown
from .record import Metric, Report, Row


@dataclass(frozen=True)
class ScoreDifference:
    """Mean of B − A over the pictures that both reports scored."""

    case: str
    methods: tuple[str, str]  # in A and in B
    metric: Metric
    estimate: PairedDifference


def compare(a: Report, b: Report) -> list[ScoreDifference]:
    """Differences B − A for the methods of one name, or for the only method of each.

    Raises UsageError where the reports share no picture, or measured one case by different protocols.
    """
    _same_protocols(a, b)
    shared = [m for m in a.methods if m in b.methods]
    matched = [(m, m) for m in shared] or _only(a, b)
    found = []
    for case in a.cases:
        for methods in matched:
            found += _differences(case.name, methods, (a, b))
    if not found:
        raise UsageError("the reports share no picture of one name and case", "compare runs over the same set")
    return found


def _same_protocols(a: Report, b: Report) -> None:
    theirs = {case.name: case.protocol for case in b.cases}
    for case in a.cases:
        if theirs.get(case.name, case.protocol) != case.protocol:
            raise UsageError(
                f"{case.name} was measured by two protocols ({case.protocol} / {theirs[case.name]})",
                "run both again with the same options",
            )


def _only(a: Report, b: Report) -> list[tuple[str, str]]:
    if len(a.methods) == len(b.methods) == 1:
        return [(a.methods[0], b.methods[0])]
    raise UsageError(
        f"no method is in both reports ({', '.join(a.methods)} / {', '.join(b.methods)})",
        "compare reports with a method in common, or with one method each",
    )


def _differences(case: str, methods: tuple[str, str], reports: tuple[Report, Report]) -> list[ScoreDifference]:
    first, second = (_rows(report, case, method) for report, method in zip(reports, methods, strict=True))
    common = [key for key in first if key in second]
    keys = {metric.key for metric in reports[1].metrics}
    found = []
    for metric in reports[0].metrics:
        if metric.key in keys:
            scores = ([rows[key].scores.get(metric.key) for key in common] for rows in (second, first))
            paired = PairedDifference.of(*scores)
            found += [ScoreDifference(case, methods, metric, paired)] if paired else []
    return found


def _rows(report: Report, case: str, method: str) -> dict[str, Row]:
    return {row.key: row for row in report.rows if (row.case, row.method) == (case, method)}


def terminal(differences: Sequence[ScoreDifference], names: tuple[str, str]) -> Table:
    """The differences as a table; those whose interval leaves out zero say which side is better."""
    table = Table(title=f"{names[1]} − {names[0]}", title_justify="left", title_style="bold")
    for heading in ("case", "method", "metric"):
        table.add_column(heading)
    table.add_column("difference [95 %]", justify="right")
    table.add_column("pictures", justify="right")
    table.add_column("better")
    for d in differences:
        method = d.methods[0] if d.methods[0] == d.methods[1] else " → ".join(d.methods)
        cells = (shown(d.estimate, d.metric, "+"), str(d.estimate.count), _better(d, names))
        table.add_row(d.case, method, d.metric.label, *cells)
    return table


def _better(difference: ScoreDifference, names: tuple[str, str]) -> str:
    if difference.metric.better in ("one", "zero"):
        return "see the reports"  # a difference does not say which of the two is nearer
    if not difference.estimate.decided():
        return "undecided"
    return names[1] if (difference.estimate.mean > 0) == (difference.metric.better == "high") else names[0]
