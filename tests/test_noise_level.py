"""The noise level of a picture is found from the picture alone, whatever else is in it."""

import warnings

import numpy as np
import pytest

from rngcli.inference.noise_level import noise_level


def scene(height=240, width=320):
    """Soft light, edges, and a patch of texture."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    light = 0.5 + 0.2 * np.sin(x / 50) * np.cos(y / 40)
    light[60:120, 80:200] += 0.2
    light[150:, :100] += 0.1 * rng.standard_normal((height - 150, 100))
    return np.float32(np.dstack([light, 0.9 * light, 0.8 * light]).clip(0.05, 0.95))


def noise(shape, sigma):
    return np.float32(sigma / 255 * np.random.default_rng(1).standard_normal(shape))


@pytest.mark.parametrize("sigma", [2.5, 10, 25, 50])
def test_white_noise_is_measured_through_edges_and_texture(sigma):
    picture = scene()
    assert 255 * noise_level(picture + noise(picture.shape, sigma)) == pytest.approx(sigma, rel=0.06)


@pytest.mark.parametrize("sigma", [2.5, 10, 25])
def test_files_of_8_bits_are_measured_as_well(sigma):
    picture = scene()
    seen = np.rint(255 * (picture + noise(picture.shape, sigma)).clip(0, 1)) / 255
    assert 255 * noise_level(np.float32(seen)) == pytest.approx(sigma, rel=0.06)


def test_a_picture_without_noise_has_none():
    assert 255 * noise_level(scene()) < 0.5
    assert noise_level(np.full((64, 64, 3), 0.3, np.float32)) == 0


def test_black_and_white_areas_do_not_hide_the_noise():
    picture = scene()
    picture[:100], picture[100:140] = 0, 1
    seen = (picture + noise(picture.shape, 20)).clip(0, 1)
    assert 255 * noise_level(seen) == pytest.approx(20, rel=0.08)


def test_holes_are_passed_over():
    picture = scene()
    valid = np.random.default_rng(2).random(picture.shape[:2]) > 0.3
    seen = (picture + noise(picture.shape, 12)) * valid[..., None]
    assert 255 * noise_level(seen, valid) == pytest.approx(12, rel=0.25)
    boxes = np.ones(picture.shape[:2], bool)
    boxes[::40, :] = False
    assert 255 * noise_level((picture + noise(picture.shape, 12)) * boxes[..., None], boxes) == pytest.approx(
        12, rel=0.1
    )
    assert noise_level(seen, np.zeros_like(valid)) == 0


@pytest.mark.parametrize("size", [(1, 1), (2, 50), (3, 3), (15, 17), (16, 16), (5, 900)])
def test_any_size_has_a_level(size):
    assert 0 <= noise_level(np.random.default_rng(0).random((*size, 3), np.float32)) < 1


def test_a_strip_of_three_pixels_warns_of_nothing():
    strip = np.float32(0.5 + noise((3, 320, 3), 5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 255 * noise_level(strip) == pytest.approx(5, rel=0.25)
