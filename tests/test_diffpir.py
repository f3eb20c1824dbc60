"""DiffPIR's process: half-quadratic splitting as in the paper, and the traps of its authors' code."""

from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from rngcli.diffusion import kernels
from rngcli.diffusion.hqs import HalfQuadraticSplitting, HQSSpec
from rngcli.diffusion.operators import Blur, Identity, Seen
from rngcli.errors import ModelError
from rngcli.nets.contrast import KNOWN, denoise


def sampled(process, predict, first, steps, seed=0):
    """x̂_0 from a start of its own and as many steps."""
    generator = torch.Generator().manual_seed(seed)

    def draw():
        return torch.randn(first.shape, generator=generator, dtype=first.dtype)

    levels = [first.new_full((len(first),), sigma) for sigma in (*process.levels(steps), process.end)]
    state = process.begin(levels[0], draw(), first)
    for level, after in pairwise(levels):
        state = process.step(state, predict(state, level), level, after, draw(), first)
    return state


@pytest.mark.parametrize("zeta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 5, 100])
def test_a_denoiser_that_knows_gives_the_clean_picture_back(zeta, steps):
    process = HalfQuadraticSplitting(HQSSpec(zeta=zeta))
    clean, first = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    sample = sampled(process, lambda state, level: process.target(clean, level, state), first, steps)
    torch.testing.assert_close(sample, clean, atol=1e-5, rtol=0)


def test_no_evaluation_is_discarded():
    """Upstream evaluates a last time and returns the state before, with noise of 1.3 of 255 in it."""
    process = HalfQuadraticSplitting(HQSSpec())
    first, answers = torch.rand(1, 3, 8, 8), []

    def predict(state, level):
        answers.append(state.tanh())
        return answers[-1]

    sample = sampled(process, predict, first, 5)
    assert len(answers) == 5
    assert torch.equal(sample, answers[-1])


def test_a_deterministic_walk_stays_on_the_forward_process():
    process = HalfQuadraticSplitting(HQSSpec(zeta=0.0))
    clean, noise = torch.rand(2, 2, 3, 8, 8, dtype=torch.float64)
    level, after = torch.tensor([0.8, 0.3]), torch.tensor([0.2, 0.1])
    state = process.corrupt(clean, level, noise)
    step = process.step(state, clean, level, after, torch.zeros_like(noise))
    torch.testing.assert_close(step, process.corrupt(clean, after, noise), atol=1e-12, rtol=0)


@pytest.mark.parametrize("zeta", [0.0, 0.3, 1.0])
def test_it_is_the_papers_algorithm_in_the_papers_coordinates(zeta):
    """Algorithm 1 on [−1, 1], x_t = √γ·x_0 + √(1 − γ)·ε with the authors' λ = 4·λ; for H = 1 and a blur."""
    sigma_n, trust = 0.05, 0.6
    process = HalfQuadraticSplitting(HQSSpec(trust=trust, zeta=zeta))
    pixels = torch.rand(1, 3, 16, 16, dtype=torch.float64)
    noise = [torch.randn_like(pixels) for _ in range(6)]
    sigmas = torch.tensor(process.levels(5), dtype=torch.float64)
    seen = Seen(pixels, torch.ones(1, 1, 16, 16).double(), torch.tensor([sigma_n], dtype=torch.float64))

    state = process.begin(sigmas[:1], noise[0], pixels)
    for i, (sigma, after) in enumerate(pairwise([*sigmas, torch.tensor(0.0).double()])):
        answer = Identity().meet(torch.tanh(state), seen, process.variance(sigma[None]))
        state = process.step(state, answer, sigma[None], after[None], noise[i + 1])

    gammas = [1 / (1 + (2 * sigma) ** 2) for sigma in (*sigmas, torch.tensor(0.0).double())]
    y, x = 2 * pixels - 1, gammas[0].sqrt() * (2 * pixels - 1) + (1 - gammas[0]).sqrt() * noise[0]
    for i, (gamma, after) in enumerate(pairwise(gammas)):
        x0 = 2 * torch.tanh((x / gamma.sqrt() + 1) / 2) - 1  # the denoiser's answer
        rho = 4 * trust * sigma_n**2 / ((1 - gamma) / gamma)
        x0 = (y + rho * x0) / (1 + rho)  # argmin ‖y − x‖² + ρ‖x − x0‖²
        eps = (x - gamma.sqrt() * x0) / (1 - gamma).sqrt()
        eps = (1 - zeta) ** 0.5 * eps + zeta**0.5 * noise[i + 1]
        x = after.sqrt() * x0 + (1 - after).sqrt() * eps
    torch.testing.assert_close(2 * state - 1, x, atol=1e-12, rtol=0)


def test_a_batch_of_mixed_levels_equals_its_tiles_one_by_one():
    process = HalfQuadraticSplitting(HQSSpec(zeta=0.4))
    level, after = torch.tensor([1.0, 0.5, 0.1, 0.02]), torch.tensor([0.7, 0.1, 0.05, 0.0])
    arguments = (*torch.randn(2, 4, 3, 8, 8), level, after, torch.randn(4, 3, 8, 8))
    apart = [process.step(*(x[i : i + 1] for x in arguments)) for i in range(4)]
    assert torch.equal(process.step(*arguments), torch.cat(apart))
    assert torch.equal(process.variance(level), level**2 / process.spec.trust)


def test_one_seed_one_sample():
    """Upstream's noise has no seed."""
    process = HalfQuadraticSplitting(HQSSpec(zeta=0.5))
    first = torch.rand(1, 3, 8, 8)
    runs = [sampled(process, lambda state, level: state.tanh(), first, 5, seed) for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_the_levels_fall_evenly_in_the_logarithm():
    process = HalfQuadraticSplitting(HQSSpec(start=0.8, last=0.05))
    levels = torch.tensor(process.levels(5))
    assert levels[[0, -1]].tolist() == pytest.approx([0.8, 0.05])
    torch.testing.assert_close(levels[1:] / levels[:-1], torch.full((4,), (0.05 / 0.8) ** 0.25))
    assert process.levels(1) == (0.8,)
    assert process.levels(0) == ()


@pytest.mark.parametrize("zeta", [0.0, 1.0])
def test_a_simple_prior_and_the_measurement_find_what_neither_does_alone(zeta):
    """Black and white blocks, blurred; the prior knows that pixels are black or white and like their neighbours."""
    rng = torch.Generator().manual_seed(0)
    clean = (torch.rand(1, 3, 8, 8, generator=rng) > 0.5).float().repeat_interleave(12, 2).repeat_interleave(12, 3)
    blur, process = Blur(kernels.gaussian(1.6)), HalfQuadraticSplitting(HQSSpec(zeta=zeta))
    pixels = blur.apply(clean) + 0.01 * torch.randn(clean.shape, generator=rng)
    seen = Seen(pixels, torch.ones(1, 1, 96, 96), torch.tensor([0.01]))

    def prior(state, level):
        mean = F.avg_pool2d(F.pad(state, (1, 1, 1, 1), mode="reflect"), 3, 1)
        return torch.sigmoid((mean - 0.5) * 9 / level[0] ** 2)

    def both(state, level):
        return blur.meet(prior(state, level), seen, process.variance(level))

    def error(x):
        return (x - clean)[..., 16:-16, 16:-16].square().mean().sqrt()

    first = blur.first(seen)
    together, alone = (error(sampled(process, predict, first, 12)) for predict in (both, prior))
    assert together < 0.5 * min(alone, error(first))


@pytest.mark.parametrize("wrong", [{"trust": 0}, {"zeta": 1.5}, {"last": 0}, {"start": 0.01, "last": 0.1}])
def test_impossible_processes_are_refused(wrong):
    with pytest.raises(ModelError, match="impossible"):
        HQSSpec(**wrong)


# --- any noise by contrast ---------------------------------------------------------------------------------------


def test_a_denoiser_never_sees_more_noise_than_it_knows():
    torch.manual_seed(0)
    sigma, shown = torch.tensor([0.01, 0.25, 1.0, 4.0]), []
    z = 0.5 + sigma[:, None, None, None] * torch.randn(4, 3, 64, 64)

    def net(x):
        shown.append(x)
        return x

    torch.testing.assert_close(denoise(net, z, sigma), z)
    deviation = shown[0].std(dim=(1, 2, 3))
    assert (deviation < 1.02 * KNOWN).all()
    assert deviation[0] == pytest.approx(0.01, rel=0.02)


def test_little_noise_is_left_to_the_network_as_it_is():
    z = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(denoise(torch.tanh, z, torch.full((2,), 1e-4)), torch.tanh(z))


def test_each_tile_has_a_contrast_of_its_own():
    z, sigma = torch.randn(3, 3, 8, 8), torch.tensor([0.05, 0.5, 2.0])
    apart = [denoise(torch.tanh, z[i : i + 1], sigma[i : i + 1]) for i in range(3)]
    assert torch.equal(denoise(torch.tanh, z, sigma), torch.cat(apart))
