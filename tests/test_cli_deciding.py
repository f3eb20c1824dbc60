"""Stage 3 takes the best choice in whose pictures no tile border shows."""

from dataclasses import replace

import pytest
import torch

from rngcli.cli import deciding
from rngcli.cli.deciding import CHECKED, Deciding
from rngcli.cli.following import Follower
from rngcli.cli.running import Frame
from rngcli.nets.unet import UNet
from tests.tiny import GEN, random_bundle


@pytest.fixture
def stage_three(tmp_path):
    return Deciding(tmp_path, "cpu", Follower(quiet=True), Frame())


def test_the_first_seamless_choice_is_taken(stage_three, monkeypatch):
    asked = []
    monkeypatch.setattr(deciding, "seamless", lambda bundle, device: asked.append(bundle) or bundle == "c")
    assert stage_three._seamless(iter([1, 2, 3, 4]), " abcd".__getitem__) == 3
    assert asked == ["a", "b", "c"]


def test_where_none_is_seamless_the_best_is_taken_after_a_few(stage_three, monkeypatch):
    asked = []
    monkeypatch.setattr(deciding, "seamless", lambda bundle, device: asked.append(bundle))
    assert stage_three._seamless(iter(range(100)), str) == 0
    assert len(asked) == CHECKED


class Fickle(UNet):
    """Every other tile gets another texture."""

    calls = 0

    def forward(self, d_t, condition, gamma):
        self.calls += 1
        rng = torch.Generator().manual_seed(self.calls % 2)
        return torch.randn(d_t.shape, generator=rng)


def test_textures_that_do_not_agree_are_found():
    bundle = random_bundle()
    assert deciding.seamless(bundle, "cpu"), "small networks see but a few pixels, and the noise is the place's"
    assert not deciding.seamless(replace(bundle, generator=Fickle(GEN)), "cpu")
