"""Estimates as text."""

from __future__ import annotations

from ...metrics.suite import Metric
from ..paired import PairedDifference
from .record import Estimate


def shown(estimate: Estimate | PairedDifference | None, metric: Metric, plus: str = "") -> str:
    """An estimate as text: mean and interval, or n/a; `plus` puts a sign before positive numbers too."""
    if estimate is None:
        return "n/a"
    infinite = getattr(estimate, "infinite", 0)
    if infinite == estimate.count:
        return "∞"
    mean, low, high = (f"{v:{plus}.{metric.digits}f}" for v in (estimate.mean, estimate.low, estimate.high))
    return f"{mean} [{low}, {high}]" + f" + {infinite} ∞" * (infinite > 0)
