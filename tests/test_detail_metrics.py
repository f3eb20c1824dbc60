"""Measures of detail that grain cannot fool: each is right on pictures whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.ndimage import gaussian_filter

from rngcli.errors import PictureError
from rngcli.metrics.detail_ratio import (
    OCTAVES,
    fine_detail,
    flat_excess,
    flat_ratio,
    misplacement,
    octave_ratio,
    placement,
)
from rngcli.metrics.fidelity import brightest_error
from rngcli.metrics.haarpsi import haarpsi
from rngcli.metrics.suite import Judge, Metric, Options

SIDE = 128


def noise(seed: int) -> torch.Tensor:
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def uneven() -> torch.Tensor:
    """Texture of a strength that differs from block to block, (1, 3, SIDE, SIDE)."""
    strength = torch.rand(1, 1, SIDE // 16, SIDE // 16, generator=torch.Generator().manual_seed(9)) ** 2
    return 0.05 * strength.repeat_interleave(16, 2).repeat_interleave(16, 3)


def test_placement_tells_detail_in_its_place_from_grain_and_from_detail_elsewhere() -> None:
    r = torch.full((1, 3, SIDE, SIDE), 0.5)
    truth = r + uneven() * noise(0)
    same_places = r + 0.7 * uneven() * noise(1)
    assert placement(same_places, truth, r).item() > 0.95
    assert abs(placement(r + 0.02 * noise(2), truth, r).item()) < 0.3
    assert placement(r + (0.05 - uneven()) * noise(3), truth, r).item() < -0.5
    assert math.isnan(placement(r, truth, r).item())
    # What lies in the coarse alone is no detail.
    coarse = torch.from_numpy(gaussian_filter(noise(4).numpy(), (0, 0, 12, 12)))
    assert fine_detail(coarse).std() < 0.03 * coarse.std()


def test_misplacement_is_of_places_and_not_of_amounts() -> None:
    lacking = uneven() * noise(0)
    little, much, elsewhere = 0.3 * uneven() * noise(1), uneven() * noise(1), (0.05 - uneven()) * noise(3)
    in_place = [misplacement(added, lacking).item() for added in (little, much)]
    assert max(in_place) < 0.1 < 0.3 < misplacement(0.02 * noise(2), lacking).item(), "white grain is out of place"
    assert misplacement(elsewhere, lacking).item() > misplacement(0.02 * noise(2), lacking).item()
    assert misplacement(lacking, lacking).item() == pytest.approx(0, abs=1e-6)


def test_misplacement_teaches_where_detail_lies() -> None:
    lacking = uneven() * noise(0)
    strength = torch.zeros(1, 1, SIDE // 16, SIDE // 16, requires_grad=True)
    optimiser = torch.optim.Adam([strength], lr=0.1)
    for _ in range(60):
        added = 0.02 * strength.exp().repeat_interleave(16, 2).repeat_interleave(16, 3) * noise(2)
        optimiser.zero_grad()
        loss = misplacement(added, lacking).mean()
        loss.backward()
        optimiser.step()
    r = torch.full((1, 3, SIDE, SIDE), 0.5)
    assert loss.item() < 0.1
    assert placement(r + added.detach(), r + lacking, r).item() > 0.9


def test_flat_excess_teaches_to_spare_flat_places_and_nothing_else() -> None:
    where = torch.arange(SIDE) < SIDE // 2
    truth = 0.5 + torch.where(where, 1 / 255, 40 / 255) * noise(0)
    grain = (0.02 * noise(2)).requires_grad_()
    excess = flat_excess(truth + grain, truth)
    excess.sum().backward()
    assert excess.item() > 1
    assert grain.grad is not None
    assert grain.grad[..., where].abs().sum() > 0
    assert grain.grad[..., SIDE // 2 + 8 :].abs().max() == 0, "the textured half may have what it likes"
    assert flat_excess(0.5 + 0.5 * (truth - 0.5), truth).item() == 0, "nor is it asked for more"


def test_placement_looks_at_each_picture_by_itself() -> None:
    r = torch.full((1, 3, SIDE, SIDE), 0.5)
    truth, image = r + uneven() * noise(0), r + uneven() * noise(1)
    pair = placement(torch.cat([image, r]), torch.cat([truth, truth]), torch.cat([r, r]))
    assert pair[0].item() == pytest.approx(placement(image, truth, r).item(), abs=1e-5)
    assert math.isnan(pair[1].item())


def test_flat_blocks_show_grain_and_smoothing() -> None:
    # Left half: film-like grain of 2/255; right half: texture of 40/255.
    grain = torch.where(torch.arange(SIDE) < SIDE // 2, 2 / 255, 40 / 255) * noise(0)
    truth = 0.5 + grain
    assert flat_ratio(truth, truth).item() == pytest.approx(1)
    assert flat_ratio(0.5 + 3 * grain, truth).item() == pytest.approx(3, rel=0.02)
    assert flat_ratio(torch.full_like(truth, 0.5), truth).item() < 0.2
    right_only = torch.where(torch.arange(SIDE) < SIDE // 2, truth, 0.5 + 5 * grain)
    assert flat_ratio(right_only, truth).item() == pytest.approx(1, abs=0.01)
    white = torch.ones_like(truth)
    assert flat_ratio(white, white).item() == 1
    with pytest.raises(PictureError, match="too small"):
        flat_ratio(white[..., :20], white[..., :20])


@pytest.mark.parametrize(("octave", "wavelength"), [("2-4", 3), ("4-8", 6), ("8-16", 12)])
def test_an_octave_answers_for_its_wavelengths(octave: str, wavelength: float) -> None:
    x = torch.arange(SIDE, dtype=torch.float64)
    truth = (0.5 + 0.01 * noise(0)).double()
    wave = 0.1 * torch.sin(2 * math.pi * x / wavelength).expand_as(truth)
    base, half = truth + wave, truth + 0.5 * wave
    ratios = {name: octave_ratio(half, base, name).item() for name in OCTAVES}
    assert ratios.pop(octave) == pytest.approx(0.5, abs=0.02)
    assert all(value == pytest.approx(1, abs=0.02) for value in ratios.values())
    assert math.isnan(octave_ratio(base, torch.zeros_like(base), octave).item())


@pytest.mark.parametrize(("size", "waves", "darker"), [((48, 64), 0.89252, 0.99001), ((47, 63), 0.90325, 0.99007)])
def test_haarpsi_equals_another_implementation(size: tuple[int, int], waves: float, darker: float) -> None:
    """The values are those of piq 0.8.0, whose YIQ differs in the fourth digit."""
    y, x = torch.meshgrid(*(torch.arange(n).double() for n in size), indexing="ij")
    truth = torch.stack([0.5 + 0.4 * torch.sin(x / 3 + c) * torch.cos(y / (5 + c)) for c in range(3)])[None]
    image = (truth + 0.1 * torch.sin(17 * truth * 40)).clamp(0, 1)
    assert haarpsi(image, truth, 1.0).item() == pytest.approx(waves, abs=1e-4)
    assert haarpsi(truth * 0.9, truth, 1.0).item() == pytest.approx(darker, abs=1e-4)
    assert haarpsi(truth * 255, truth * 255, 255.0).item() == pytest.approx(1)
    assert haarpsi(torch.zeros_like(truth), torch.zeros_like(truth), 1.0).item() == pytest.approx(1)


def test_the_brightest_error_is_signed_and_counts_all_that_is_as_bright() -> None:
    truth = torch.rand(2, 3, 50, 50, generator=torch.Generator().manual_seed(0)) * 0.9
    truth[0, :, :1, :10] = 1  # 10 of 2500 pixels: less than 1 %
    truth[1, :, :10] = 1  # 20 %
    image = truth.clone()
    image[1, :, :10] -= 20 / 255
    first, second = brightest_error(image, truth, 1).tolist()
    assert first == 0
    assert second == pytest.approx(-20, abs=1e-4)
    chosen = truth[0].mean(0).flatten().topk(25).indices
    image[0].flatten(1)[:, chosen] += 4 / 255
    assert brightest_error(image, truth, 1)[0].item() == pytest.approx(4, abs=1e-4)


def test_the_suite_knows_them_by_name() -> None:
    judge = Judge(Options(names=("psnr", "haarpsi", "placement", "flat", "spectrum", "brightest")))
    assert judge.needs_reconstruction
    keys = [metric.key for metric in judge.metrics]
    assert keys == ["psnr", "haarpsi", "placement", "flat", "octave-2-4", "octave-4-8", "octave-8-16", "brightest"]
    truth = (0.5 + uneven() * noise(0)).clamp(0, 1)[0].permute(1, 2, 0).numpy()
    r = truth * 0 + 0.5
    scores, reasons = judge.score(truth, truth, reconstruction=r)
    assert not reasons
    assert scores == pytest.approx(dict.fromkeys(keys, 1.0) | {"psnr": math.inf, "brightest": 0.0})
    assert judge.score(truth, truth)[0]["placement"] is None
    scores, reasons = judge.score(truth[:20, :20], truth[:20, :20], reconstruction=r[:20, :20])
    assert scores["flat"] is None
    assert any("too small" in reason for reason in reasons)


def test_of_ratios_the_best_is_one() -> None:
    ratio, error = Metric("flat", "flat", "one", 2, ""), Metric("brightest", "brightest", "zero", 2, "")
    assert max([0.2, 1.1, 1.3], key=ratio.worth) == 1.1
    assert max([-3.0, 0.5, 2.0], key=error.worth) == 0.5
    assert (ratio.heading, error.heading) == ("flat → 1", "brightest → 0")
