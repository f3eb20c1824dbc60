"""A camera's noise measured on its own noisy photographs is the noise that was put into them."""

import numpy as np
import pytest
import torch

from rngcli.data.camera_noise import LEVELS, PATCH, CameraNoise, measure
from rngcli.errors import NoInputError
from tests.cameras import grainy, herringbone


def scene(seed, height=320, width=320, texture=0.0):
    """Broad light and shade with a few edges; `texture`: fine detail all over, of that contrast. (H, W, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    light = 0.5 + 0.42 * np.sin(6 * (x * rng.normal() + y * rng.normal()) + rng.uniform(0, 6))
    colour = light[..., None] * rng.uniform(0.9, 1.1, 3)
    stripes = np.sign(np.sin(2 * np.pi * 40 * x))[..., None]
    return (colour + texture * stripes).clip(0.03, 0.97)


def tensor(pixels):
    return torch.from_numpy(pixels).float().permute(2, 0, 1)


def statistics(noise):
    """Correlation of neighbours across and down, and of two colours; noise (N, 3, H, W)."""
    noise = noise - noise.mean(dim=(2, 3), keepdim=True)
    power = noise.square().mean()
    across = (noise[..., 1:] * noise[..., :-1]).mean() / power
    down = (noise[..., 1:, :] * noise[..., :-1, :]).mean() / power
    colours = (noise[:, 0] * noise[:, 1]).mean() / power
    return torch.stack([across, down, colours])


@pytest.fixture(scope="module")
def camera():
    return measure([tensor(grainy(scene(i), i)) for i in range(21)])


def test_noise_is_as_strong_as_the_cameras_at_every_brightness(camera):
    assert len(camera) == 2, "small photographs are measured a megapixel at a time"
    flat = torch.linspace(0.1, 0.9, 9)[:, None, None, None].expand(-1, 3, 256, 256)
    true = torch.stack([tensor(grainy(y.permute(1, 2, 0).double().numpy(), 7)) for y in flat])
    ours = torch.cat([camera[0].add_to(y[None], torch.Generator().manual_seed(7)) for y in flat])
    ratio = (ours - flat).std(dim=(1, 2, 3)) / (true - flat).std(dim=(1, 2, 3))
    assert (ratio[1:-1] - 1).abs().max() < 0.15
    assert (ratio - 1).abs().max() < 0.3, "where there is little of one brightness, too"


def test_noise_is_correlated_as_the_cameras(camera):
    clean = np.full((384, 384, 3), 0.5)
    true = statistics((tensor(grainy(clean, 3)) - 0.5)[None])
    for noise in camera:
        ours = statistics(noise.field((1, 3, 384, 384), torch.Generator().manual_seed(0)))
        assert (ours - true).abs().max() < 0.06, (ours, true)
        assert noise.field((2, 3, 400, 300), torch.Generator().manual_seed(1)).std() == pytest.approx(1, abs=0.05)


def test_a_weave_keeps_its_frequency_and_its_slant():
    """A narrow band of frequencies, of which no statistic of neighbours tells the sign of the slant."""

    def peak(noise):
        power = torch.fft.fft2(noise.mean(dim=1)).abs().square().mean(dim=0)  # (128, 128)
        down, across = (power.argmax() // 128, power.argmax() % 128)
        return torch.tensor([down, across]) * (1 if across < 64 else -1) % 128 / 128

    flat = torch.from_numpy(np.stack([herringbone(np.full((128, 128, 3), 0.5), i) for i in range(8)])).permute(
        0, 3, 1, 2
    )
    noise = measure([tensor(herringbone(scene(i), i)) for i in range(9)])[0]
    ours = noise.field((8, 3, 128, 128), torch.Generator().manual_seed(0))
    assert (peak(ours) - peak(flat - 0.5)).abs().max() < 0.03, (peak(ours), peak(flat - 0.5))
    assert (peak(ours) - torch.tensor([0.12, 0.21])).abs().max() < 0.03


def test_rows_that_are_off_stay_off(camera):
    """Over the width of a patch, beyond which the measurement does not see."""

    def rows(noise):
        return (noise[..., :PATCH].mean(dim=(1, 3)) / noise.std()).std()

    flat = np.full((384, 96, 3), 0.5)
    true = [float(rows((tensor(grainy(flat, i)) - 0.5)[None])) for i in range(4)]
    ours = [float(rows(camera[0].field((1, 3, 384, 96), torch.Generator().manual_seed(i)))) for i in range(4)]
    assert np.mean(ours) == pytest.approx(np.mean(true), rel=0.2), "the noise has rows of its own"


def test_texture_is_not_taken_for_noise():
    """One photograph is nowhere flat where it is dark: there the others say how strong its noise is."""
    flat = [tensor(grainy(scene(i, 1000, 1000), i)) for i in range(2)]
    dark = scene(0, 1000, 1000, texture=0.25)
    textured = tensor(grainy(np.where(scene(0, 1000, 1000) < 0.5, dark, scene(0, 1000, 1000)), 9))
    found = measure([*flat, textured])
    assert len(found) == 3
    ratio = found[2].sigma / found[0].sigma
    assert ratio.max() < 1.35
    assert ratio.min() > 0.75


def test_strength_goes_by_brightness_alone_and_evenly():
    noise = CameraNoise(torch.arange(LEVELS).expand(3, -1) / 100, torch.zeros(3, 3, PATCH, PATCH))
    light = torch.tensor([0.0, 0.5 / LEVELS, 2.0 / LEVELS, 1.0])
    strength = noise.strength(light[None, None, None].expand(1, 3, 1, -1))
    assert torch.allclose(strength[0, 0, 0], torch.tensor([0, 0, 0.015, 0.15]), atol=1e-6)


def test_a_seed_is_a_picture_of_any_size(camera):
    for size in ((20, 30), (48, 100), (97, 61)):
        clean = torch.full((1, 3, *size), 0.4)
        first, again, other = (camera[0].add_to(clean, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
        assert first.shape == clean.shape
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert torch.equal((first * 255).round() / 255, first), "as 8-bit files hold it"


@pytest.mark.parametrize("photographs", [[], [torch.full((3, 20, 20), 0.5)], [torch.ones(3, 300, 300)]])
def test_what_shows_no_noise_is_refused(photographs):
    with pytest.raises(NoInputError, match="fewer than"):
        measure(photographs)
