"""Operators: each closed-form data step is what a dense solver finds, on tiles of any kind side by side."""

import numpy as np
import pytest
import torch

from rngcli.diffusion import kernels
from rngcli.diffusion.operators import FLOOR, KEPT, Blur, Decimate, Identity, Mask, Seen, filled, interpolated
from rngcli.errors import UsageError

LOPSIDED = kernels.normalised(torch.tensor([[0, 1, 2], [0, 5, 3], [1, 0, 0]]).double())
OPERATORS = {
    "identity": Identity(),
    "mask": Mask(),
    "blur": Blur(kernels.gaussian(0.6)),
    "lopsided": Blur(LOPSIDED),
    "x2": Decimate(kernels.gaussian(0.5), 2),
    "x3": Decimate(LOPSIDED, 3),
    "x4": Decimate(kernels.motion(5, 30), 4),
    "samples alone": Decimate(torch.ones(1, 1, dtype=torch.float64), 2),
}
SIDE = 12  # [px] of y


def scene(operator, count=2, side=SIDE, dtype=torch.float64):
    """(ŷ, what is seen of some other picture, the variance of ŷ), holes and noise and all."""
    seen = side // operator.scale
    valid = (torch.rand(count, 1, seen, seen) > 0.3).to(dtype)
    sigma = torch.tensor([0.05, 0.3, 0.01, 0.1], dtype=dtype)[:count]
    variance = torch.tensor([0.02, 0.001, 0.5, 0.1], dtype=dtype)[:count]
    pixels = torch.rand(count, 3, seen, seen, dtype=dtype)
    return torch.rand(count, 3, side, side, dtype=dtype), Seen(pixels, valid, sigma), variance


def trusted(operator, seen):
    return operator._trusted(seen) if isinstance(operator, Decimate) else seen.valid


def dense(operator, side=SIDE):
    """H as a matrix, from what it does to each pixel alone, by the definition and without a Fourier transform."""
    if not isinstance(operator, Decimate):
        return torch.eye(side * side, dtype=torch.float64)
    matrix, (h, w) = [], operator.kernel.shape
    for y in range(0, side, operator.scale):
        for x in range(0, side, operator.scale):
            row = torch.zeros(side, side, dtype=torch.float64)
            for j in range(h):
                for i in range(w):
                    row[(y - (j - h // 2)) % side, (x - (i - w // 2)) % side] += operator.kernel[j, i]
            matrix.append(row.flatten())
    return torch.stack(matrix)


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_a_data_step_equals_a_dense_solver(operator):
    """argmin_δ ‖residual − H·δ‖²/σ_n² + ‖δ‖²/v by its normal equations."""
    y, seen, variance = scene(operator)
    met = operator.meet(y, seen, variance)
    h = dense(operator)
    floor, least = (FLOOR, operator.least_sigma) if isinstance(operator, Decimate) else (0, 0)
    for i in range(len(y)):
        noise, weights = max(seen.sigma[i], least) ** 2 + floor**2, trusted(operator, seen)[i]
        inverse = torch.eye(SIDE * SIDE, dtype=torch.float64) / variance[i]
        for channel in range(3):
            told = weights.flatten()
            if isinstance(operator, Decimate):  # what is not trusted is no residual
                residual, sees = told * (seen.pixels[i, channel].flatten() - h @ y[i, channel].flatten()), h
            else:  # what is not valid is not seen at all
                residual, sees = told * (seen.pixels - y)[i, channel].flatten(), told[:, None] * h
            delta = torch.linalg.solve(sees.T @ sees / noise + inverse, sees.T @ residual / noise)
            expected = y[i, channel].flatten() + delta
            torch.testing.assert_close(met[i, channel].flatten(), expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("operator", [o for o in OPERATORS.values() if isinstance(o, Decimate)])
def test_what_an_operator_does_is_its_definition(operator):
    y = torch.rand(1, 3, SIDE, SIDE, dtype=torch.float64)
    expected = y.flatten(2) @ dense(operator).T
    torch.testing.assert_close(operator.apply(y).flatten(2), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_a_mixed_batch_equals_its_tiles_one_by_one(operator):
    y, seen, variance = scene(operator, 4, 48)
    alone = [Seen(seen.pixels[i : i + 1], seen.valid[i : i + 1], seen.sigma[i : i + 1]) for i in range(4)]
    met = torch.cat([operator.meet(y[i : i + 1], alone[i], variance[i : i + 1]) for i in range(4)])
    first = torch.cat([operator.first(one) for one in alone])
    # A Fourier transform rounds differently for other batches: the pipeline's are always of one shape.
    torch.testing.assert_close(operator.meet(y, seen, variance), met, atol=1e-12, rtol=0)
    torch.testing.assert_close(operator.first(seen), first, atol=1e-12, rtol=0)


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_a_picture_that_agrees_with_its_measurement_stays(operator):
    y, seen, variance = scene(operator)
    pixels = operator.apply(y) if isinstance(operator, Decimate) else y
    met = operator.meet(y, Seen(pixels, seen.valid, seen.sigma), variance)
    torch.testing.assert_close(met, y, atol=1e-12, rtol=0)


@pytest.mark.parametrize("operator", [Identity(), Mask()], ids=["identity", "mask"])
def test_pixels_without_noise_are_pasted_as_they_are_and_holes_left(operator):
    y, seen, variance = scene(operator, dtype=torch.float32)
    met = operator.meet(y, Seen(seen.pixels, seen.valid, torch.zeros(2)), variance)
    assert torch.equal(met, torch.where(seen.valid > 0, seen.pixels, y))


def test_noisy_pixels_are_not_pasted():
    y, seen, variance = scene(Mask())
    met = Mask().meet(y, seen, variance)
    share = (variance / (variance + seen.sigma**2))[:, None, None, None]
    expected = torch.where(seen.valid > 0, y + share * (seen.pixels - y), y)
    torch.testing.assert_close(met, expected)


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_what_lies_in_holes_tells_nothing(operator):
    y, seen, variance = scene(operator)
    other = Seen(seen.pixels + (1 - seen.valid) * torch.rand_like(seen.pixels), seen.valid, seen.sigma)
    assert torch.equal(operator.meet(y, seen, variance), operator.meet(y, other, variance))
    if not isinstance(operator, Identity):  # a method that only denoises reconstructs its holes as well
        assert torch.equal(operator.first(seen), operator.first(other))


@pytest.mark.parametrize("kernel", [kernels.gaussian(1.6), kernels.motion(15, 30)], ids=["gaussian", "motion"])
def test_a_picture_without_noise_does_not_ring_at_its_border(kernel):
    """What lies beyond the border is not known, and a kernel has frequencies that it all but erases."""
    rng = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 3, 16, 16, dtype=torch.float64, generator=rng)
    picture = picture.repeat_interleave(10, 2).repeat_interleave(10, 3)
    operator, inner = Blur(kernel), (..., slice(40, 120), slice(40, 120))
    valid = torch.zeros(1, 1, 160, 160, dtype=torch.float64)
    valid[inner] = 1
    seen = Seen((operator.apply(picture) * 255).round() / 255, valid, torch.zeros(1, dtype=torch.float64))
    first = operator.first(seen)
    met = operator.meet(first, seen, torch.tensor([0.4], dtype=torch.float64))
    for image in (first, met):
        assert (image - picture)[inner].square().mean() < (seen.pixels - picture)[inner].square().mean()
        assert image.min() > -1
        assert image.max() < 2


@pytest.mark.parametrize("kernel", [kernels.gaussian(1.6), kernels.motion(15, 30)], ids=["gaussian", "motion"])
def test_a_tile_meets_its_measurement_without_wrapping_around(kernel):
    """The picture goes on beyond the tile, and differs from what wraps around."""
    at, inside = slice(32, 128), slice(16, -16)
    picture = torch.rand(1, 3, 16, 16, dtype=torch.float64).repeat_interleave(10, 2).repeat_interleave(10, 3)
    blurred = Blur(kernel).apply(picture)
    variance, sigma = torch.tensor([0.01]).double(), torch.tensor([0.02]).double()

    def met(operator, pixels):
        ones = torch.ones(1, 1, *pixels.shape[-2:], dtype=torch.float64)
        return operator.meet(pixels, Seen(pixels, ones, sigma), variance)

    class Wrapped(Blur):
        def _trusted(self, seen):
            return seen.valid

    def error(operator):
        return (met(operator, blurred[..., at, at]) - expected).abs()

    expected = met(Blur(kernel), blurred)[..., at, at]
    gained = (expected - blurred[..., at, at]).abs()[..., inside, inside].mean()
    assert error(Blur(kernel))[..., inside, inside].mean() < 0.2 * gained
    assert error(Blur(kernel)).max() < 0.7 * error(Wrapped(kernel)).max()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_samples_sit_at_multiples_of_the_scale(scale):
    x = torch.rand(1, 3, 9, 7, dtype=torch.float64)
    assert interpolated(x, scale).shape == (1, 3, 9 * scale, 7 * scale)
    torch.testing.assert_close(interpolated(x, scale)[..., ::scale, ::scale], x, atol=1e-12, rtol=0)

    ramp = torch.linspace(0, 1, 64).double().expand(1, 3, 64, 64)
    seen = Seen(ramp, torch.ones(1, 1, 64, 64).double(), torch.tensor([0.01]).double())
    first = Decimate(kernels.gaussian(0.3 * scale), scale).first(seen)
    slope, middle = scale * 63, slice(24 * scale, 40 * scale)  # a shift of one pixel of y is 1/slope
    expected = torch.arange(64 * scale).double()[middle] / slope
    assert (first[0, 0, 32 * scale, middle] - expected).abs().max() < 0.2 / slope


def test_first_pictures_are_nearer_than_what_was_seen():
    rng = torch.Generator().manual_seed(0)
    edges = (torch.rand(1, 3, 8, 8, generator=rng) > 0.5).double().repeat_interleave(12, 2).repeat_interleave(12, 3)
    ones, inside = torch.ones(1, 1, 96, 96).double(), slice(16, -16)

    def error(x):
        return (x - edges)[..., inside, inside].square().mean()

    blur = Blur(kernels.gaussian(1.6))
    blurred = blur.apply(edges) + 0.02 * torch.randn(edges.shape, generator=rng)
    first = blur.first(Seen(blurred, ones, torch.tensor([0.02]).double()))
    assert error(first) < 0.7 * error(blurred)
    few = (torch.rand(1, 1, 96, 96, generator=rng) > 0.5).double()
    assert error(Mask().first(Seen(few * edges, few, torch.zeros(1)))) < 0.2 * error(few * edges)


def test_holes_are_filled_from_around_them_and_nothing_else_changes():
    x = torch.full((1, 3, 37, 50), 0.7)
    valid = torch.zeros(1, 1, 37, 50)
    valid[..., 3, 5] = 1
    torch.testing.assert_close(filled(x * valid, valid), x)
    assert torch.equal(filled(x, torch.zeros_like(valid)), torch.full_like(x, 0.5))
    noisy, some = torch.rand(2, 3, 37, 50), (torch.rand(2, 1, 37, 50) > 0.5).float()
    kept = some.expand_as(noisy) > 0
    assert torch.equal(filled(noisy, some)[kept], noisy[kept])


# --- kernels -----------------------------------------------------------------------------------------------------


def moments(kernel):
    """(mean y, mean x, variance along y, variance along x) about the origin [px]."""
    h, w = kernel.shape
    y, x = torch.arange(h).double() - h // 2, torch.arange(w).double() - w // 2
    rows, cols = kernel.sum(1), kernel.sum(0)
    return [float(v) for v in (rows @ y, cols @ x, rows @ y**2, cols @ x**2)]


def test_a_gaussian_has_the_width_that_it_was_given():
    kernel = kernels.named("gaussian:1.6")
    assert float(kernel.sum()) == pytest.approx(1)
    assert moments(kernel) == pytest.approx([0, 0, 1.6**2, 1.6**2], abs=0.01)


@pytest.mark.parametrize(("angle", "share"), [(0, (0, 1)), (90, (1, 0)), (30, (0.25, 0.75))])
def test_motion_is_a_line_of_its_length_and_angle(angle, share):
    kernel = kernels.named(f"motion:15,{angle}")
    y, x, along_y, along_x = moments(kernel)
    assert (y, x) == pytest.approx((0, 0), abs=1e-9)
    # A uniform line has the variance L²/12; sharing a point among pixels adds a sixth at most.
    assert along_y == pytest.approx(share[0] * 225 / 12, abs=0.26)
    assert along_x == pytest.approx(share[1] * 225 / 12, abs=0.26)


def test_motion_turns_against_the_clock():
    kernel = kernels.motion(15, 45)
    h, w = kernel.shape
    assert kernel[h // 2 - 3, w // 2 + 3] > 10 * kernel[h // 2 - 3, w // 2 - 3]


def test_a_kernel_is_read_from_a_picture():
    drawn = np.zeros((7, 9, 3), np.float32)
    drawn[3, 4], drawn[3, 6] = 1, 0.5
    kernel = kernels.from_picture(drawn)
    assert kernel[3, 4] == pytest.approx(2 / 3)
    assert kernel[3, 6] == pytest.approx(1 / 3)
    assert kernels.reach(kernel) == 2


@pytest.mark.parametrize(
    "text", ["box:3", "gaussian", "gaussian:", "gaussian:0", "gaussian:-1", "gaussian:nan", "gaussian:1,2", "motion:15"]
)
def test_nonsense_is_no_kernel(text):
    with pytest.raises(UsageError, match="no blur kernel"):
        kernels.named(text)


def test_kernels_that_reach_too_far_or_are_empty_are_refused():
    with pytest.raises(UsageError, match="60 px"):
        kernels.named("gaussian:16")
    with pytest.raises(UsageError, match="empty"):
        kernels.from_picture(np.zeros((3, 3)))
    with pytest.raises(UsageError, match="negative"):
        kernels.from_picture(np.array([[1.0, -0.5]]))


def test_tiles_of_many_sizes_leave_few_spectra_behind():
    blur = Blur(kernels.gaussian(1.6))
    first = blur.spectrum(torch.zeros(1, 3, 32, 32, dtype=torch.float64))
    for side in range(33, 45):
        blur.spectrum(torch.zeros(1, 3, side, side, dtype=torch.float64))
    assert len(blur._spectra) == KEPT
    assert torch.equal(blur.spectrum(torch.zeros(1, 3, 32, 32, dtype=torch.float64)), first)
