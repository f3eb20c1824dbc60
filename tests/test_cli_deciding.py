"""Stage 3 takes the best choice in whose pictures no tile border shows."""

import pytest

from rngcli.cli import deciding
from rngcli.cli.deciding import CHECKED, Deciding
from rngcli.cli.following import Follower
from rngcli.cli.running import Frame


@pytest.fixture
def stage_three(tmp_path):
    return Deciding(tmp_path, "cpu", Follower(quiet=True), Frame())


def test_the_first_seamless_choice_is_taken(stage_three, monkeypatch):
    monkeypatch.setattr(deciding, "with_agreement", lambda bundle, device: (bundle.upper(), bundle == "c"))
    choices = iter([1, 2, 3, 4])
    assert stage_three._seamless(choices, " abcd".__getitem__) == (3, "C")
    assert list(choices) == [4], "the others are not asked"


def test_where_none_is_seamless_the_best_is_taken_after_a_few(stage_three, monkeypatch):
    asked = []
    monkeypatch.setattr(deciding, "with_agreement", lambda bundle, device: (asked.append(bundle) or bundle, False))
    assert stage_three._seamless(iter(range(100)), str) == (0, "0")
    assert len(asked) == CHECKED
