"""The unconditional process: an oracle finds the picture, levels may mix, steps keep the noise that they promise."""

from itertools import pairwise

import pytest
import torch

from rngcli.data.photographs import Photographs
from rngcli.diffusion.ddpm import DDPM, DDPMSpec
from rngcli.errors import ModelError
from rngcli.nets.unet import UNet, UNetSpec
from rngcli.training.stages.unconditional import NETWORK, Unconditional
from rngcli.training.trainer import Trainer, TrainSpec
from tests.tiny import clouds, scramble

DOUBLE = torch.float64


@pytest.fixture
def process():
    return DDPM(DDPMSpec())


def pictures(n=2, size=16):
    return torch.rand(n, 3, size, size, dtype=DOUBLE), torch.randn(n, 3, size, size, dtype=DOUBLE)


def levels(process, *sigmas):
    return torch.tensor(sigmas, dtype=DOUBLE)


@pytest.mark.parametrize("evaluations", [1, 2, 5, 100])
def test_an_oracle_finds_the_picture(process, evaluations):
    x0, noise = pictures()
    plan = [*process.levels(process.spec.noisiest, evaluations), process.end]
    state = process.begin(levels(process, plan[0], plan[0]), noise, 0.3 * x0)
    for now, after in pairwise(plan):
        now, after = levels(process, now, now), levels(process, after, after)
        truth = process.target(x0, now, (state - x0) / now[:, None, None, None])
        assert torch.allclose(process.estimate(state, truth, now), x0, atol=1e-12)
        state = process.step(state, truth, now, after, torch.randn_like(x0))
    assert torch.allclose(state, x0, atol=1e-10)


def test_what_the_network_sees_and_answers_has_unit_variance(process):
    x0 = 0.5 + 0.25 * torch.randn(4, 3, 64, 64, dtype=DOUBLE)
    noise, level = torch.randn_like(x0), levels(process, 0.006, 0.05, 0.15, 0.31)
    seen = process.scaled(process.corrupt(x0, level, noise), level)
    for values in (seen, process.target(x0, level, noise)):
        assert torch.allclose(values.std(dim=(1, 2, 3)), torch.ones(4, dtype=DOUBLE), atol=0.02)
    gamma = process.gamma(level)
    assert ((gamma > 0) & (gamma < 1)).all()
    assert (gamma.diff() < 0).all()


def test_mixed_levels_are_the_same_as_one_by_one(process):
    x0, noise = pictures(3)
    now, after = levels(process, 0.2, 0.1, 0.02), levels(process, 0.1, 0.02, 0.0)
    answer = torch.randn_like(x0)
    together = process.step(x0, answer, now, after, noise)
    alone = [process.step(x0[i : i + 1], answer[i : i + 1], now[i : i + 1], after[i : i + 1], noise[i : i + 1])
             for i in range(3)]  # fmt: skip
    assert torch.equal(together, torch.cat(alone))


def test_an_ancestral_step_leaves_the_noise_of_its_level(process):
    x0 = torch.full((1, 3, 256, 256), 0.5, dtype=DOUBLE)
    now, after = levels(process, 0.2), levels(process, 0.12)
    state = process.corrupt(x0, now, torch.randn_like(x0))
    truth = process.target(x0, now, (state - x0) / 0.2)
    assert float((process.step(state, truth, now, after, torch.randn_like(x0)) - x0).std()) == pytest.approx(0.12, 0.01)


def test_levels_fall_evenly_from_the_strength_asked_for(process):
    found = torch.tensor(process.levels(0.08, 8), dtype=DOUBLE)
    assert found[0] == pytest.approx(0.08)
    assert found[-1] == pytest.approx(process.spec.quietest)
    assert torch.allclose(found.log().diff(), found.log().diff()[:1].expand(7))
    drawn = process.draw(1000, torch.Generator().manual_seed(0))
    assert drawn.min() >= process.spec.quietest
    assert drawn.max() <= process.spec.noisiest


def test_an_impossible_process_is_refused():
    with pytest.raises(ModelError, match="need 0 < quietest"):
        DDPMSpec(quietest=0.5)


def test_a_network_without_a_condition_hangs_on_state_and_level_alone():
    net = scramble(UNet(UNetSpec(8, (1,), 1, (1,), patch=1, condition="nothing", embedding=16)))
    state, level = torch.randn(2, 3, 16, 16), torch.tensor([0.3, 0.9])
    condition = net.condition(torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16))
    assert condition.shape == (2, 0, 16, 16)
    assert net(state, condition, level).shape == state.shape
    assert not torch.allclose(net(state, condition, level), net(state, condition, level.flip(0)))
    assert 0.2e6 < sum(p.numel() for p in UNet(NETWORK).parameters()) < 0.5e6


def test_a_few_steps_teach_it_something(tmp_path):
    photographs = Photographs.load(sorted(clouds(tmp_path, 3, (96, 96)).glob("*.png")), 32)
    stage = Unconditional(photographs, 4)
    trainer = Trainer(stage, TrainSpec(steps=30, lr=4e-3, warmup=1, ema=0.9), tmp_path / "run")
    before = stage.validate(trainer.average)["error"]
    (*_, last) = trainer.run()
    assert last.scores["error"] < 0.9 * before
