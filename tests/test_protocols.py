"""Noise protocols do to a clean picture what their words say, and the same in every run."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rngcli.data import awgn, named, with_noise
from rngcli.data.protocols import PROTOCOLS, _bayer, _demosaic, _grain, check_noises, degraded
from rngcli.errors import UsageError


def ramp(height=96, width=128):
    """Grey from black to white, with a coloured third."""
    pixels = np.linspace(0, 1, width, dtype=np.float32)[None, :, None].repeat(height, 0).repeat(3, 2)
    pixels[: height // 3] *= np.array([0.9, 0.6, 0.3], np.float32)
    return pixels


def grey(level, side=96):
    return np.full((side, side, 3), level, np.float32)


@pytest.mark.parametrize("noise", PROTOCOLS)
def test_the_same_name_gives_the_same_noise_as_8_bits(noise):
    pixels = ramp(95, 127)  # odd sides too
    once, twice, other = (degraded(noise, pixels, key) for key in ("a/one", "b/one.png", "two"))
    for noisy, truth in (once, other):
        assert noisy.shape == truth.shape == pixels.shape
        assert noisy.dtype == truth.dtype == np.float32
        assert noisy.min() >= 0
        assert noisy.max() <= 1
        assert np.abs(noisy * 255 - np.round(noisy * 255)).max() < 1e-4
    assert np.array_equal(once[0], twice[0])
    assert not np.array_equal(once[0], other[0])


def test_night_is_dark_in_truth_too_and_clipped_at_black():
    noisy, truth = degraded("night", ramp(), "night")
    assert 0.1 < truth.max() < 0.5
    assert np.diff(truth[-1].mean(axis=1)).min() > -1e-3, "a ramp stays one"
    dark = noisy[40:, :8]
    assert (dark == 0).mean() > 0.2
    assert dark.mean() > truth[40:, :8].mean() + 1 / 255, "what is clipped is missing below"
    assert 18 < -10 * np.log10(np.square(noisy - truth).mean()) < 32


def test_the_night_s_demosaicing_keeps_its_samples_and_flat_colours():
    masks = _bayer((32, 33))
    assert masks.sum(axis=2).min() == masks.sum(axis=2).max() == 1
    colour = np.array([0.2, 0.5, 0.8])
    found = _demosaic((colour * masks).sum(axis=2), masks)
    assert np.abs(found - colour).max() < 1e-9


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_film_grain_is_a_boolean_model_of_discs(level):
    fine = _grain(np.full((128, 128), level), radius=0.5, lens=0.01, rng=np.random.RandomState(0))
    assert fine.mean() == pytest.approx(0, abs=0.01), "as much is covered as the picture is bright"
    wide = _grain(np.full((128, 128), level), radius=0.5, lens=1.0, rng=np.random.RandomState(0))
    middle = _grain(np.full((128, 128), 0.5), radius=0.5, lens=1.0, rng=np.random.RandomState(0))
    # Not exactly v(1 − v): grains overlap, and the more so the more there are (Newson et al. 2017).
    assert wide.std() == pytest.approx(middle.std() * (4 * level * (1 - level)) ** 0.5, rel=0.25)


def test_film_is_grain_in_light_more_than_in_colour():
    noisy, truth = degraded("film", grey(0.5), "roll")
    noise = noisy - truth
    light = noise @ np.array([0.299, 0.587, 0.114])
    assert 8 < light.std() * 255 < 30
    assert (noise[..., 2] - light).std() < 0.6 * light.std()
    assert (light[:, 1:] * light[:, :-1]).mean() / light.var() > 0.5


def test_coarse_noise_is_enlarged_with_its_picture():
    pixels = ramp()
    noisy, truth = degraded("coarse", pixels, "big")
    noise = noisy[:, 40:90] - truth[:, 40:90]
    assert (noise[:, 1:] * noise[:, :-1]).mean() / noise.var() > 0.4
    assert (noise[..., 0] * noise[..., 2]).mean() / noise.var() > 0.5, "light above all"
    slope = truth[-1, 100, 0] - truth[-1, 20, 0]
    assert 1 / 2.9 < slope / (pixels[-1, 100, 0] - pixels[-1, 20, 0]) < 1 / 1.9


def test_jpeg_is_pillow_s_and_its_noise_in_range():
    pixels = grey(0.5, 128)
    noisy, truth = degraded("jpeg", pixels, "web")
    assert np.array_equal(truth, pixels)
    assert 3 < (noisy - truth).std() * 255 < 20
    blocks = np.abs(np.diff(noisy.mean(axis=2), axis=1)).mean(axis=0)
    edges = blocks[7::8].mean()
    assert edges > 1.05 * np.delete(blocks, np.s_[7::8]).mean(), "8×8 blocks show"


def test_bands_run_along_rows_more_than_along_columns():
    noise = np.subtract(*degraded("bands", grey(0.5, 128), "hum"))
    rows, columns = noise.mean(axis=1), noise.mean(axis=0)
    assert 5 < rows.std() * 255 < 22
    assert 1.5 < columns.std() * 255 < 6
    rest = noise - rows[:, None] - columns
    assert 3.5 < rest.std() * 255 < 10.5


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.round(pixels * 255).astype(np.uint8)).save(path)


def test_a_folder_gives_one_benchmark_for_each_noise_and_sigma(tmp_path):
    save(tmp_path / "set/one.png", ramp())
    save(tmp_path / "set/two.png", ramp()[::-1])
    sets = with_noise(tmp_path / "set", [25, 50], ["awgn", "awgn8", "night"])
    assert [b.name for b in sets] == ["set σ=25", "set σ=50", "set 8-bit σ=25", "set 8-bit σ=50", "set night"]
    assert [b.sigma for b in sets] == [25, 50, 25, 50, None]
    assert len({b.protocol for b in sets}) == 5
    plain, _, clipped, _, night = (b.load("one") for b in sets)
    assert np.array_equal(plain.noisy, awgn(plain.clean, 25))
    assert np.array_equal(clipped.noisy, np.round(np.clip(plain.noisy, 0, 1) * 255).astype(np.float32) / 255)
    assert np.array_equal(night.noisy, degraded("night", plain.clean, "one")[0])
    assert night.clean.max() < plain.clean.max()


def test_named_sets_take_noises_and_real_ones_refuse_them(tmp_path):
    save(tmp_path / "kodak24/kodim01.png", ramp())
    film, bands = named("kodak24", tmp_path, noises=["film", "bands"])
    assert (film.name, bands.name) == ("kodak24 film", "kodak24 bands")
    assert "Boolean" in film.protocol
    assert "1 of the official 24 pictures" in film.protocol
    assert not np.array_equal(film.load("kodim01").noisy, bands.load("kodim01").noisy)
    with pytest.raises(UsageError, match="noise of its own"):
        named("polyu", tmp_path, noises=["film"])


@pytest.mark.parametrize(
    ("noises", "sigmas", "message"),
    [
        (["fog"], [], "no noise is called 'fog'"),
        (["awgn8"], [], "--sigma 15,25,50"),
        (["awgn", "night"], [], "--sigma 15,25,50"),
        (["night", "film"], [25], "leave out --sigma"),
    ],
)
def test_what_is_missing_or_too_much_is_said(noises, sigmas, message):
    with pytest.raises(UsageError) as caught:
        check_noises(noises, sigmas)
    assert message in str(caught.value)
