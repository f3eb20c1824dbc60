"""What generated detail gains over its rivals of equal PSNR: the paired difference of every other score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...metrics.suite import Metric
from ..paired import PairedDifference
from .figures import shown
from .record import Report, Row

_SAID_BY_THE_TABLE = ("psnr", "placement")  # equal; and about zero for every rival
GENERATES, RIVALS = "rng", ("blend", "grain")


@dataclass(frozen=True)
class Rivalry:
    """Mean of the method's score less its rival's, over the pictures that have both; share: of the rival's mean."""

    case: str
    method: str
    rival: str
    metric: str
    difference: PairedDifference
    share: float
    better: int  # pictures

    def told(self, metric: Metric) -> str:
        """The difference as words."""
        return (
            f"{self.method} − {self.rival}: {metric.label} {shown(self.difference, metric, '+')}, {self.share:+.1%}, "
            f"better on {self.better} of {self.difference.count}"
        )


def rivalries(report: Report) -> list[Rivalry]:
    """For each rival that was matched to a method of the report: one for each score that has a better and a worse."""
    rows: dict[tuple[str, str], dict[str, Row]] = {}
    for row in report.rows:
        rows.setdefault((row.case, row.method), {})[row.key] = row
    metrics = [m for m in report.metrics if m.better in ("high", "low") and m.key not in _SAID_BY_THE_TABLE]
    found = []
    for case in report.cases:
        for method, rival in _matched(report.methods):
            sides = rows.get((case.name, method), {}), rows.get((case.name, rival), {})
            for metric in metrics:
                pairs = _pairs(*sides, metric)
                if pairs and (difference := PairedDifference.of(*zip(*pairs, strict=True))):
                    share = difference.mean / abs(sum(b for _, b in pairs) / len(pairs) or 1)
                    better = sum(metric.worth(a) > metric.worth(b) for a, b in pairs)
                    found.append(Rivalry(case.name, method, rival, metric.key, difference, share, better))
    return found


def _matched(methods: Sequence[str]) -> list[tuple[str, str]]:
    """(rng, blend), (rng max=4, blend max=4), …"""
    named = [(GENERATES + rival.removeprefix(kind), rival) for rival in methods for kind in RIVALS
             if rival.split(" ")[0] == kind]  # fmt: skip
    return [(method, rival) for method, rival in named if method in methods]


def _pairs(ours: dict[str, Row], theirs: dict[str, Row], metric: Metric) -> list[tuple[float, float]]:
    both = [(ours[key].scores.get(metric.key), theirs[key].scores.get(metric.key)) for key in ours if key in theirs]
    return [(a, b) for a, b in both if a is not None and b is not None]


def told(report: Report, case: str) -> list[str]:
    """A line for each rivalry of a case."""
    metrics = {metric.key: metric for metric in report.metrics}
    return [one.told(metrics[one.metric]) for one in rivalries(report) if one.case == case]
