"""What comes out depends on the picture and on nothing else: not on size, batch, order, neighbours."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from rngcli.diffusion.residual import ProcessSpec
from rngcli.errors import ModelError
from rngcli.inference import pipeline
from rngcli.inference.engine import Job, denoise
from rngcli.inference.noise import gaussian_field
from rngcli.inference.pipeline import Pipeline
from rngcli.inference.tiling import LARGEST, SPLIT, Grid, fitted
from rngcli.methods.contract import SIDES, Frame, Request
from rngcli.methods.rng import USUAL_STEPS, RnGParts, first_noise, rng_of, with_rng
from rngcli.nets.nafnet import NAFNet
from tests.pretend_device import pretended_device
from tests.tiny import NAF, identity_bundle, random_bundle, scramble

SIZES = ((520, 30), (40, 600), (256, 256), (7, 9))


def pictures():
    rng = np.random.default_rng(0)
    return [Job(str(i), rng.random((*size, 3), np.float32) * (i + 1) / len(SIZES)) for i, size in enumerate(SIZES)]


def run(jobs, capacity=2, bundle=None, **request):
    pipeline = Pipeline(bundle or random_bundle(), "cpu", "fp32", capacity)
    return {r.key: r for r in denoise(jobs, pipeline, Request(**request))}


@pytest.mark.parametrize("size", [(1, 1), (5, 1400), (512, 512), (513, 600)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_identity_network_returns_the_picture(size, precision):
    x = np.random.default_rng(1).random((*size, 3), np.float32)
    (result,) = denoise([Job("x", x)], Pipeline(identity_bundle(), "cpu", precision, 2), Request(detail=0))
    assert np.abs(result.pixels - x).max() <= 2**-20, "also in bf16: 16 bits in, 16 bits out"
    assert result.steps.sum() == 0


def test_the_same_bits_alone_among_others_and_in_any_order():
    together, reversed_ = run(pictures()), run(pictures()[::-1])
    for job in pictures():
        alone = run([job])[job.key]
        for other in (together[job.key], reversed_[job.key]):
            assert np.array_equal(other.pixels, alone.pixels)
            assert np.array_equal(other.steps, alone.steps)
    assert len({int(s) for r in together.values() for s in r.steps.flat}) > 1, "the budgets are mixed"


def test_capacity_changes_no_more_than_rounding():
    one, three = run(pictures(), 1), run(pictures(), 3)
    for key in one:
        assert np.abs(one[key].pixels - three[key].pixels).max() < 1 / 255


def test_a_crop_is_restored_as_the_whole_picture_is():
    # Strides of 16 px begin at the same samples in both, and nothing pools over a tile.
    torch.manual_seed(0)
    net = scramble(NAFNet(replace(NAF, encoder=(1,) * 4, decoder=(1,) * 4, attention=False)))
    x = np.random.default_rng(0).random((590, 560, 3), np.float32)
    whole, part = run([Job("whole", x), Job("part", x[80:, 16:])], bundle=RnGParts(net).bundle(), detail=0).values()
    inside = np.s_[40:, 40:]
    np.testing.assert_allclose(whole.pixels[80:, 16:][inside], part.pixels[inside], atol=0.1 / 255)


def test_seed_and_detail_do_what_they_say():
    (job,) = pictures()[:1]
    plain, half, full, other = (
        run([job], **options)["0"].pixels
        for options in ({"detail": 0}, {"detail": 0.5}, {"detail": 1}, {"detail": 1, "seed": 1})
    )
    inside = (full > 0) & (full < 1) & (plain > 0) & (plain < 1)
    np.testing.assert_allclose((half - plain)[inside], (full - plain)[inside] / 2, atol=1e-5)
    assert not np.array_equal(full, other)


def test_steps_are_the_users_and_never_more_than_the_cap():
    (job,) = pictures()[:1]
    assert set(run([job], steps=3)["0"].steps.flat) == {3}
    assert set(run([job], steps=9, max_steps=2)["0"].steps.flat) == {2}
    assert run([job], max_steps=2)["0"].steps.max() <= 2
    assert run([job], max_steps=0)["0"].steps.max() == 0


def test_more_evaluations_than_usual_are_asked_for():
    bright = [Job("0", np.full((40, 40, 3), 0.99, np.float32))]
    fullest = rng_of(random_bundle()).budgets[-1].evaluations
    assert fullest > USUAL_STEPS > 1
    taken = {n: run(bright, max_steps=n)["0"].steps.max() for n in (None, 1, 3, 100)}
    assert taken == {None: USUAL_STEPS, 1: 1, 3: 3, 100: fullest}
    assert run(bright, budget=10)["0"].steps.max() == fullest, "a budget asked for by its number is spent whole"


def test_starts_tell_budgets_apart_that_are_alike_in_steps():
    dark, bright = (np.full((560, 560, 3), value, np.float32) for value in (0.0, 0.99))
    results = run([Job("dark", dark), Job("bright", bright)], max_steps=1)
    assert (results["dark"].starts == 0).all(), "nothing was generated"
    np.testing.assert_allclose(results["bright"].starts, 1, rtol=1e-6)
    one, ten = (run([Job("bright", bright)], budget=k, max_steps=1)["bright"] for k in (1, 10))
    assert (one.steps == ten.steps).all()
    np.testing.assert_allclose(one.starts / ten.starts, 0.1, rtol=1e-5)


def test_pictures_are_drawn_only_when_there_is_room():
    drawn = []

    def lazily():
        for job in [Job(str(i), np.zeros((560, 560, 3), np.float32)) for i in range(6)]:
            drawn.append(job.key)
            yield job

    results = denoise(lazily(), Pipeline(identity_bundle(), "cpu", "fp32", 2), Request(detail=0))
    next(results)
    assert len(drawn) <= 3


def test_a_picture_that_comes_out_as_no_number_fails_alone():
    bad = np.full((560, 560, 3), np.nan, np.float32)
    good = np.full((20, 20, 3), 0.5, np.float32)
    results = {r.key: r for r in denoise([Job("bad", bad), Job("good", good)],
                                         Pipeline(identity_bundle(), "cpu", "fp32", 2), Request(detail=0))}  # fmt: skip
    assert "no colours" in str(results["bad"].error)
    assert results["good"].error is None


def test_what_a_bundle_lacks_is_said_before_anything_runs():
    pipeline = Pipeline(identity_bundle(), "cpu", "fp32", 1)
    with pytest.raises(ModelError, match="no generator"):
        denoise([], pipeline, Request())


def test_stochastic_sampling_is_as_independent_of_the_batch():
    from dataclasses import replace

    bundle = random_bundle()
    bundle = with_rng(bundle, process=replace(rng_of(bundle).process, eta=1.0))
    together = run(pictures(), bundle=bundle)
    alone = run(pictures()[1:2], bundle=bundle)
    assert np.array_equal(together["1"].pixels, alone["1"].pixels)


def test_the_networks_of_a_bundle_are_left_as_they_are():
    bundle = random_bundle()
    Pipeline(bundle, "cpu", "bf16", 1)
    assert next(rng_of(bundle).nafnet.parameters()).dtype == torch.float32


def own_bundle():
    bundle = random_bundle()
    return with_rng(bundle, process=replace(rng_of(bundle).process, begins="own"))


def test_a_walk_from_the_picture_s_own_noise_needs_no_other():
    (job,) = pictures()[:1]
    base = run([job], bundle=own_bundle(), detail=0)["0"].pixels
    one, other = (run([job], bundle=own_bundle(), budget=10, seed=seed)["0"].pixels for seed in (0, 1))
    assert np.array_equal(one, other)
    assert np.abs(one - base).max() > 1e-3


@pytest.mark.parametrize(("begins", "drawn"), [("own", False), ("fresh", True)])
def test_noise_is_drawn_where_a_walk_begins_with_it_and_nowhere_else(monkeypatch, begins, drawn):
    drawings = []
    monkeypatch.setattr(pipeline, "gaussian_field", lambda *args: drawings.append(args) or gaussian_field(*args))
    bundle = random_bundle()
    bundle = with_rng(bundle, process=replace(rng_of(bundle).process, begins=begins))
    run(pictures()[:1], bundle=bundle, budget=10)
    assert bool(drawings) == drawn


def test_own_noise_has_unit_variance_and_a_clean_picture_has_none():
    process = ProcessSpec(sigma_d=0.03, begins="own")
    rng = torch.Generator().manual_seed(0)
    r, fresh, noise = (torch.randn(1, 3, 96, 96, generator=rng) for _ in range(3))
    strength = torch.linspace(0.05, 0.3, 96)
    own = first_noise(process, fresh, r + strength * noise, r)
    assert own[..., :48].std() == pytest.approx(1, abs=0.05)
    assert own[..., 48:].std() == pytest.approx(1, abs=0.05)
    assert first_noise(process, fresh, r + 1e-4 * noise, r).abs().max() < 0.1
    assert first_noise(replace(process, begins="fresh"), fresh, r, r) is fresh
    with pytest.raises(ModelError, match="unknown noise"):
        ProcessSpec(begins="mine")


def test_a_frame_fits_the_picture():
    frame = Frame(sides=SIDES)
    whole = {
        (1, 1): (128, 128),
        (129, 5): (160, 128),
        (20, 257): (128, 288),
        (321, 481): (352, 512),
        (512, 768): (512, 768),
    }
    split = {(800, 1200): (800, 448), (683, 1024): (704, 544), (3000, 4000): (640, 608), (4000, 6000): (704, 576)}
    for size, tile in (whole | split).items():
        assert fitted(frame, *size) == replace(frame, tile=tile)
    assert fitted(Frame(), 10, 10) == Frame(), "there is no choice"


def test_on_a_gpu_pictures_share_their_batches():
    with pretended_device():
        pipeline = Pipeline(random_bundle(), "cuda", "fp32", 2)
        tiles = [pipeline.fitting(*size).frame.tile for size in ((800, 1200), (300, 20), (3000, 4000), (250, 9))]
    assert tiles == [(512, 512), (512, 128), (512, 512), (256, 128)]


def test_no_other_tile_would_show_the_networks_fewer_pixels():
    rng = np.random.default_rng(7)
    sides = [side for side in SIDES if side >= SPLIT]
    frames = [Frame(tile=tile) for tile in product(sides, sides) if math.prod(tile) <= LARGEST]
    for height, width in rng.integers(500, 5000, (8, 2)).tolist():
        seen = {frame.tile: len(Grid.of(height, width, frame)) * math.prod(frame.wide) for frame in frames}
        assert seen[fitted(Frame(sides=SIDES), height, width).tile] == min(seen.values())


def test_thumbnails_have_smaller_tiles_whatever_comes_between_them():
    rng = np.random.default_rng(5)
    sizes = ((90, 100), (300, 20), (128, 128), (200, 250), (520, 30), (64, 64))
    jobs = [Job(str(size), rng.random((*size, 3), np.float32)) for size in sizes]
    together = run(jobs, steps=2)
    assert [together[job.key].grid.tile for job in jobs] == [
        (128, 128), (320, 128), (128, 128), (224, 256), (544, 128), (128, 128)
    ]  # fmt: skip
    for job in jobs:
        alone = run([job], steps=2)[job.key].pixels
        assert alone.shape == job.pixels.shape
        assert np.array_equal(alone, together[job.key].pixels)


def test_a_pipeline_keeps_the_slots_of_each_frame():
    pipeline = Pipeline(random_bundle(), "cpu", "fp32", 2)
    small = pipeline.fitting(50, 60)
    assert small is pipeline.fitting(128, 1)
    assert pipeline.fitting(500, 500) is pipeline
    assert (small.frame.tile, pipeline.frame.tile) == ((128, 128), (512, 512))
    assert small.slots.held["x"].shape[-2:] == (192, 192)
    assert pipeline.slots.held["x"].shape[-2:] == (576, 576)


def test_noise_may_be_taken_for_stronger_than_it_looks():
    (job,) = pictures()[:1]
    plain, stronger = (run([job], detail=0, noise_scale=scale)["0"].pixels for scale in (1.0, 2.0))
    assert np.abs(stronger - plain).max() > 1e-3
    same = run([job], bundle=identity_bundle(), detail=0, noise_scale=2.0)["0"].pixels
    assert np.abs(same - job.pixels).max() < 1e-5
