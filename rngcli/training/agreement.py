"""How much of what two tiles generate agrees where they blend, found by looking at a model's own pictures."""

from __future__ import annotations

from dataclasses import replace

from ..inference.pipeline import Pipeline
from ..inference.seams import ALLOWED, MARGIN, border_ratios
from ..methods.contract import Request
from ..methods.rng import NAME, rng_of, with_rng
from ..models.bundle import Bundle

MOST_LOST = 0.5  # of the correlation of two tiles; what agrees less is another fault


def with_agreement(bundle: Bundle, device: str) -> tuple[Bundle, bool]:
    """The bundle with the agreement of its tiles that leaves no border, and whether none is left.

    The first guess is that all that is seen is generated; the ratios that it gives tell how much truly is (the secant
    method). What is asked is the fullest budget, in its own evaluations and in more of them.
    """
    before = _of_all(bundle, 1.0, device)
    lost = 1 - sum(before) / len(before)
    guess = 1 - min(max(6 * lost, 0.0), MOST_LOST)  # over a linear ramp, the mean of 2·w·(1 − w) is a third
    after = _of_all(bundle, guess, device)
    gained = (sum(after) - sum(before)) / len(before)
    if lost > 0 and gained > 0:
        guess = 1 - min((1 - guess) * lost / gained, MOST_LOST)
        after = _of_all(bundle, guess, device)
    whole = all(abs(ratio - 1) <= ALLOWED - MARGIN for ratio in after)
    return _agreeing(bundle, round(guess, 4)), whole


def _of_all(bundle: Bundle, agreement: float, device: str) -> list[float]:
    """The ratios in both directions, by the fullest budget and by four evaluations."""
    pipeline = Pipeline(_agreeing(bundle, agreement), device, method=NAME)
    requests = Request(budget=len(rng_of(bundle).budgets) - 1), Request(steps=4)
    return [ratio for request in requests for ratio in border_ratios(pipeline, request)]


def _agreeing(bundle: Bundle, agreement: float) -> Bundle:
    return with_rng(bundle, process=replace(rng_of(bundle).process, agreement=agreement))
