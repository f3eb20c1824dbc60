"""The long day in small, smaller still."""

from tests.soak import soak


def test_nothing_is_lost_nothing_done_twice_and_the_report_is_true(tmp_path):
    counts, faults = soak(tmp_path, pictures=60, seed=4)
    assert not faults
    assert counts["broken off"] == 5
    assert counts["done"] == 60 - counts["broken pictures"]
