"""No seam can be measured: on a smooth noisy ramp, tile borders have the gradient that everywhere else has."""

import numpy as np
import pytest
import torch

from rngcli.inference.pipeline import Pipeline
from rngcli.inference.seams import ALLOWED, HEIGHT, WIDTH, border_ratio, border_ratios
from rngcli.inference.tiling import Grid
from rngcli.methods.contract import Request
from rngcli.methods.rng import rng_of, with_rng
from rngcli.models.bundle import load
from rngcli.models.model_zoo import available
from rngcli.nets.unet import UNet
from rngcli.training.agreement import with_agreement
from tests.tiny import GEN, random_bundle


@pytest.mark.skipif(not available(), reason="no model is shipped in this checkout")
@pytest.mark.parametrize(
    "request_", [Request(detail=0), Request(budget=10), Request(steps=4)], ids=["reconstruction", "generation", "steps"]
)
def test_tile_borders_have_the_gradient_of_elsewhere(request_):
    assert border_ratios(Pipeline(load(), "cpu"), request_) == pytest.approx((1, 1), abs=ALLOWED)


@pytest.mark.parametrize("direction", [0, 1])
def test_the_measure_sees_a_seam(direction):
    grid = Grid(HEIGHT, WIDTH)
    axis = (grid.y, grid.x)[direction]
    picture = np.random.default_rng(1).normal(0.5, 0.01, (HEIGHT, WIDTH, 3))
    assert border_ratio(picture, axis, direction) == pytest.approx(1, abs=ALLOWED)
    seam = axis.start(2) + 16
    stepped = picture + 0.05 * (np.indices(picture.shape[:2])[direction] >= seam)[..., None]
    assert border_ratio(stepped, axis, direction) > 1 + ALLOWED


def test_the_measure_sees_two_textures_average_out():
    grid = Grid(HEIGHT, WIDTH)
    picture = np.random.default_rng(1).normal(0.5, 0.01, (HEIGHT, WIDTH, 3))
    for k in range(1, grid.x.count):
        blend = slice(grid.x.start(k) + grid.x.discard, grid.x.start(k) + grid.x.overlap - grid.x.discard)
        picture[:, blend] = 0.5 + (picture[:, blend] - 0.5) * 0.9
    assert border_ratio(picture, grid.x, 1) < 1 - ALLOWED


class Fickle(UNet):
    """Texture of which `shared` hangs on the place, as the noise does, and the rest on which tile it is."""

    shared = 1.0
    calls = 0

    def forward(self, d_t, condition, gamma):
        self.calls += 1
        own = torch.randn(d_t.shape, generator=torch.Generator().manual_seed(self.calls))
        place = d_t / d_t.std()
        return -4 * (self.shared**0.5 * place + (1 - self.shared) ** 0.5 * own)


@pytest.mark.parametrize(("shared", "seamless"), [(1.0, True), (0.8, True), (0.0, False)])
def test_what_tiles_disagree_on_is_found_and_made_up_for_within_bounds(shared, seamless):
    generator = Fickle(GEN)
    generator.shared = shared
    bundle, found = with_agreement(with_rng(random_bundle(), generator=generator), "cpu")
    assert found == seamless
    assert rng_of(bundle).process.agreement == pytest.approx(max(shared, 0.5), abs=0.12)
