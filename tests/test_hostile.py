"""A taste of the two long commands, `python -m tests.fuzz` and `python -m tests.kill`."""

from tests.fuzz import fuzz
from tests.kill import Killing


def test_twenty_mutated_files_in_one_batch(tmp_path):
    figures = fuzz(tmp_path, count=20, seed=1)
    assert not figures.faults
    assert figures.statuses.total() == 20
    assert figures.statuses["failed"], "mutations that all decode would test nothing"


def test_a_killed_run_is_taken_up_with_the_same_bits(tmp_path):
    killing = Killing(tmp_path, pictures=4, seed=0, runs=1, device="cpu")
    killing.once(kill=True)
    if killing.out.exists():
        killing.once(kill=False)
    assert not killing.faults
    assert killing.counts["ended"] == 1
