"""DiffPIR's process: half-quadratic splitting as in the paper, and the traps of its authors' code."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from typer.testing import CliRunner

from rngcli.cli.commands import app
from rngcli.diffusion import kernels
from rngcli.diffusion.hqs import HalfQuadraticSplitting, HQSSpec
from rngcli.diffusion.operators import TAPER, Blur, Decimate, Identity, Mask, Seen, interpolated
from rngcli.errors import ModelError, UsageError
from rngcli.inference import tiling
from rngcli.inference.engine import Job
from rngcli.inference.engine import denoise as run_engine
from rngcli.inference.pipeline import Pipeline
from rngcli.methods import diffpir, open_method
from rngcli.methods.contract import STATE, Request, Step
from rngcli.methods.diffpir import frame_of
from rngcli.methods.rng import RnGParts
from rngcli.models.bundle import save
from rngcli.nets.contrast import KNOWN, denoise
from rngcli.nets.nafnet import NAFNet, NAFNetSpec
from tests.tiny import random_bundle


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


# --- the method --------------------------------------------------------------------------------------------------

OPERATORS = {
    "identity": Identity(),
    "mask": Mask(),
    "blur": Blur(kernels.gaussian(1.6)),
    "far": Blur(kernels.motion(110, 20)),
    "x2": Decimate(kernels.gaussian(1.0), 2),
    "x3": Decimate(kernels.gaussian(1.5), 3),
    "x4": Decimate(kernels.gaussian(2.0), 4),
}


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_a_frame_exceeds_what_its_operator_reaches(operator):
    frame = frame_of(operator)
    assert frame.context >= operator.margin + (2 * TAPER if operator.margin else 0)
    assert 220 <= frame.scale * frame.tile[0] <= 256
    assert frame.tile[0] in frame.sides
    for side in frame.sides:
        assert frame.scale * (side + 2 * frame.context) % 16 == 0, "the network would pad"
        assert frame.scale * (side - frame.overlap) % 16 == 0, "tiles would lie otherwise to the network's strides"
    assert 0 < 2 * frame.discard < frame.overlap


def smoothing_bundle():
    """A denoiser of a kind: a network that answers each pixel's mean over 3×3, twice."""
    net = NAFNet(NAFNetSpec(8, (1,), 1, (1,)))
    with torch.no_grad():
        for layer in (net.intro, net.ending, *net.ups[0]):
            for parameter in layer.parameters():
                parameter.zero_()
        for c in range(3):
            net.intro.weight[c, c] = net.ending.weight[c, c] = 1 / 9
            net.intro.weight[3 + c, c, 1, 1] = 1  # the picture itself, and away with it: a NAFNet answers a correction
            net.ending.weight[c, 3 + c, 1, 1] = -1
    return RnGParts(net.eval().requires_grad_(False)).bundle()


def test_the_denoiser_of_these_tests_smooths():
    x = torch.rand(1, 3, 32, 32)
    net = smoothing_bundle().networks["nafnet"]
    torch.testing.assert_close(net(x)[..., 2:-2, 2:-2], F.avg_pool2d(F.avg_pool2d(x, 3, 1), 3, 1))


def blocks(height, width, side=9):
    rng = np.random.default_rng(0)
    coarse = rng.random((-(-height // side), -(-width // side), 3), np.float32)
    return (0.2 + 0.6 * coarse).repeat(side, 0).repeat(side, 1)[:height, :width]


def seen_by(operator, picture, sigma=0.0):
    """What an operator and noise leave of a picture (H, W, 3)."""
    y = torch.from_numpy(picture).permute(2, 0, 1)[None]
    pixels = operator.apply(y) if isinstance(operator, Decimate) else y
    return (pixels + sigma * torch.randn(pixels.shape))[0].permute(1, 2, 0).numpy()


def restored(operator, pixels, valid=None, bundle=None, capacity=1, **request):
    pipeline = Pipeline(bundle or smoothing_bundle(), "cpu", "fp32", capacity, "diffpir", operator)
    (result,) = run_engine([Job("a", pixels, valid)], pipeline, Request(**request))
    return result


@pytest.mark.parametrize("name", ["blur", "x2", "x3", "x4"])
def test_what_is_restored_would_be_seen_as_it_was(name):
    """Whatever the denoiser thinks, the measurement is met, and at the right places: one pixel aside it is not."""
    operator, picture, inside = OPERATORS[name], blocks(192, 144, 12), slice(8, -8)
    pixels = seen_by(operator, picture, 0.004)
    result = restored(operator, pixels, sigma=0.004, max_steps=4)
    assert result.pixels.shape == picture.shape
    assert result.steps.tolist() == [[4]]

    def misfit(restored):
        return np.sqrt(((seen_by(operator, restored) - pixels)[inside, inside] ** 2).mean())

    plain = interpolated(torch.from_numpy(pixels).permute(2, 0, 1)[None], operator.scale)[0].permute(1, 2, 0).numpy()
    assert misfit(result.pixels) < min(0.7 * misfit(plain), 0.4 * misfit(np.roll(result.pixels, 1, axis=1)))


def test_measured_pixels_stay_and_holes_are_filled():
    picture = blocks(60, 70)
    valid = np.random.default_rng(1).random(picture.shape[:2]) > 0.4
    result = restored(Mask(), picture * valid[..., None], valid, sigma=0.0)
    assert np.abs(result.pixels - picture)[valid].max() < 1e-6
    hole = (result.pixels - picture)[~valid]
    assert (hole**2).mean() < 0.1 * (picture[~valid] ** 2).mean()


@pytest.mark.parametrize("name", ["identity", "blur", "x2"])
def test_neighbours_and_batches_change_nothing_that_can_be_seen(name):
    operator = OPERATORS[name]
    pixels = seen_by(operator, blocks(264, 264), 0.05)
    one, many = (restored(operator, pixels, bundle=random_bundle(), capacity=n, steps=2).pixels for n in (1, 3))
    assert np.abs(one - many).max() < 0.5 / 255


@pytest.mark.parametrize("name", ["blur", "x2", "mask"])
def test_no_tile_knows_where_the_grid_lies(name, monkeypatch):
    operator, valid = OPERATORS[name], None
    pixels = seen_by(operator, blocks(288, 264), 0.02)
    if name == "mask":
        valid = np.random.default_rng(1).random(pixels.shape[:2]) > 0.4
    whole = restored(operator, pixels, valid, sigma=0.02, steps=3)
    monkeypatch.setattr(tiling, "SPLIT", 128)
    monkeypatch.setattr(tiling, "LARGEST", 160**2)
    cut = restored(operator, pixels, valid, sigma=0.02, steps=3)
    assert (len(whole.grid), len(cut.grid) >= 4) == (1, True)
    assert np.abs(whole.pixels - cut.pixels).mean() < 0.1 / 255
    assert np.abs(whole.pixels - cut.pixels).max() < 8 / 255


def test_one_seed_one_picture():
    pixels = seen_by(OPERATORS["blur"], blocks(40, 40), 0.02)
    first, again, other = (restored(OPERATORS["blur"], pixels, seed=seed, steps=4).pixels for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_in_a_batch_of_mixed_levels_it_equals_its_tiles_one_by_one():
    method = open_method(random_bundle(), "diffpir", operator=OPERATORS["x2"])
    wide, _ = method.frame.wide
    sigma = torch.tensor([0.0, 0.02, 0.5])
    held, plans = method.start(Seen(torch.rand(3, 3, wide, wide), torch.ones(3, 1, wide, wide), sigma), Request())
    assert [len(plan) for plan in plans] == [20, 20, 20]
    assert plans[2][0] == pytest.approx(0.5), "no less noise than the measurement has"
    noise = torch.randn(3, 3, 2 * wide, 2 * wide)
    held[STATE] = method.begin(held, torch.tensor([0.4, 0.2, 0.5]), noise)
    step = Step(torch.tensor([0.4, 0.1, 0.02]), torch.tensor([0.3, 0.05, 0.0]), noise)
    together = method.step(held, step)
    for i in range(3):
        one = {key: value[i : i + 1] for key, value in held.items()}
        alone = method.step(one, Step(*(part[i : i + 1] for part in (step.now, step.after, step.noise))))
        torch.testing.assert_close(alone, together[i : i + 1], atol=1e-4, rtol=0)


def test_a_picture_without_noise_is_denoised_in_one_evaluation():
    result = restored(Identity(), blocks(40, 40), sigma=0.0)
    assert result.steps.tolist() == [[1]]
    assert np.abs(result.pixels - blocks(40, 40)).max() < 1e-6


def test_the_noise_is_estimated_where_nobody_says_it(monkeypatch):
    asked = []
    monkeypatch.setattr(diffpir.DiffPIR, "_plan", lambda self, sigma, steps: asked.append(sigma) or ())
    noisy = np.float32(0.5 + 0.1 * np.random.default_rng(0).standard_normal((200, 200, 3)))
    restored(Identity(), noisy)
    restored(Identity(), noisy, sigma=0.3)
    assert asked == [pytest.approx(0.1, rel=0.05), pytest.approx(0.3)]


# --- the commands ------------------------------------------------------------------------------------------------


@pytest.fixture
def rng(tmp_path):
    """`rng …` on the folder `in`, with a network that smooths."""
    save(smoothing_bundle(), tmp_path / "tiny.safetensors")
    (tmp_path / "in").mkdir()

    def invoke(*arguments, out="out"):
        model = ["--model", str(tmp_path / "tiny.safetensors"), "--device", "cpu", "--precision", "fp32"]
        places = [str(tmp_path / "in"), str(tmp_path / out)]
        return CliRunner().invoke(app, [*arguments[:2], *places, *model, *arguments[2:]])

    invoke.root = tmp_path
    return invoke


def write(path, pixels):
    Image.fromarray(np.uint8(np.rint(255 * pixels.clip(0, 1)))).save(path)


def read(path):
    return np.asarray(Image.open(path), np.float32) / 255


def test_deblur_by_a_name_and_by_a_picture_of_the_kernel(rng):
    picture, kernel = blocks(120, 160), kernels.motion(7, 0)
    write(rng.root / "in" / "a.png", seen_by(Blur(kernel), picture))
    write(rng.root / "kernel.png", (kernel / kernel.max()).numpy())
    done = rng("restore", "deblur", "--kernel", "motion:7,0", "--max-steps", "8")
    assert done.exit_code == 0, done.output
    done = rng("restore", "deblur", "--kernel", str(rng.root / "kernel.png"), "--max-steps", "8", out="two")
    assert done.exit_code == 0, done.output
    seen, named, drawn = (read(rng.root / folder / "a.png") for folder in ("in", "out", "two"))
    inner = np.s_[10:-10, 10:-10]  # this picture wraps around at its border, which no photograph does
    assert ((named - picture)[inner] ** 2).mean() < 0.7 * ((seen - picture)[inner] ** 2).mean()
    assert np.abs(named - drawn).max() < 4 / 255


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_upscale_keeps_alpha_and_makes_the_picture_larger(rng, scale):
    pixels = np.dstack([blocks(20, 30), np.full((20, 30), 0.6)])
    write(rng.root / "in" / "a.png", pixels)
    done = rng("restore", "upscale", "--scale", str(scale), "--max-steps", "3", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[0])["steps"] == 3
    large = read(rng.root / "out" / "a.png")
    assert large.shape == (20 * scale, 30 * scale, 4)
    assert large[..., 3] == pytest.approx(0.6, abs=0.01)


def test_no_dng_is_made_larger(rng):
    write(rng.root / "in" / "a.png", blocks(20, 30))
    done = rng("restore", "upscale", "--scale", "2", "--format", "dng")
    assert isinstance(done.exception, UsageError)
    assert "at their own size" in str(done.exception)


def test_inpaint_goes_by_masks_and_one_that_is_missing_stops_no_other(rng):
    picture, masks = blocks(40, 50), rng.root / "masks"
    masks.mkdir()
    hole = np.zeros((40, 50), np.float32)
    hole[10:14, 20:30] = 1
    for name in ("a.png", "b.png", "c.png"):
        write(rng.root / "in" / name, picture * (1 - hole[..., None]))
    write(masks / "a.png", hole)
    write(masks / "c.png", hole[:30])
    done = rng("restore", "inpaint", "--mask", str(masks))
    assert done.exit_code == 1
    assert "no mask" in done.stderr
    assert "50×30" in done.stderr
    found = read(rng.root / "out" / "a.png")
    assert np.abs(found - picture)[hole == 0].max() < 0.6 / 255
    assert np.abs(found - picture)[hole > 0].mean() < 0.5 * picture[hole > 0].mean()
    assert not (rng.root / "out" / "b.png").exists()


def test_a_second_run_skips_what_is_done_until_mask_or_kernel_change(rng):
    write(rng.root / "in" / "a.png", blocks(30, 30))
    write(rng.root / "mask.png", np.eye(30, dtype=np.float32))
    inpaint = ("restore", "inpaint", "--mask", str(rng.root / "mask.png"), "--max-steps", "1", "--json")
    deblur = ("restore", "deblur", "--max-steps", "1", "--json", "--kernel")

    def done(*command):
        return json.loads(rng(*command, out=command[1]).stdout.splitlines()[-1])["summary"]["done"]

    assert [done(*inpaint), done(*inpaint)] == [1, 0]
    write(rng.root / "mask.png", np.eye(30, dtype=np.float32)[::-1])
    assert done(*inpaint) == 1
    assert [done(*deblur, kernel) for kernel in ("gaussian:1", "gaussian:1", "gaussian:2")] == [1, 0, 1]


def test_what_cannot_be_meant_is_refused(rng):
    write(rng.root / "in" / "a.png", blocks(30, 30))
    for words, command in {
        "no blur kernel": ("restore", "deblur", "--kernel", "box:3"),
        "reaches": ("restore", "deblur", "--kernel", "gaussian:20"),
        "there is no mask": ("restore", "inpaint", "--mask", "nowhere"),
        "neither auto nor a noise level": ("denoise", "--method", "--sigma", "much"),
        "rng has no option --sigma": ("denoise", "--method", "--sigma", "3"),
    }.items():
        if command[0] == "denoise":
            places = [str(rng.root / "in"), str(rng.root / "out"), "--model", str(rng.root / "tiny.safetensors")]
            refused = CliRunner().invoke(app, ["denoise", *places, "--device", "cpu", "--detail", "0", *command[2:]])
        else:
            refused = rng(*command)
        assert isinstance(refused.exception, UsageError), refused.output
        assert words in str(refused.exception)
    assert not list(rng.root.glob("out/*.png"))


def test_denoise_by_diffpir(rng):
    write(rng.root / "in" / "a.png", blocks(30, 30))
    places = [str(rng.root / "in"), str(rng.root / "out"), "--model", str(rng.root / "tiny.safetensors")]
    options = ["--method", "diffpir", "--sigma", "10", "--device", "cpu", "--json"]
    done = CliRunner().invoke(app, ["denoise", *places, *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[0])["steps"] == 5
