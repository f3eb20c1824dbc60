"""RDDM's process: the paper's equations, its kinship with DDPM and DDIM, and the traps of its authors' code."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from rngcli.cli.commands import app
from rngcli.diffusion.operators import Mask, Seen
from rngcli.diffusion.rddm import Point, Ramp, RDDMSpec, ResidualDenoisingDiffusion, from_ddpm, to_ddpm, walk
from rngcli.errors import ModelError, UsageError
from rngcli.inference.engine import Job, denoise
from rngcli.inference.pipeline import Pipeline
from rngcli.methods import methods_of, open_method
from rngcli.methods.contract import STATE, Request, Step
from rngcli.models.bundle import load, save
from tests.tiny import random_bundle

PAPER = RDDMSpec(Ramp(1, falling=True), Ramp(1), variance=0.25)
SPECS = {
    "residual alone": RDDMSpec(),
    "residual": PAPER,
    "noise": RDDMSpec(Ramp(1, falling=True), Ramp(1), variance=0.25, prediction="noise", start=0.8),
    "both": RDDMSpec(Ramp(1, falling=True), Ramp(1), variance=0.25, prediction="both"),
    "ancestral": RDDMSpec(Ramp(1, falling=True), Ramp(1), variance=0.25, prediction="both", eta=1.0),
    "residual first": RDDMSpec(Ramp(0, first=0.5), Ramp(0, last=0.5), variance=0.25, prediction="both"),
    "noise first": RDDMSpec(Ramp(0, last=0.5), Ramp(0, first=0.5), variance=0.25, prediction="both"),
}


def pictures(count=2, dtype=torch.float32):
    """(clean, noisy), each (count, 3, 8, 8), as different as pictures can be."""
    return torch.rand(count, 3, 8, 8, dtype=dtype), torch.rand(count, 3, 8, 8, dtype=dtype)


def point(alpha, beta):
    return Point(torch.tensor(alpha, dtype=torch.float64), torch.tensor(beta, dtype=torch.float64))


def sampled(process, predict, noisy, steps, seed=0):
    """Î_0 from a start of its own and as many steps."""
    generator = torch.Generator().manual_seed(seed)

    def draw():
        return torch.randn(noisy.shape, generator=generator, dtype=noisy.dtype)

    levels = [noisy.new_full((len(noisy),), u) for u in (*process.levels(steps), process.end)]
    state = process.begin(levels[0], draw(), noisy)
    for level, after in pairwise(levels):
        state = process.step(state, predict(state, level), level, after, draw(), noisy)
    return state


def oracle(process, clean, noisy):
    """A network that knows the clean picture, and answers what training would have asked for."""

    def predict(state, level):
        alpha, beta = process.at(level, state)
        left = state - clean - alpha * (noisy - clean)
        return process.target(clean, level, torch.where(beta > 0, left / beta, 0), noisy)

    return predict


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("steps", [1, 2, 5, 1000])
def test_a_known_residual_and_noise_give_the_clean_picture_back(spec, steps):
    process = ResidualDenoisingDiffusion(spec)
    clean, noisy = pictures()
    sample = sampled(process, oracle(process, clean, noisy), noisy, steps)
    torch.testing.assert_close(sample, clean, atol=1e-5, rtol=0)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_deterministic_walk_stays_on_the_forward_process(spec):
    process = ResidualDenoisingDiffusion(spec)
    clean, noisy = pictures(dtype=torch.float64)
    noise, fresh = torch.randn_like(clean), torch.zeros_like(clean)
    u, after = torch.tensor([0.7, 0.3]).double(), torch.tensor([0.4, 0.1]).double()
    state = process.corrupt(clean, u, noise, noisy)
    answer = process.target(clean, u, noise, noisy)
    deterministic = ResidualDenoisingDiffusion(RDDMSpec(**{**vars(spec), "eta": 0.0}))
    expected = process.corrupt(clean, after, noise, noisy)
    torch.testing.assert_close(deterministic.step(state, answer, u, after, fresh, noisy), expected, atol=1e-12, rtol=0)


def test_the_schedules_are_the_papers_sums():
    steps = torch.arange(1, 1001, dtype=torch.float64)
    for power in (0, 1, 2, 3.5):
        rising = (steps / 1000) ** power
        falling = ((1001 - steps) / 1000) ** power
        for ramp, table in ((Ramp(power), rising), (Ramp(power, falling=True), falling)):
            sums = table.cumsum(0) / table.sum()
            torch.testing.assert_close(ramp(steps / 1000), sums, atol=2e-3, rtol=0)
    alpha, beta = ResidualDenoisingDiffusion(PAPER).at(torch.tensor([0.25]).double(), steps)
    assert alpha.item() == pytest.approx(2 * 0.25 - 0.25**2)
    assert beta.item() == pytest.approx(0.5 * 0.25)


def test_alpha_and_beta_are_zero_at_the_clean_picture_and_whole_at_the_other_end():
    """Upstream pads ᾱ_0 with 1 and divides by 1e-6 where ᾱ = 1."""
    for spec in SPECS.values():
        ends = ResidualDenoisingDiffusion(spec).at(torch.tensor([0.0, 1.0]), torch.zeros(1))
        assert ends.alpha.flatten().tolist() == [0, 1]
        assert ends.beta.flatten().tolist() == pytest.approx([0, math.sqrt(spec.variance)])


def test_no_noise_is_no_noise():
    """Upstream, sum_scale = 0 silently becomes 0.01."""
    process = ResidualDenoisingDiffusion(RDDMSpec(variance=0.0))
    clean, noisy = pictures()
    level, noise = torch.tensor([1.0, 0.5]), torch.randn_like(clean)
    assert torch.equal(process.begin(level, noise, noisy), noisy)
    torch.testing.assert_close(process.corrupt(clean, level, noise, noisy)[1], (clean[1] + noisy[1]) / 2)


def test_a_residual_as_large_as_the_range_is_not_clamped():
    """Upstream clamps the residual to half of what it can be."""
    process = ResidualDenoisingDiffusion(RDDMSpec())
    clean, noisy = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 1.5)
    sample = sampled(process, oracle(process, clean, noisy), noisy, 4)
    torch.testing.assert_close(sample, clean, atol=1e-5, rtol=0)


def test_eta_counts_for_restoration_too():
    """Upstream ignores η wherever there is a picture to restore."""
    clean, noisy = pictures()
    level, after = torch.tensor([0.8, 0.8]), torch.tensor([0.4, 0.4])
    first, second = torch.randn_like(clean), torch.randn_like(clean)
    for eta, same in ((0.0, True), (1.0, False)):
        process = ResidualDenoisingDiffusion(RDDMSpec(**{**vars(PAPER), "eta": eta}))
        steps = [process.step(noisy, clean, level, after, noise, noisy) for noise in (first, second)]
        assert torch.equal(*steps) == same


def test_the_ancestral_step_is_the_papers_posterior():
    """Mean I_t − α_t·I_res − (β_t²/β̄_t)·ε, variance β_t²·β̄_{t−1}²/β̄_t²."""
    state, residual, noise, fresh = torch.randn(4, 1, 3, 8, 8, dtype=torch.float64)
    now, after = (point(*p) for p in ((0.75, 0.4), (0.6, 0.3)))
    start = state - now.alpha * residual - now.beta * noise
    beta2 = now.beta**2 - after.beta**2
    mean = state - (now.alpha - after.alpha) * residual - beta2 / now.beta * noise
    deviation = (beta2 * after.beta**2 / now.beta**2).sqrt()
    step = walk(state, start, residual, (now, after), 1.0, fresh)
    torch.testing.assert_close(step, mean + deviation * fresh, atol=1e-12, rtol=0)


def test_without_noise_of_its_own_a_step_shrinks_what_is_left_of_the_seen():
    process = ResidualDenoisingDiffusion(RDDMSpec())
    (state, estimate), noisy = pictures(), torch.rand(2, 3, 8, 8)
    level, after = torch.tensor([0.8, 0.5]), torch.tensor([0.6, 0.1])
    ratio = (after / level)[:, None, None, None]
    step = process.step(state, noisy - estimate, level, after, torch.zeros_like(state), noisy)
    torch.testing.assert_close(step, estimate + ratio * (state - estimate), atol=1e-6, rtol=0)


def test_a_batch_of_mixed_levels_equals_its_tiles_one_by_one():
    for spec in SPECS.values():
        process = ResidualDenoisingDiffusion(spec)
        state, noise, noisy = (torch.randn(4, 3, 8, 8) for _ in range(3))
        answer = torch.randn(4, 6 if spec.prediction == "both" else 3, 8, 8)
        level, after = torch.tensor([0.8, 0.5, 0.1, 0.3]), torch.tensor([0.6, 0.1, 0.0, 0.0])
        arguments = (state, answer, level, after, noise, noisy)
        apart = [process.step(*(x[i : i + 1] for x in arguments)) for i in range(4)]
        assert torch.equal(process.step(*arguments), torch.cat(apart))


def test_one_seed_one_sample():
    process = ResidualDenoisingDiffusion(SPECS["ancestral"])
    noisy = torch.rand(2, 3, 8, 8)

    def predict(state, level):
        return torch.cat([0.1 * state, state - noisy], dim=1)

    first, again, other = (sampled(process, predict, noisy, 5, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# --- kinship with DDPM and DDIM ----------------------------------------------------------------------------------


def test_the_transform_to_ddpm_and_back():
    gamma = torch.linspace(0.999, 1e-4, 50, dtype=torch.float64)
    back, scale = to_ddpm(from_ddpm(gamma))
    torch.testing.assert_close(back, gamma, atol=1e-12, rtol=0)
    torch.testing.assert_close(scale, torch.ones_like(scale), atol=1e-12, rtol=0)


def test_any_point_is_a_state_of_ddpm_once_it_is_scaled():
    clean, noisy = pictures(1, torch.float64)
    noise = torch.randn_like(clean)
    at = point(0.3, 1.7)
    state = clean + at.alpha * (noisy - clean) + at.beta * noise
    gamma, scale = to_ddpm(at)
    expected = gamma.sqrt() * clean + (1 - gamma).sqrt() * noise
    torch.testing.assert_close(scale * (state - at.alpha * noisy), expected, atol=1e-12, rtol=0)


def denoiser(picture):
    """Anything that is not linear."""
    return torch.tanh(1.3 * picture - 0.2 * picture.roll(1, -1))


@pytest.mark.parametrize("eta", [0, 1], ids=["DDIM", "DDPM"])
def test_generation_is_ddim_and_ddpm(eta):
    """I_in = 0. DDPM's posterior has 1/γ' times the variance of RDDM's, whose forward process keeps the signal."""
    gammas = torch.cat([torch.linspace(0.05, 0.999, 20), torch.ones(1)]).double()
    x = state = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    for gamma, after in pairwise(gammas):
        fresh = torch.randn_like(x)
        start = denoiser(x / gamma.sqrt())
        noise = (x - gamma.sqrt() * start) / (1 - gamma).sqrt()
        variance = eta * (1 - after) / (1 - gamma) * (1 - gamma / after)
        x = after.sqrt() * start + (1 - after - variance).sqrt() * noise + variance.sqrt() * fresh
        start = denoiser(state / gamma.sqrt())
        state = walk(state, start, -start, (from_ddpm(gamma), from_ddpm(after)), eta / float(after), fresh)
        torch.testing.assert_close(state, x, atol=1e-12, rtol=0)


def test_partial_path_independence():
    """Residual and noise on three different paths through the same σ_z = β̄/(1 − ᾱ) give the same sample."""
    x, noise = torch.rand(1, 3, 8, 8, dtype=torch.float64), torch.randn(1, 3, 8, 8, dtype=torch.float64)
    known = 0.01  # σ_n²

    def fused(state, at):
        """The average of the two views of y that x and the state are, by their precisions."""
        signal = 1 - at.alpha
        both = at.beta**2 + signal**2 * known
        return at.beta**2 / both * x + signal * known / both * (state - at.alpha * x)

    def along(path):
        points = [point(*p) for p in (*path, (0.0, 0.0))]
        state = x + points[0].beta * noise
        for now, after in pairwise(points):
            start = denoiser(fused(state, now))
            state = walk(state, start, x - start, (now, after), 0.0, torch.zeros_like(state))
        return state

    sigmas = (2.0, 0.5, 0.2, 0.05)
    residual_first = [(1, 0.5), *((max(0, 1 - 0.3 / s), min(0.3, s)) for s in sigmas)]
    noise_tiny = [(1, 0.05), *((max(0, 1 - 0.01 / s), 0.01) for s in sigmas)]
    residual_at_once = [(1, 0.7), *((0.0, s) for s in sigmas)]
    one, two, three = map(along, (residual_first, noise_tiny, residual_at_once))
    torch.testing.assert_close(one, two, atol=1e-12, rtol=0)
    torch.testing.assert_close(one, three, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prediction": "x0"},
        {"variance": -0.1},
        {"eta": 2.0},
        {"start": 0.0},
        {"prediction": "noise"},  # variance 0: there is none to predict
        {"prediction": "noise", "variance": 0.25},  # at ᾱ = 1 it says nothing of the picture
    ],
)
def test_impossible_processes_are_refused(wrong):
    with pytest.raises(ModelError):
        RDDMSpec(**wrong)


def test_impossible_schedules_are_refused():
    with pytest.raises(ModelError, match="schedule"):
        Ramp(-1)
    with pytest.raises(ModelError, match="schedule"):
        Ramp(first=0.6, last=0.5)


# --- the method --------------------------------------------------------------------------------------------------


def square(picture=0, size=288):
    torch.manual_seed(picture)
    return torch.rand(1, 3, size, size)


def test_the_method_is_the_one_view_walk():
    """I' = ŷ + (τ'/τ)(I − ŷ) from I = x down to 0, five evaluations in all."""
    bundle = random_bundle()
    net, x = bundle.networks["nafnet"], square()
    state = x
    for i in range(5):
        estimate = net(state)
        state = estimate + (4 - i) / (5 - i) * (state - estimate)
    method = open_method(bundle, "rddm")
    held, (plan,) = method.start(Seen(x, torch.ones(1, 1, 288, 288), torch.tensor([math.nan])), Request())
    levels = [torch.tensor([u]) for u in (*plan, method.end)]
    held[STATE] = method.begin(held, levels[0], torch.zeros_like(x))
    for now, after in pairwise(levels):
        held[STATE] = method.step(held, Step(now, after, torch.zeros_like(x)))
    base, generated = method.finish(held)
    torch.testing.assert_close(base, net(x))
    torch.testing.assert_close(base + method.unit * generated, state, atol=1e-5, rtol=0)


def test_the_method_in_a_batch_of_mixed_levels_equals_its_tiles_one_by_one():
    method = open_method(random_bundle(), "rddm")
    seen = Seen(torch.rand(3, 3, 288, 288), torch.ones(3, 1, 288, 288), torch.full((3,), math.nan))
    held, _ = method.start(seen, Request())
    held[STATE] = torch.rand(3, 3, 288, 288)
    step = Step(torch.tensor([0.8, 0.4, 0.2]), torch.tensor([0.6, 0.2, 0.0]), torch.zeros(3, 3, 288, 288))
    together = method.step(held, step)
    for i in range(3):
        one = {key: value[i : i + 1] for key, value in held.items()}
        alone = method.step(one, Step(step.now[i : i + 1], step.after[i : i + 1], step.noise[i : i + 1]))
        torch.testing.assert_close(alone, together[i : i + 1], atol=1e-5, rtol=0)


def walked(bundle, **request):
    """(pixels, evaluations after the reconstruction) of a small picture, by the engine."""
    pipeline = Pipeline(bundle, "cpu", "fp32", 1, method="rddm")
    (result,) = denoise([Job("a", square(1, 40)[0].permute(1, 2, 0).numpy())], pipeline, Request(**request))
    return result.pixels, result.steps.item()


def test_steps_and_detail_are_the_users():
    bundle = random_bundle()
    reconstruction, none = walked(bundle, detail=0)
    assert none == 0
    for request, steps in (({}, 4), ({"max_steps": 2}, 2), ({"steps": 9}, 9), ({"steps": 9, "max_steps": 3}, 3)):
        assert walked(bundle, **request)[1] == steps
    assert np.array_equal(walked(bundle, max_steps=0)[0], reconstruction)
    whole, half = walked(bundle)[0], walked(bundle, detail=0.5)[0]
    assert np.abs(whole - reconstruction).max() > 0.01
    unclipped = (abs(whole - 0.5) < 0.5) & (abs(reconstruction - 0.5) < 0.5)
    np.testing.assert_allclose(half[unclipped], ((whole + reconstruction) / 2)[unclipped], atol=1e-5)


def test_a_bundle_with_a_reconstruction_has_the_method():
    assert list(methods_of(random_bundle())) == ["rng", "rddm", "diffpir"]
    assert {"rng", "rddm", "diffpir"} <= set(methods_of(load("rng-s")))
    with pytest.raises(UsageError, match="takes noise away"):
        open_method(random_bundle(), "rddm", operator=Mask())


def test_the_command_walks(tmp_path):
    save(random_bundle(), tmp_path / "tiny.safetensors")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)).save(tmp_path / "a.png")
    arguments = [str(tmp_path / name) for name in ("a.png", "out.png")]
    options = ["--model", str(tmp_path / "tiny.safetensors"), "--device", "cpu", "--max-steps", "2", "--json"]
    done = CliRunner().invoke(app, ["denoise", *arguments, "--method", "rddm", *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[0])["steps"] == 2
    assert Image.open(tmp_path / "out.png").size == (30, 40)
