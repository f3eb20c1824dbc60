"""Rows, one a picture and method, and what follows from them: means with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ...batch.report import json_number
from ...metrics.suite import Metric

RESAMPLES = 2000
ENOUGH = 10  # pictures; the bootstrap of fewer is far too sure, and their lowest and highest are told instead


@dataclass(frozen=True)
class Case:
    """One set at one noise level, with the protocol that makes its numbers comparable."""

    name: str
    protocol: str
    pictures: int
    sigma: float | None = None  # on the 0-255 scale, where it is known


@dataclass(frozen=True)
class Row:
    """One picture by one method; a score that could not be had is None."""

    case: str
    method: str
    key: str
    scores: Mapping[str, float | None]
    megapixels: float
    seconds: float  # of denoising alone: no reading, no measuring
    evaluations: float  # of the generator, mean over tiles
    strength: float | None = None  # of a rival: the noisy picture's weight, or the grain's σ on the 0-255 scale


@dataclass(frozen=True)
class Picture:
    """A picture kept for the eye: one method's output (or "noisy", "clean") as a data URI, with its step map.

    columns and rows are the tiles' borders [px], starts in [0, 1] how far in the noise each tile began, as a share of
    the fullest budget's; all empty where nothing was generated. error: an output's absolute error, made brighter.
    """

    case: str
    key: str
    method: str
    width: int
    height: int
    uri: str
    columns: Sequence[int] = ()
    rows: Sequence[int] = ()
    starts: Sequence[Sequence[float]] = ()
    error: str = ""


@dataclass(frozen=True)
class Closeup:
    """A square of one output where it errs most, at 100 %, with what it was made of: data URIs of (H, W, 3) each.

    badness: the score by which it is among the worst; error: the absolute error, made brighter.
    """

    case: str
    key: str
    method: str
    badness: float
    box: Sequence[int]  # x, y, width, height [px]
    noisy: str
    output: str
    clean: str
    error: str


@dataclass(frozen=True)
class Report:
    """All that one evaluation found. `problems` are pictures that failed, `notes` what else a reader must know."""

    title: str
    cases: tuple[Case, ...]
    methods: tuple[str, ...]
    metrics: tuple[Metric, ...]
    rows: tuple[Row, ...]
    provenance: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    closeups: tuple[Closeup, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """A mean over `count` pictures with its 95 % bootstrap interval; of fewer than ENOUGH, with the lowest and highest.

    Of these, `infinite` have an infinite score, the PSNR of a picture that equals its truth: the mean is over the
    others, and infinite where there is no other.
    """

    mean: float
    low: float
    high: float
    count: int
    infinite: int = 0

    @property
    def is_interval(self) -> bool:
        """Whether `low` and `high` are an interval of the mean, not the lowest and the highest picture."""
        return self.count - self.infinite >= ENOUGH


@dataclass(frozen=True)
class Summary:
    """One method on one case; estimates are None where no picture has the score."""

    case: str
    method: str
    pictures: int
    scores: Mapping[str, Estimate | None]
    evaluations: float
    seconds_per_megapixel: float
    strength: float | None = None  # of a rival, mean over pictures

    @property
    def label(self) -> str:
        """The method, and how strong a rival of no strength of its own came out."""
        told = self.strength is None or ":" in self.method
        return self.method if told else f"{self.method} ({self.strength:.3g})"


def bootstrap(values: Iterable[float | None], seed: int = 0) -> Estimate | None:
    """The mean of `values` and its percentile interval from 2000 resamples; None entries do not count.

    Of fewer than ENOUGH finite values, the lowest and the highest instead.
    """
    scored = np.array([v for v in values if v is not None and not math.isnan(v)], dtype=np.float64)
    if not len(scored):
        return None
    known = scored[np.isfinite(scored)]
    infinite = len(scored) - len(known)
    if not len(known):
        return Estimate(math.inf, math.inf, math.inf, len(scored), infinite)
    if len(known) < ENOUGH:
        return Estimate(float(known.mean()), float(known.min()), float(known.max()), len(scored), infinite)
    chosen = np.random.default_rng(seed).integers(0, len(known), (RESAMPLES, len(known)))
    low, high = np.percentile(known[chosen].mean(axis=1), [2.5, 97.5])
    return Estimate(float(known.mean()), float(low), float(high), len(scored), infinite)


def bracket(summaries: Iterable[Summary]) -> str:
    """What stands in brackets beside the means."""
    estimates = [estimate for summary in summaries for estimate in summary.scores.values() if estimate]
    kinds = {estimate.is_interval for estimate in estimates}
    few = f"lowest and highest picture (min–max): fewer than {ENOUGH} allow no interval"
    if kinds == {True, False}:
        return f"95 % bootstrap interval of the mean; where there are fewer than {ENOUGH} pictures, min–max"
    return few if kinds == {False} else "95 % bootstrap interval of the mean"


def row_as_dict(row: Row) -> dict[str, Any]:
    """A row for JSON, which has no infinity."""
    return asdict(row) | {"scores": {key: json_number(value) for key, value in row.scores.items()}}


def row_from(stored: Mapping[str, Any]) -> Row:
    """The inverse of `row_as_dict`."""
    scores = {key: None if value is None else float(value) for key, value in stored["scores"].items()}
    return Row(**{**stored, "scores": scores})


def summarise(report: Report) -> list[Summary]:
    """One summary for each case and method that has rows, in the report's order."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in report.rows:
        groups.setdefault((row.case, row.method), []).append(row)
    ordered = [(case.name, method) for case in report.cases for method in report.methods]
    return [_summary(*pair, groups[pair], report.metrics) for pair in ordered if pair in groups]


def _summary(case: str, method: str, rows: Sequence[Row], metrics: Sequence[Metric]) -> Summary:
    strengths = [row.strength for row in rows if row.strength is not None]
    return Summary(
        case,
        method,
        len(rows),
        {metric.key: bootstrap(row.scores.get(metric.key) for row in rows) for metric in metrics},
        float(np.mean([row.evaluations for row in rows])),
        sum(row.seconds for row in rows) / sum(row.megapixels for row in rows),
        float(np.mean(strengths)) if strengths else None,
    )


def best(summaries: Sequence[Summary], metric: Metric) -> float | None:
    """The best mean of `metric` among `summaries`, rounded as it is shown."""
    means = [round(s.scores[metric.key].mean, metric.digits) for s in summaries if s.scores.get(metric.key)]  # type: ignore[union-attr]
    return max(means, key=metric.worth) if means else None
