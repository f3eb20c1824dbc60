"""No seam can be measured: on a smooth noisy ramp, tile borders have the gradient that everywhere else has."""

import numpy as np
import pytest

from rngcli.checkpoint import load
from rngcli.engine import Job, denoise
from rngcli.pipeline import TILE, Pipeline, Request
from rngcli.shelf import available
from rngcli.tiling import Grid

HEIGHT, WIDTH = 1100, 1500
pytestmark = pytest.mark.skipif(not available(), reason="no model is shipped in this checkout")


@pytest.fixture(scope="module")
def noisy():
    y, x = np.mgrid[0 : 1 : HEIGHT * 1j, 0 : 1 : WIDTH * 1j]
    ramp = np.stack([0.2 + 0.5 * x, 0.7 - 0.4 * y, 0.3 + 0.2 * (x + y)], axis=-1)
    return (ramp + np.random.default_rng(0).normal(0, 25 / 255, ramp.shape)).astype(np.float32)


def border_ratio(picture, axis, direction):
    """Mean |gradient| across `direction` where tiles blend, over the mean elsewhere."""
    gradient = np.abs(np.diff(picture, axis=direction)).mean(axis=(1 - direction, 2))
    blended = np.zeros(len(gradient), bool)
    for k in range(1, axis.count):
        first = axis.start(k) + axis.discard
        blended[first - 1 : first + axis.overlap - 2 * axis.discard + 1] = True
    return gradient[blended].mean() / gradient[~blended].mean()


@pytest.mark.parametrize(
    "request_", [Request(detail=0), Request(budget=10), Request(steps=4)], ids=["reconstruction", "generation", "steps"]
)
def test_tile_borders_have_the_gradient_of_elsewhere(noisy, request_):
    (result,) = denoise([Job("ramp", noisy)], Pipeline(load(), "cpu"), request_)
    grid = Grid(HEIGHT, WIDTH, TILE)
    for axis, direction in ((grid.y, 0), (grid.x, 1)):
        assert border_ratio(result.pixels, axis, direction) == pytest.approx(1, abs=0.02)


def test_the_measure_sees_a_seam():
    grid = Grid(HEIGHT, WIDTH, TILE)
    picture = np.random.default_rng(1).normal(0.5, 0.01, (HEIGHT, WIDTH, 3))
    picture[:, grid.x.start(2) + 16 :] += 0.05
    assert border_ratio(picture, grid.x, 1) > 1.02
