"""No seam can be measured: on a smooth noisy ramp, tile borders have the gradient that everywhere else has."""

import numpy as np
import pytest

from rngcli.checkpoint import load
from rngcli.pipeline import TILE, Pipeline, Request
from rngcli.seams import ALLOWED, HEIGHT, WIDTH, border_ratio, border_ratios
from rngcli.shelf import available
from rngcli.tiling import Grid


@pytest.mark.skipif(not available(), reason="no model is shipped in this checkout")
@pytest.mark.parametrize(
    "request_", [Request(detail=0), Request(budget=10), Request(steps=4)], ids=["reconstruction", "generation", "steps"]
)
def test_tile_borders_have_the_gradient_of_elsewhere(request_):
    assert border_ratios(Pipeline(load(), "cpu"), request_) == pytest.approx((1, 1), abs=ALLOWED)


@pytest.mark.parametrize("direction", [0, 1])
def test_the_measure_sees_a_seam(direction):
    grid = Grid(HEIGHT, WIDTH, TILE)
    axis = (grid.y, grid.x)[direction]
    picture = np.random.default_rng(1).normal(0.5, 0.01, (HEIGHT, WIDTH, 3))
    assert border_ratio(picture, axis, direction) == pytest.approx(1, abs=ALLOWED)
    seam = axis.start(2) + 16
    stepped = picture + 0.05 * (np.indices(picture.shape[:2])[direction] >= seam)[..., None]
    assert border_ratio(stepped, axis, direction) > 1 + ALLOWED


def test_the_measure_sees_two_textures_average_out():
    grid = Grid(HEIGHT, WIDTH, TILE)
    picture = np.random.default_rng(1).normal(0.5, 0.01, (HEIGHT, WIDTH, 3))
    for k in range(1, grid.x.count):
        blend = slice(grid.x.start(k) + grid.x.discard, grid.x.start(k) + grid.x.overlap - grid.x.discard)
        picture[:, blend] = 0.5 + (picture[:, blend] - 0.5) * 0.9
    assert border_ratio(picture, grid.x, 1) < 1 - ALLOWED
