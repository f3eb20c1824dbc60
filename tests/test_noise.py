"""Noise is a function of seed, step, channel and place: nothing else moves it, and each of these does."""

import math

import pytest
import torch

from rngcli.inference.noise import gaussian_field, philox4x32

HERE = torch.tensor([[10, 20]])

# Random123's kat_vectors for philox4x32-10: counter, key, words.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return tuple(int(word, 16) for word in text.split())


def correlation(a, b):
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].abs().item()


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter, key, answer):
    given = tuple(torch.tensor([word]) for word in words(counter))
    assert tuple(word.item() for word in philox4x32(given, words(key))) == words(answer)


def test_a_pixel_is_the_documented_function_of_its_place():
    """Pins the mapping, so that a seed means the same picture in every version."""
    field = gaussian_field(2**40 + 7, 3, torch.tensor([[-4, 9]]), (8, 8), channels=6)
    y, x, block = -4 + 2, 9 + 5, 1
    counter = tuple(torch.tensor([word % 2**32]) for word in (x, y, 3, block))
    u, v, _, _ = ((word.item() + 0.5) / 2**32 for word in philox4x32(counter, (7, 2**8)))
    radius = math.sqrt(-2 * math.log(u))
    assert field[0, 4, 2, 5].item() == pytest.approx(radius * math.cos(2 * math.pi * v), rel=1e-6)
    assert field[0, 5, 2, 5].item() == pytest.approx(radius * math.sin(2 * math.pi * v), rel=1e-6)


def test_moments_are_those_of_a_standard_normal():
    z = gaussian_field(0, 0, HERE, (512, 512), channels=4).double()
    n = z.numel()
    assert abs(z.mean()) < 5 / n**0.5
    assert abs(z.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((z**3).mean()) < 5 * (15 / n) ** 0.5
    assert abs((z**4).mean() - 3) < 5 * (96 / n) ** 0.5
    assert 4 < z.abs().max() < 6.77


def test_overlapping_tiles_see_the_same_noise():
    a, b, c = gaussian_field(1, 5, torch.tensor([[0, 0], [0, 224], [-3, -7]]), (256, 256))
    assert torch.equal(a[:, :, 224:], b[:, :, :32])
    assert torch.equal(c[:, 3:, 7:], a[:, :-3, :-7])


def test_a_tile_does_not_depend_on_its_batch():
    origins = torch.tensor([[0, 0], [99, -50], [7, 12345]])
    steps = torch.tensor([4, 0, 77])
    together = gaussian_field(1, steps, origins, (16, 16))
    for i in range(3):
        assert torch.equal(together[i : i + 1], gaussian_field(1, int(steps[i]), origins[i : i + 1], (16, 16)))
    assert torch.equal(together[:, :2], gaussian_field(1, steps, origins, (16, 16), channels=2))


@pytest.mark.parametrize("other", [{"seed": 2}, {"seed": 1 + 2**32}, {"step": 1}, {"origins": HERE + 512}])
def test_another_seed_step_or_place_is_other_noise(other):
    key = {"seed": 1, "step": 0, "origins": HERE}
    a, b = gaussian_field(**key, size=(256, 256)), gaussian_field(**(key | other), size=(256, 256))
    assert correlation(a, b) < 5 / a.numel() ** 0.5


def test_channels_and_neighbouring_pixels_are_uncorrelated():
    z = gaussian_field(1, 0, HERE, (256, 256), channels=5)[0]
    pairs = [(z[i], z[j]) for i in range(5) for j in range(i)] + [(z[:, 1:], z[:, :-1]), (z[..., 1:], z[..., :-1])]
    for a, b in pairs:
        assert correlation(a, b) < 5 / a.numel() ** 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_makes_the_same_noise():
    a, b = gaussian_field(1, 2, HERE, (256, 256)), gaussian_field(1, 2, HERE, (256, 256), device="cuda").cpu()
    assert (a != b).float().mean() < 1e-6
    assert torch.allclose(a, b, rtol=1e-6, atol=0)
