"""Two methods on the same pictures: the mean difference of a score, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PairedDifference:
    """Mean of a − b over what both have a score for, with the standard error of that mean."""

    mean: float
    error: float  # infinite for a single pair, which says nothing about the next
    count: int = 0

    @classmethod
    def of(cls, a: Sequence[float | None], b: Sequence[float | None]) -> PairedDifference | None:
        """None where there is no pair. Raises ValueError for sequences of different length."""
        pairs = zip(a, b, strict=True)
        # The PSNR of a picture that equals its truth is infinite: what it gains over another is no number.
        gaps = [x - y for x, y in pairs if x is not None and y is not None and math.isfinite(x - y)]
        if not gaps:
            return None
        mean, count = sum(gaps) / len(gaps), len(gaps)
        if count == 1:
            return cls(mean, math.inf, 1)
        return cls(mean, math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / (count - 1) / count), count)

    @property
    def low(self) -> float:
        """The lower end of the 95 % interval: two standard errors below the mean."""
        return self.mean - 2 * self.error

    @property
    def high(self) -> float:
        """The upper end of the 95 % interval."""
        return self.mean + 2 * self.error

    def decided(self, least: float = 0.0) -> bool:
        """Whether the interval leaves out zero, and the mean is larger than `least`."""
        return abs(self.mean) > max(2 * self.error, least)
