"""Degradations are what they claim: noise of the right strength, no bias, and a JPEG that a real encoder would know."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from rngcli.data.degrade import SHARP, DegradeSpec, add_gaussian, degrade, only
from rngcli.data.jpeg_sim import jpeg
from rngcli.data.noise_reduction import reduce_noise
from rngcli.data.sensors import CameraSpec, add_camera_noise


@pytest.fixture
def photo():
    """(1, 3, 96, 96): coarse shapes with some grain, as photographs have."""
    coarse = Image.fromarray(np.random.default_rng(0).integers(30, 220, (7, 7, 3), np.uint8)).resize((96, 96))
    return torch.from_numpy(np.asarray(coarse, np.float32) / 255).permute(2, 0, 1)[None]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("sigma", [0, 25, 50])
def test_gaussian_noise_has_its_sigma_and_is_neither_clipped_nor_rounded(photo, sigma):
    noise = add_gaussian(photo.expand(16, -1, -1, -1), (sigma, sigma), generator()) - photo
    assert noise.std().item() * 255 == pytest.approx(sigma, rel=0.02, abs=1e-6)
    assert abs(noise.mean().item()) * 255 < 0.02 * sigma + 1e-6


def test_the_same_generator_gives_the_same_batch(photo):
    batch = photo.expand(8, -1, -1, -1)
    once, twice, other = (torch.cat(degrade(batch, DegradeSpec(), generator(seed))) for seed in (3, 3, 4))
    assert torch.equal(once, twice)
    assert not torch.equal(once, other)


def test_a_soft_picture_is_soft_by_the_sigma_asked_for_and_no_lighter():
    point = torch.zeros(4, 3, 32, 32)
    point[..., 16, 16] = 1
    soft, _ = degrade(point, only("camera", blur_share=(1, 1), blur=(1.2, 1.2)), generator())
    along = torch.arange(32) - 16.0
    for weights in (soft.sum(dim=2), soft.sum(dim=3)):  # over rows, over columns
        assert torch.allclose(weights.sum(dim=2), torch.ones(4, 3), atol=1e-5)
        assert torch.allclose((weights * along).sum(dim=2), torch.zeros(4, 3), atol=1e-4)
        variance = (weights * along**2).sum(dim=2)
        assert torch.allclose(variance, torch.full((4, 3), 1.2**2), rtol=0.02)  # taps end at 3 to 4 σ


def test_softness_is_dealt_out_by_the_kind_of_noise_and_the_noise_comes_after_it(photo):
    batch = photo.expand(20, -1, -1, -1)
    spec = DegradeSpec(0.7, {"camera": 1}, (10, 10), blur_share=(0, 1), levels_share=0)
    soft, _ = degrade(batch, spec, generator())
    changed = (soft != batch).flatten(1).any(dim=1)
    assert not changed[:14].any()
    assert changed[14:].all()
    spec = only("awgn", sigma=(10, 10), clipped_share=0, blur_share=(1, 0), blur=(2, 2))
    soft, noisy = degrade(batch, spec, generator())
    assert (noisy - soft).std().item() * 255 == pytest.approx(10, rel=0.02)
    some, _ = degrade(photo.expand(400, -1, -1, -1)[..., :16, :16], only("awgn", blur_share=(0.25, 0)), generator())
    assert (some != photo[..., :16, :16]).flatten(1).any(dim=1).float().mean().item() == pytest.approx(0.25, abs=0.07)


@pytest.mark.parametrize("gaussian_share", [0.0, 1.0])
def test_either_kind_of_noise_may_be_the_only_one(photo, gaussian_share):
    clean, noisy = degrade(photo, DegradeSpec(gaussian_share, blur_share=(1, 1), levels_share=0), generator())
    assert clean.shape == noisy.shape == photo.shape
    assert not torch.equal(clean, photo)


def test_sharp_pictures_stay_as_they_are(photo):
    spec = DegradeSpec(others={"camera": 1}, blur_share=SHARP, levels_share=0)
    clean, _ = degrade(photo.expand(10, -1, -1, -1), spec, generator())
    assert torch.equal(clean, photo.expand(10, -1, -1, -1))


def test_camera_noise_is_in_range_grows_with_the_exposure_and_leaves_a_quiet_sensor_alone(photo):
    batch = photo.expand(32, -1, -1, -1)
    errors = []
    for shot in (1e-9, 1e-3, 1e-2):
        spec = CameraSpec(shot=(shot, shot), jpeg_share=0.0)
        noisy = add_camera_noise(batch, spec, generator())
        assert noisy.min() >= 0
        assert noisy.max() <= 1
        errors.append((noisy - batch).square().mean().sqrt().item() * 255)
    assert errors[0] < 0.5
    assert errors[0] < errors[1] < errors[2]


def test_the_mosaic_correlates_neighbouring_pixels(photo):
    noise = add_camera_noise(photo.expand(16, -1, -1, -1), CameraSpec(jpeg_share=0.0), generator()) - photo
    correlation = neighbours_alike(noise.mean(1))
    assert correlation[:8].mean() > 0.2  # the first half passes through the mosaic
    assert correlation[8:].mean() < correlation[:8].mean() - 0.1


def neighbours_alike(noise):
    """The correlation of each picture's plane (N, H, W) with itself one pixel to the right, (N,)."""
    left, right = noise[..., :-1].flatten(1), noise[..., 1:].flatten(1)
    return (left * right).mean(1) / (left.std(1) * right.std(1))


def test_a_camera_takes_grain_from_the_noise_and_more_of_it_in_colour(photo):
    batch = (0.2 + 0.6 * photo).expand(64, -1, -1, -1)  # far from where noise would be clipped
    white = 0.02 * torch.randn(batch.shape, generator=generator())
    reduction = CameraSpec().grain, CameraSpec().blotch
    assert torch.equal(reduce_noise(batch, batch, *reduction, generator()), batch), "the picture itself stays"
    left = reduce_noise(batch + white, batch, *reduction, generator()) - batch
    light, colour = left.mean(1), left[:, 0] - left[:, 1]
    assert neighbours_alike(white.mean(1)).abs().max() < 0.1
    assert neighbours_alike(light).mean() > 0.2
    assert neighbours_alike(colour).mean() > neighbours_alike(light).mean() + 0.1
    untouched = (left - white).flatten(1).abs().amax(1) < 1e-5
    assert 4 <= untouched.sum() <= 24, "a fifth"


@pytest.mark.parametrize("quality", [60, 75, 95])
def test_our_jpeg_errs_as_a_real_encoder_does(photo, quality):
    noisy = (photo + 0.03 * torch.randn(photo.shape, generator=generator())).clamp(0, 1)
    ours = jpeg(noisy, torch.full((1, 1, 1, 1), float(quality)))
    file = io.BytesIO()
    stored = (noisy[0].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(stored).save(file, "JPEG", quality=quality, subsampling=2)
    theirs = torch.from_numpy(np.asarray(Image.open(file), np.float32) / 255).permute(2, 0, 1)[None]
    rms = [(x - noisy).square().mean().sqrt().item() for x in (ours, theirs)]
    assert rms[0] == pytest.approx(rms[1], rel=0.1)
    assert (ours - theirs).square().mean().sqrt().item() < 0.5 * rms[1]
