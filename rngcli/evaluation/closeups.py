"""The pictures of which a method makes the worst, at 100 % where it errs most: kept for the eye while a run goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..data import Pair
from ..inference.engine import Result
from ..metrics.suite import Metric
from ..pages.pictures import data_uri, where_most_different
from .examples import absolute_error
from .report import Closeup

WORST = 8  # of each case and method
SIDE = 160  # [px]
ROOM = 24 * 2**20  # [bytes] of a page


class Closeups:
    """Keeps the worst of each case and method, by LPIPS where it is measured, else by the first metric that is."""

    def __init__(self, metrics: Sequence[Metric], have: Iterable[Closeup] = ()) -> None:
        ranked = [metric for metric in metrics if metric.key.startswith("lpips")] + list(metrics)
        self.metric = next(iter(ranked), None)
        self._kept: dict[tuple[str, str], list[Closeup]] = {}
        for closeup in have:
            self._keep(closeup)

    @property
    def all(self) -> tuple[Closeup, ...]:
        """Worst first, case by case and method by method; of each alike so many that a page can hold them."""
        for count in range(WORST, 0, -1):
            found = [closeup for kept in self._kept.values() for closeup in kept[:count]]
            if sum(map(_size, found)) <= ROOM:
                return tuple(found)
        return ()

    def of(
        self, case: str, pair: Pair, method: str, result: Result, scores: Mapping[str, float | None]
    ) -> Closeup | None:
        """What is to be kept of one output; None where others are worse."""
        score = scores.get(self.metric.key) if self.metric else None
        if self.metric is None or score is None or pair.clean is None or method == "input":
            return None
        badness = -self.metric.worth(score)
        kept = self._kept.get((case, method), [])
        if len(kept) == WORST and badness <= kept[-1].badness:
            return None
        x, y, width, height = box = where_most_different(pair.clean, result.pixels, SIDE)
        cut = slice(y, y + height), slice(x, x + width)
        output, clean = result.pixels[cut], pair.clean[cut]
        noisy, restored, truth = map(data_uri, (pair.noisy[cut], output, clean))
        error = data_uri(absolute_error(output, clean), "WEBP")
        closeup = Closeup(case, pair.key, method, badness, list(box), noisy, restored, truth, error)
        self._keep(closeup)
        return closeup

    def _keep(self, closeup: Closeup) -> None:
        kept = self._kept.setdefault((closeup.case, closeup.method), [])
        kept.append(closeup)
        kept.sort(key=lambda one: -one.badness)
        del kept[WORST:]


def _size(closeup: Closeup) -> int:
    return sum(map(len, (closeup.noisy, closeup.output, closeup.clean, closeup.error)))
