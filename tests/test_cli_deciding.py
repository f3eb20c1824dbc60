"""Stage 3 takes the best choice in whose pictures no tile border shows."""

import pytest
import torch

from rngcli.budgets import CLASSES, Labels
from rngcli.cli import deciding
from rngcli.cli.deciding import CHECKED, Deciding
from rngcli.cli.following import Follower
from rngcli.cli.running import Frame
from tests.tiny import random_bundle


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


@pytest.mark.parametrize(("patches", "kept"), [(4, True), (8, False)])
def test_what_was_learned_from_fewer_patches_is_not_gone_on_with(stage_three, tmp_path, patches, kept):
    bundle, state = random_bundle(), tmp_path / "controller" / "state.pt"
    state.parent.mkdir()
    state.touch()
    labels = Labels(tmp_path / "controller" / "labels.pt", bundle)
    figures = torch.zeros(4, CLASSES)
    torch.save({"made_by": labels.made_by, "lpips": figures, "psnr": figures}, labels.file)
    assert len(stage_three._labels_so_far(bundle, patches)) == 4
    assert state.exists() is kept
