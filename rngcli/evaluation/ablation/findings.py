"""Tables of results, and what follows from them: beside each claim the paper's figures, and whether ours agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..paired import PairedDifference
from .ledger import RowResult
from .rows import Part, TableRow

FORMAT = "rng-ablation-1"
METRICS = (("psnr", "PSNR", 2, " dB"), ("lpips", "LPIPS", 4, ""))
NOTE = (
    "Where two rows are compared, ± is two standard errors over the same patches; a difference within them, or too "
    "small to be shown, is undecided. Each network was trained once: another seed may change as much again. Spread: "
    "standard deviation of what is generated over that of what r(x) lacks. LPIPS: squeeze, v0.1."
)


def verdict(found: PairedDifference, expected: float | None, least: float = 0.0) -> str:
    """Against the sign of the paper's difference; where it has none, what the difference is by itself.

    Undecided within two standard errors, and below `least`.
    """
    if not found.decided(least):
        return "undecided"
    if expected is None:
        return "higher" if found.mean > 0 else "lower"
    return "agrees" if found.mean * expected > 0 else "does not agree"


def findings(part: Part, results: Mapping[str, RowResult]) -> list[str]:
    """A sentence for each claim of a part: what the paper has, and what the results say to it."""
    rows = {row.label: row for row in part.rows}
    return [f"“{a}” against “{b}”: {_papers(rows[a], rows[b])}; {_ours(rows[a], rows[b], results)}."
            for a, b in part.claims]  # fmt: skip


def _papers(a: TableRow, b: TableRow) -> str:
    if not (a.paper and b.paper):
        return "not compared in the paper"
    return f"in the paper {a.paper[0]:.2f} against {b.paper[0]:.2f} dB, LPIPS {a.paper[1]:.4f} against {b.paper[1]:.4f}"


def _ours(a: TableRow, b: TableRow, results: Mapping[str, RowResult]) -> str:
    words = []
    for index, (key, name, digits, unit) in enumerate(METRICS):
        gap = PairedDifference.of(*(_by_patch(results[row.label], key) for row in (a, b)))
        if gap:
            expected = a.paper[index] - b.paper[index] if a.paper and b.paper else None
            figures = f"{name} {gap.mean:+.{digits}f} ± {2 * gap.error:.{digits}f}{unit}"
            words.append(f"{figures} ({verdict(gap, expected, 10**-digits)})")
    return f"here {', '.join(words)}"


def _by_patch(result: RowResult, key: str) -> list[float]:
    """One figure a patch, of every σ in turn."""
    return [figure for figures in asdict(result.score)[key].values() for figure in figures]


def as_data(parts: Sequence[tuple[Part, Mapping[str, RowResult]]], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, for programs."""
    tables = [
        {
            "part": part.key,
            "title": part.title,
            "paper": part.source,
            "rows": [{"label": row.label, "paper": row.paper, **asdict(results[row.label])} for row in part.rows],
            "findings": findings(part, results),
        }
        for part, results in parts
    ]
    return {"format": FORMAT, "facts": dict(facts), "parts": tables}


def as_markdown(parts: Sequence[tuple[Part, Mapping[str, RowResult]]], facts: Mapping[str, Any]) -> str:
    """A table for each part, with its findings below."""
    lines = []
    for part, results in parts:
        claims = [f"- {line}" for line in findings(part, results)]
        lines += [f"### {part.title}", "", f"Paper: {part.source}.", "", *_table(part, results), "", *claims, ""]
    about = " · ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
    return "\n".join([*lines, NOTE, "", about]) + "\n"


def _table(part: Part, results: Mapping[str, RowResult]) -> list[str]:
    sigmas = " / ".join(next(iter(results.values())).score.psnr)
    heads = (f"PSNR, σ = {sigmas}", "LPIPS", "PSNR of r(x)", "spread", "evaluations", "steps", "minutes", "paper")
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    return lines + [f"| {row.label} | {' | '.join(_cells(row, results[row.label]))} |" for row in part.rows]


def _cells(row: TableRow, result: RowResult) -> list[str]:
    score = result.score
    return [
        _each((_mean(v) for v in score.psnr.values()), 2),
        _each((_mean(v) for v in score.lpips.values()), 4) or "n/a",
        _each(score.reconstruction.values(), 2),
        _each(score.spread.values(), 2),
        f"{result.evaluations:.1f}",
        " + ".join(map(str, result.steps)) or "–",
        f"{result.minutes:.1f}",
        f"{row.paper[0]:.2f} dB, {row.paper[1]:.4f}" if row.paper else "–",
    ]


def _each(values: Any, digits: int) -> str:
    return " / ".join(f"{value:.{digits}f}" for value in values)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
