"""A sensor counts photons, and its development is what it says: noise in its units, tones and colours without bias."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rngcli.data.development import (
    DEMOSAICINGS,
    TONE_CURVES,
    bilinear,
    demosaic,
    edge_directed,
    malvar,
    mosaic,
    smoothstep,
    smoothstep_to_linear,
    srgb,
    srgb_to_linear,
)
from rngcli.data.noise_reduction import ReductionSpec
from rngcli.data.sensors import SensorSpec, _noise, banding, expose, tukey


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def quiet(**changes):
    """A binned sensor with nothing but photons."""
    reduction = ReductionSpec(reduced_share=0.0, sharpened_share=0.0)
    plain = SensorSpec(
        (1.0, 1.0), (50.0, 50.0), (1e-3, 1e-3), (0.14, 0.14), (0, 0), (1e-9, 1e-9), (14, 14), 0.0, (0, 0), 0.0,
        reduction, jpeg_share=0.0,
    )  # fmt: skip
    return replace(plain, **changes)


def noise_of(level, spec, photons=50.0, exposure=1.0, n=8, side=96):
    light = torch.full((n, 3, side, side), float(level))
    numbers = (torch.full((n, 1, 1, 1), value) for value in (photons, exposure))
    return _noise(light, *numbers, spec, generator())


@pytest.mark.parametrize("level", [0.02, 0.1, 0.5])
def test_photons_have_poisson_s_mean_variance_and_skew(level):
    noise = noise_of(level, quiet()).double()
    count = level * 50
    assert noise.mean().item() * 50 == pytest.approx(0, abs=0.02 * max(1, count**0.5))
    assert (noise * 50).var().item() == pytest.approx(count, rel=0.03)
    assert ((noise**3).mean() / noise.var() ** 1.5).item() == pytest.approx(count**-0.5, rel=0.15)


def test_read_noise_adds_its_variance_and_black_clips_it_or_does_not():
    spec = quiet(read=(3.0, 3.0))
    free, clipped = noise_of(0.02, spec), noise_of(0.02, replace(spec, black_share=1.0))
    assert (free * 50).var().item() == pytest.approx(1 + 9, rel=0.03)
    assert free.mean().item() * 50 == pytest.approx(0, abs=0.05)
    assert free.min() < -0.02
    assert clipped.min().item() == pytest.approx(-0.02, abs=1e-6)
    assert clipped.mean().item() * 50 > 0.7


@pytest.mark.parametrize("shape", [-0.25, -0.1, 0.0, 0.14])
def test_tukey_s_noise_has_unit_variance_and_heavier_tails_the_smaller_lambda_is(shape):
    noise = tukey(torch.Size((16, 1, 128, 128)), (shape, shape), generator()).double()
    assert noise.var().item() == pytest.approx(1, rel=0.05)
    beyond = (noise.abs() > 4).double().mean().item()
    assert beyond < 2e-4 if shape == 0.14 else beyond > 5e-4


def test_rows_are_offset_by_their_sigma_and_columns_by_a_third():
    bands = banding(torch.Size((64, 1, 96, 128)), (2.0, 2.0), generator())
    rows, columns = bands.mean(dim=3), bands.mean(dim=2)
    assert rows.std(dim=-1).mean().item() == pytest.approx(2, rel=0.05)
    assert columns.std(dim=-1).mean().item() == pytest.approx(2 / 3, rel=0.05)
    rest = bands - bands.mean(dim=3, keepdim=True) - bands.mean(dim=2, keepdim=True)
    assert rest.std(dim=(2, 3)).max() < 1e-5, "nothing else"


def test_hot_samples_are_as_many_as_asked_for_and_as_bright_as_the_full_scale():
    noise = noise_of(0.0, quiet(hot=(0.01, 0.01)), exposure=0.1)
    hot = noise > 0.1
    assert hot.float().mean().item() == pytest.approx(0.01 * 0.99, rel=0.1)
    assert noise.max().item() == pytest.approx(10, rel=0.02)  # of a scene's white at a tenth of the full scale


def test_a_coarse_converter_rounds_its_noise():
    noise = noise_of(0.5, quiet(bits=(4, 4), read=(4.0, 4.0)))
    steps = (noise + 0.5) / (1 / 16)
    assert (steps - steps.round()).abs().max() < 1e-3


# --- development -------------------------------------------------------------------------------------------------


def develop_shape():
    return (torch.linspace(0, 1, 64).expand(1, 3, 64, 64) + torch.linspace(0, 1, 64)[:, None]) / 2


@pytest.mark.parametrize("name", DEMOSAICINGS)
def test_demosaicing_keeps_flat_colours_and_ramps(name):
    colour = torch.tensor([0.2, 0.5, 0.8])[None, :, None, None]
    for picture in (colour.expand(1, 3, 32, 32), colour * develop_shape()):
        samples = mosaic(picture)
        found = demosaic(name, samples, samples.sum(dim=1, keepdim=True))
        inside = np.s_[..., 4:-4, 4:-4]
        assert (found - picture)[inside].abs().max() < 2e-3
        sampled = samples != 0
        assert torch.allclose(found[sampled], picture[sampled], atol=1e-5)


def test_demosaicings_correlate_noise_each_in_its_own_way():
    white = torch.randn(16, 3, 64, 64, generator=generator())
    samples = mosaic(white)
    spread = {name: demosaic(name, samples, samples.sum(dim=1, keepdim=True)).var().item() for name in DEMOSAICINGS}
    # Of the samples of each colour, and of what is interpolated from two or four of them.
    energy = (1 / 4 + 1 / 2 * 1 / 2 + 1 / 4 * 1 / 4) * 2 / 3 + (1 / 2 + 1 / 2 * 1 / 4) / 3
    assert spread["bilinear"] == pytest.approx(energy, rel=0.03)
    assert spread["bilinear"] < spread["malvar"] < 2
    assert len({round(value, 2) for value in spread.values()}) == 3


def test_better_demosaicings_are_better_on_a_fine_pattern():
    angle = torch.arange(64.0)[:, None] * 1.3 + torch.arange(64.0) * 0.4
    picture = (0.5 + 0.3 * torch.sin(angle)).expand(1, 3, 64, 64)
    samples = mosaic(picture)
    inside = np.s_[..., 6:-6, 6:-6]

    def error(found):
        return (found - picture)[inside].square().mean()

    directed = edge_directed(samples, samples.sum(dim=1, keepdim=True))
    assert error(malvar(samples)) < 0.5 * error(bilinear(samples))
    assert error(directed) < 0.5 * error(bilinear(samples))


@pytest.mark.parametrize("curve", TONE_CURVES)
def test_tones_go_from_black_to_white_and_only_rise(curve):
    tones = curve(torch.linspace(0, 1, 500))
    assert tones[0] < 2e-3
    assert tones[-1].item() == pytest.approx(1, abs=1e-6)
    assert (tones.diff() > -1e-7).all()


@pytest.mark.parametrize(("curve", "inverse"), [(srgb, srgb_to_linear), (smoothstep, smoothstep_to_linear)])
def test_tones_come_back(curve, inverse):
    x = torch.linspace(0.01, 0.99, 99)
    assert torch.allclose(curve(inverse(x)), x, atol=1e-4)


# --- from light to picture ---------------------------------------------------------------------------------------


def test_a_dark_scene_has_a_dark_truth_unless_it_is_brightened():
    picture = 0.2 + 0.6 * develop_shape().expand(4, -1, -1, -1)
    many = quiet(photons=(1e6, 1e6))
    day = expose(picture, many, generator())[0]
    night, noisy = expose(picture, replace(many, exposure=(0.05, 0.05)), generator())
    bright = expose(picture, replace(many, exposure=(0.05, 0.05), brightened=(1, 1)), generator())[0]
    assert night.max() < 0.35
    assert torch.allclose(bright, day, atol=1e-4)
    assert (noisy - night).abs().mean() < 2e-3


def test_fewer_photons_mean_more_noise_and_shadows_are_the_noisiest_part():
    picture = develop_shape().expand(8, -1, -1, -1)
    errors = []
    for photons in (2000.0, 200.0, 20.0):
        truth, noisy = expose(picture, quiet(photons=(photons, photons)), generator())
        errors.append((noisy - truth).square().mean().sqrt().item())
    assert errors[0] < errors[1] < errors[2]


def test_highlights_are_clipped_in_truth_and_picture_alike():
    white = torch.ones(4, 3, 32, 32)
    truth, noisy = expose(white, quiet(photons=(100.0, 100.0)), generator())
    assert truth.min() > 0.99
    assert noisy.max() <= 1
    assert noisy.mean() < truth.mean() - 0.005, "noise around white has only one side"
