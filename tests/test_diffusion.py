"""The process does what the paper's equations say: noise and back, step by step, each tile at its own level."""

import math
from itertools import pairwise

import pytest
import torch

from rngcli.diffusion.residual import ProcessSpec, ResidualDiffusion, measure_sigma_d, sample
from rngcli.diffusion.schedule import Budget, ScheduleSpec, gamma_of, linear_plan, sigma_of
from rngcli.errors import ModelError


def oracle(process, x0):
    """A network that knows d_0: answers what training would have asked for."""

    def predict(d_t, gamma):
        g = gamma.float()[:, None, None, None]
        noise = (d_t - g.sqrt() * x0) / (1 - g).sqrt()
        return process.target(x0, gamma, noise)

    return predict


@pytest.mark.parametrize("prediction", ["eps", "v"])
@pytest.mark.parametrize("steps", [1, 2, 5, 100])
def test_with_an_oracle_every_plan_returns_d0(prediction, steps):
    process = ResidualDiffusion(ProcessSpec(prediction=prediction))
    x0, noise = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    for plan in (Budget(3.0, steps).plan(0.05, steps), linear_plan(ScheduleSpec(), 100, steps)):
        assert len(plan) == steps
        # γ_T = 4.5e-5 multiplies float32's rounding by 1/√γ in the ε form: hence the tolerance.
        torch.testing.assert_close(sample(process, oracle(process, x0), plan, lambda: noise), x0, atol=2e-3, rtol=0)


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_stochastic_steps_with_an_oracle_return_d0_as_well(prediction):
    process = ResidualDiffusion(ProcessSpec(prediction=prediction, eta=1.0))
    x0, d = torch.randn(1, 3, 8, 8), torch.randn(1, 3, 8, 8)
    levels = [torch.tensor([g]) for g in (*Budget(2.0, 6).plan(0.05, 6), 1.0)]
    for now, after in pairwise(levels):
        d = process.step(d, oracle(process, x0)(d, now), now, after, torch.randn_like(d))
    torch.testing.assert_close(d, x0, atol=1e-4, rtol=0)


def test_a_batch_of_mixed_levels_equals_its_tiles_one_by_one():
    process = ResidualDiffusion(ProcessSpec(eta=0.5))
    d, answer, noise = (torch.randn(4, 3, 8, 8) for _ in range(3))
    now, after = torch.tensor([0.1, 0.5, 0.9, 0.99]), torch.tensor([0.3, 0.6, 1.0, 1.0])
    together = process.step(d, answer, now, after, noise)
    apart = [process.step(*(x[i : i + 1] for x in (d, answer, now, after, noise))) for i in range(4)]
    assert torch.equal(together, torch.cat(apart))


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_estimate_undoes_corrupt_and_target(prediction):
    process = ResidualDiffusion(ProcessSpec(prediction=prediction))
    d0, noise, gamma = torch.randn(3, 3, 4, 4), torch.randn(3, 3, 4, 4), torch.tensor([0.05, 0.5, 0.95])
    back, eps = process.estimate(process.corrupt(d0, gamma, noise), process.target(d0, gamma, noise), gamma)
    torch.testing.assert_close(back, d0, atol=1e-4, rtol=0)
    torch.testing.assert_close(eps, noise, atol=1e-4, rtol=0)


def test_the_start_has_the_noise_that_its_level_says():
    process = ResidualDiffusion(ProcessSpec())
    noise = torch.randn(2, 3, 64, 64)
    begun = process.begin(torch.tensor([0.2, 0.8]), noise)
    assert begun.std(dim=(1, 2, 3)).tolist() == pytest.approx([math.sqrt(0.8), math.sqrt(0.2)], rel=0.03)


def test_the_training_table_is_the_papers():
    gammas = ScheduleSpec().gammas()
    assert gammas.dtype == torch.float64
    assert len(gammas) == 2001
    assert gammas[0] == 1
    assert gammas[1].item() == pytest.approx(1 - 1e-6)
    assert (gammas[1:] / gammas[:-1])[-1].item() == pytest.approx(1 - 1e-2)


def test_training_levels_are_continuous_and_stay_below_the_noisiest():
    spec = ScheduleSpec(noisiest=1000)
    drawn = spec.draw(4096, torch.Generator().manual_seed(0))
    assert drawn.min() >= spec.gammas()[1000] - 1e-6
    assert drawn.max() <= 1
    assert len(drawn.unique()) > 4000


def test_plans_fall_in_noise_and_respect_the_cap():
    budget = Budget(3.0, 8)
    plan = budget.plan(0.05, 100)
    assert len(plan) == 8
    assert list(plan) == sorted(plan)
    assert sigma_of(plan[0]) == pytest.approx(3.0)
    assert sigma_of(plan[-1]) == pytest.approx(0.05)
    assert len(budget.plan(0.05, 3)) == 3
    assert budget.plan(0.05, 0) == Budget(3.0, 0).plan(0.05, 100) == ()
    assert budget.plan(0.05, 1) == (pytest.approx(gamma_of(3.0)),)
    assert len(Budget(0.12, 8).plan(0.25, 8)) == 1, "what begins below the last level has no other to visit"


def test_impossible_processes_are_refused():
    with pytest.raises(ModelError, match="prediction"):
        ProcessSpec(prediction="x0")
    for impossible in ({"last": 0.0}, {"eta": math.nan}, {"gain": -3.0}, {"agreement": 0.0}):
        with pytest.raises(ModelError, match="impossible process"):
            ProcessSpec(**impossible)
    with pytest.raises(ModelError, match="schedule"):
        ScheduleSpec(first=0.5, last=0.1)


def test_sigma_d_brings_residuals_to_unit_variance():
    residuals = 0.03 * torch.randn(4, 3, 64, 64)
    assert (residuals / measure_sigma_d(residuals)).square().mean().sqrt().item() == pytest.approx(1.0, abs=1e-5)
