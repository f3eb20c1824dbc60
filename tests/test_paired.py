"""A paired difference covers the truth as often as it says, and decides nothing by a single pair."""

import math

import numpy as np
import pytest

from rngcli.evaluation.paired import PairedDifference


def test_the_interval_covers_the_true_difference_in_about_95_of_100():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        shared = rng.normal(30, 5, 40)  # pictures differ far more than methods do
        found = PairedDifference.of(list(shared + rng.normal(0.3, 1, 40)), list(shared))
        hits += found.low <= 0.3 <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_what_only_one_side_has_does_not_count():
    found = PairedDifference.of([1.0, None, 3.0, 4.0], [0.5, 1.0, None, 3.0])
    assert (found.mean, found.count) == (0.75, 2)
    assert found.error == pytest.approx(0.25)
    assert PairedDifference.of([None], [1.0]) is None
    with pytest.raises(ValueError, match="zip"):
        PairedDifference.of([1.0], [])


def test_a_single_pair_decides_nothing_and_equal_pairs_everything():
    single = PairedDifference.of([3.0], [1.0])
    assert (single.low, single.high, single.decided()) == (-math.inf, math.inf, False)
    alike = PairedDifference.of([3.0, 4.0], [1.0, 2.0])
    assert (alike.low, alike.high, alike.decided(), alike.decided(least=2.5)) == (2.0, 2.0, True, False)
