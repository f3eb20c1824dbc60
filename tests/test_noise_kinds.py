"""Every kind of noise that training draws has the statistics that its own parameters promise."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from rngcli.data import degrade as degrading
from rngcli.data.degrade import KINDS, OTHERS, SHARP, DegradeSpec, _dealt, degrade, mixture, only, to_8_bits
from rngcli.data.grain import (
    BandsSpec,
    CoarseSpec,
    FilmSpec,
    JpegSpec,
    add_bands,
    add_coarse_noise,
    add_film_grain,
    compress,
)
from rngcli.data.jpeg_sim import CHROMA, LUMA, jpeg, quantisation
from rngcli.data.noise_reduction import ReductionSpec, reduce_in_camera, sharpen
from rngcli.data.random_fields import broad_field, gaussian_field, gaussian_lines
from rngcli.errors import UsageError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def flat(level, n=8, side=64):
    return torch.full((n, 3, side, side), float(level))


def alike(noise, lag=1, axis=-1):
    """The correlation of noise with itself `lag` px on, over everything."""
    near, far = noise.narrow(axis, 0, noise.shape[axis] - lag), noise.narrow(axis, lag, noise.shape[axis] - lag)
    return ((near * far).mean() / noise.square().mean()).item()


@pytest.fixture
def photo():
    """(1, 3, 96, 96): coarse shapes, as photographs have."""
    coarse = Image.fromarray(np.random.default_rng(0).integers(30, 220, (7, 7, 3), np.uint8)).resize((96, 96))
    return torch.from_numpy(np.asarray(coarse, np.float32) / 255).permute(2, 0, 1)[None]


# --- the batch ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_alone_gives_pictures_of_the_same_shape_and_the_same_ones_again(kind, photo):
    batch = photo[..., :48].expand(6, -1, -1, -1)  # 96 px high, 48 px wide
    once, twice, other = (degrade(batch, only(kind), generator(seed)) for seed in (3, 3, 4))
    for clean, noisy in (once, other):
        assert clean.shape == noisy.shape == batch.shape
        assert clean.dtype == noisy.dtype == torch.float32
        assert clean.min() >= 0
        assert clean.max() <= 1
        assert noisy.isfinite().all()
        assert kind == "awgn" or (noisy.min() >= 0 and noisy.max() <= 1)
    assert all(torch.equal(a, b) for a, b in zip(once, twice, strict=True))
    assert kind == "none" or not torch.equal(once[1], other[1])


def test_kinds_come_by_their_shares(monkeypatch):
    seen = dict.fromkeys(KINDS, 0)

    def counted(kind):
        def count(clean, spec, rng):
            seen[kind] += len(clean)
            return clean, clean

        return count

    monkeypatch.setattr(degrading, "KINDS", {kind: counted(kind) for kind in KINDS})
    rng = generator()
    for _ in range(600):
        degrade(torch.zeros(7, 3, 16, 16), DegradeSpec(blur_share=SHARP), rng)
    total = sum(seen.values())
    assert total == 7 * 600
    assert seen["awgn"] / total == pytest.approx(0.40, abs=0.02)
    for kind, weight in OTHERS.items():
        assert seen[kind] / total == pytest.approx(0.60 * weight / sum(OTHERS.values()), abs=0.015), kind


def test_a_mixture_is_said_in_words():
    spec = mixture("awgn=6, film=3,jpeg=1")
    assert spec == DegradeSpec(gaussian_share=0.6, others={"film": 3.0, "jpeg": 1.0})
    assert mixture("night=2").gaussian_share == 0
    kinds = [kind for kind, _ in _dealt(torch.zeros(10, 3, 16, 16), spec, generator())]
    assert kinds == ["awgn", "film", "jpeg"]


@pytest.mark.parametrize("text", ["", "rain=1", "film", "film=much", "film=-1", "film=inf", "film=nan", "film=0"])
def test_what_is_no_mixture_is_refused(text):
    with pytest.raises(UsageError, match="--noise"):
        mixture(text)


def test_most_files_hold_8_bits(photo):
    batch = photo[..., :16, :16].expand(400, -1, -1, -1)
    spec = replace(only("bands"), eight_bit_share=0.85)
    _, noisy = degrade(batch, spec, generator())
    whole = ((noisy * 255) % 1).flatten(1)
    rounded = (torch.minimum(whole, 1 - whole) < 1e-3).all(dim=1)
    assert rounded.float().mean().item() == pytest.approx(0.85, abs=0.05)
    clean, noisy = degrade(batch, only("none", eight_bit_share=1.0), generator())
    assert torch.equal(noisy, to_8_bits(clean))


def test_a_share_of_the_pictures_is_pushed_into_white_and_black_with_its_truth():
    ramp = torch.linspace(0.02, 0.98, 64).expand(400, 3, 16, 64)
    spec = only("awgn", sigma=(30, 30), clipped_share=1, levels_share=0.5, gain=(0.5, 1.5), black=(0.05, 0.1))
    clean, noisy = degrade(ramp, spec, generator())
    pushed = (clean != ramp).flatten(1).any(dim=1)
    assert pushed.float().mean().item() == pytest.approx(0.5, abs=0.08)
    assert (clean[pushed].amax(dim=(1, 2, 3)) == 1).all()
    assert (clean[pushed].amin(dim=(1, 2, 3)) == 0).all()
    white = noisy[pushed][clean[pushed] == 1]
    assert white.max() == 1
    assert 1 - white.mean().item() == pytest.approx(30 / 255 / (2 * np.pi) ** 0.5, rel=0.05), "half of it is clipped"


def test_black_and_white_pictures_have_noise_that_all_colours_share(photo):
    spec = only("awgn", sigma=(30, 30), clipped_share=0, grey_share=0.5)
    clean, noisy = degrade(photo.expand(200, -1, -1, -1)[..., :32, :32], spec, generator())
    grey = (clean[:, 0] == clean[:, 1]).flatten(1).all(dim=1)
    assert grey.float().mean().item() == pytest.approx(0.5, abs=0.12)
    noise = (noisy - clean)[grey]
    assert torch.allclose(noise[:, 0], noise[:, 2], atol=1e-6)
    assert noise.std().item() * 255 == pytest.approx(30, rel=0.03)


# --- random fields -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.0, 0.7, 1.5])
def test_fields_have_unit_variance_and_a_gaussian_s_correlation(sigma):
    width = torch.full((16, 1, 1, 1), sigma)
    field = gaussian_field((16, 2, 96, 96), width, generator())
    lines = gaussian_lines(16, 8, 512, width, generator())
    expected = [np.exp(-(lag**2) / (4 * sigma**2)) if sigma else 0.0 for lag in (1, 2)]
    assert field.std().item() == pytest.approx(1, rel=0.02)
    assert lines.std().item() == pytest.approx(1, rel=0.03)
    for lag, value in zip((1, 2), expected, strict=True):
        for axis in (2, 3):
            assert alike(field, lag, axis) == pytest.approx(value, abs=0.02)
        assert alike(lines, lag, 2) == pytest.approx(value, abs=0.04)


@pytest.mark.parametrize("cell", [4, 8])
def test_blotches_are_as_broad_as_their_cells(cell):
    field = broad_field((8, 3, 128, 128), cell, generator())
    assert field.std().item() == pytest.approx(1, rel=0.05)
    assert alike(field, cell // 2) > 0.5
    assert abs(alike(field, 3 * cell)) < 0.1


# --- film --------------------------------------------------------------------------------------------------------


def film(**changes):
    plain = FilmSpec(strength=(20, 20), size=(1.0, 1.0), shape=(0.5, 0.5), fog=(0, 0), colour=(0, 0), jpeg_share=0)
    return replace(plain, **changes)


@pytest.mark.parametrize("level", [0.2, 0.5, 0.8])
def test_grain_is_as_strong_as_overlapping_grains_make_it(level):
    grain = add_film_grain(flat(level), film(), generator()) - level
    assert grain.std().item() * 255 == pytest.approx(20 * (4 * level * (1 - level)) ** 0.5, rel=0.05)
    assert torch.allclose(grain[:, 0], grain[:, 1], atol=1e-5), "light alone"
    assert alike(grain) == pytest.approx(np.exp(-1 / 4), abs=0.03)


def test_grain_fades_towards_black_and_white_down_to_the_fog():
    spec = film(fog=(0.25, 0.25), shape=(1.0, 1.0))
    grain = [(add_film_grain(flat(level), spec, generator()) - level).std().item() for level in (0.04, 0.5, 0.96)]
    assert grain[1] * 255 == pytest.approx(20, rel=0.05)
    faint = 20 * (0.25 + 0.75 * 4 * 0.04 * 0.96)
    for part in (grain[0], grain[2]):
        assert part * 255 == pytest.approx(faint, rel=0.15)  # some of it is clipped


def test_coloured_grain_is_weaker_and_coarser_than_light():
    grain = add_film_grain(flat(0.5), film(colour=(0.5, 0.5), strength=(10, 10)), generator()) - 0.5
    light = 0.299 * grain[:, 0] + 0.587 * grain[:, 1] + 0.114 * grain[:, 2]
    blue = (grain[:, 2] - light) / 1.772
    assert light.std().item() * 255 == pytest.approx(10, rel=0.05)
    assert 0 < blue.std().item() < light.std().item()
    assert alike(blue) > alike(light) + 0.03


# --- coarse ------------------------------------------------------------------------------------------------------


def test_enlarged_noise_is_alike_between_neighbours_and_its_truth_is_enlarged_with_it(photo):
    batch = photo.expand(8, -1, -1, -1)
    spec = CoarseSpec(sigma=(12, 12), factor=(2.0, 2.0), jpeg_share=0, blotch=(0, 0))
    truth, noisy = add_coarse_noise(batch, replace(spec, with_picture=1.0), generator())
    small = torch.nn.functional.interpolate(truth, size=(48, 48), mode="area")
    assert (small - batch[..., :48, :48]).abs().mean() < 0.01
    sharp, noisy_sharp = add_coarse_noise(batch, replace(spec, with_picture=0.0), generator())
    assert torch.equal(sharp, batch)
    for noise in (noisy - truth, noisy_sharp - sharp):
        assert alike(noise) > 0.5
        assert 12 * 0.5 < noise.std().item() * 255 < 12
        assert abs(alike(noise, 4)) < 0.1


def test_colour_blotches_are_broad_and_hardly_touch_the_light():
    spec = CoarseSpec(sigma=(1e-3, 1e-3), jpeg_share=0, blotch=(8, 8), blotch_width=(8,), with_picture=0)
    clean, noisy = add_coarse_noise(flat(0.5, side=96), spec, generator())
    noise = noisy - clean
    light = 0.299 * noise[:, 0] + 0.587 * noise[:, 1] + 0.114 * noise[:, 2]
    blue = (noise[:, 2] - light) / 1.772
    assert blue.std().item() * 255 == pytest.approx(8, rel=0.15)
    assert light.std().item() == pytest.approx(0.2 * blue.std().item(), rel=0.3)
    assert alike(blue, 4) > 0.5


# --- JPEG --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [3, 7, 25, 33, 45, 49, 50, 51, 75, 90, 100])
def test_tables_are_those_that_pillow_writes(quality):
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", quality=quality)
    tables = Image.open(file).quantization
    for number, table in ((0, LUMA), (1, CHROMA)):
        ours = quantisation(table, torch.full((1, 1, 1, 1), float(quality))).flatten()
        assert ours.tolist() == list(tables[number])


def test_a_noisy_jpeg_is_noise_before_compression_and_may_be_enlarged(photo):
    batch = photo.expand(4, -1, -1, -1)
    still = JpegSpec(sigma=(-5, 0), quality=(50, 50), enlarged_share=0)
    clean, noisy = compress(batch, still, generator())
    assert torch.equal(clean, batch)
    assert torch.equal(noisy, jpeg(batch, torch.full((4, 1, 1, 1), 50.0)))
    clean, enlarged = compress(batch, replace(still, enlarged_share=1, factor=(1.5, 1.5)), generator())
    small = torch.nn.functional.interpolate(clean, size=(64, 64), mode="area")
    assert (small - batch[..., :64, :64]).abs().mean() < 0.01
    assert 0 < (enlarged - clean).square().mean().sqrt() < 0.1
    rough, _ = ((compress(batch, replace(still, sigma=(s, s)), generator())[1] - batch).std() for s in (20, 0.0))
    assert rough * 255 > 8


# --- bands -------------------------------------------------------------------------------------------------------


def bands(**changes):
    plain = BandsSpec((10, 10), 0.0, (0, 0), (0, 0), (0, 0), tint=(0, 0), dark=(0, 0), sigma=(0, 0), jpeg_share=0)
    return replace(plain, **changes)


def test_rows_have_offsets_of_their_strength_and_nothing_else():
    noise = add_bands(flat(0.5, 16, 96), bands(), generator()) - 0.5
    assert noise.std(dim=3).max() < 1e-6, "a row is one value"
    assert torch.allclose(noise[:, 0], noise[:, 2], atol=1e-6), "of all colours"
    assert noise.std().item() * 255 == pytest.approx(10, rel=0.05)
    assert abs(alike(noise, axis=2)) < 0.06
    turned = add_bands(flat(0.5, 16, 96), bands(across=1.0), generator()) - 0.5
    assert turned.std(dim=2).max() < 1e-6
    assert turned.std().item() * 255 == pytest.approx(10, rel=0.05)


def test_bands_have_width_tint_fading_ripples_and_noise():
    wide = add_bands(flat(0.5, 16, 96), bands(width=(1.2, 1.2)), generator()) - 0.5
    assert alike(wide, axis=2) == pytest.approx(np.exp(-1 / (4 * 1.2**2)), abs=0.05)
    tinted = add_bands(flat(0.5, 16, 96), bands(tint=(1, 1)), generator()) - 0.5
    assert abs((tinted[:, 0] * tinted[:, 1]).mean() / tinted.square().mean()) < 0.1
    dark = [add_bands(flat(v, 16, 96), bands(dark=(0.8, 0.8)), generator()) - v for v in (0.3, 0.7)]
    assert (dark[1].std() / dark[0].std()).item() == pytest.approx((1 - 0.56) / (1 - 0.24), rel=0.02)
    ripple = add_bands(flat(0.5, 16, 96), bands(rows=(1e-3, 1e-3), waves=(10, 10), period=(8, 8)), generator()) - 0.5
    assert ripple.std().item() * 255 == pytest.approx(10 / 2**0.5, rel=0.03)
    assert alike(ripple, 8, axis=2) == pytest.approx(1, abs=0.02)
    white = add_bands(flat(0.5, 16, 96), bands(rows=(1e-3, 1e-3), sigma=(12, 12)), generator()) - 0.5
    assert white.std().item() * 255 == pytest.approx(12, rel=0.02)


# --- noise reduction ---------------------------------------------------------------------------------------------


def reduction(**changes):
    plain = ReductionSpec(1.0, (1.0, 1.0), (3.0, 3.0), (0.0, 0.0), (1.0, 1.0), (-1, -1), (0.05, 0.05), 0.0)
    return replace(plain, **changes)


def test_reduction_leaves_coarse_noise_coarser_in_colour_and_spares_edges():
    step = flat(0.3, 16, 96)
    step[..., 48:] = 0.7
    noisy = step + 0.02 * torch.randn(step.shape, generator=generator())
    clean, left = reduce_in_camera(step, noisy, reduction(), generator())
    assert torch.equal(clean, step)
    noise = left - clean
    light, colour = noise.mean(1), noise[:, 0] - noise[:, 1]
    far = torch.cat([light[..., 8:36], light[..., 60:88]], dim=-1)
    assert alike(light[..., 8:36]) > 0.6
    assert alike(colour[..., 8:36]) > alike(light[..., 8:36]) + 0.1
    assert light[..., 46:50].std() > 1.8 * far.std()


def test_coring_takes_small_noise_and_leaves_large():
    grey = flat(0.5, 16, 96)
    noisy = grey + 0.03 * torch.randn(grey.shape, generator=generator())
    shapes = []
    for coring in (-1, 1.5):
        spec = reduction(fine=(1.0, 1.0), coring=(coring, coring))
        noise = (reduce_in_camera(grey, noisy, spec, generator())[1] - grey).mean(dim=1)
        shapes.append(((noise**4).mean() / noise.square().mean() ** 2).item())
    assert shapes[0] == pytest.approx(3, abs=0.15), "normal"
    assert shapes[1] > 3.4


def test_sharpening_is_of_the_truth_as_well(photo):
    spec = reduction(reduced_share=0.0, sharpened_share=1.0, amount=(1, 1), radius=(1, 1))
    noisy = photo + 0.02 * torch.randn(photo.shape, generator=generator())
    clean, sharp = reduce_in_camera(photo, noisy.clamp(0, 1), spec, generator())
    one = torch.ones(1, 1, 1, 1)
    assert torch.equal(clean, sharpen(photo, one, one))
    assert (clean - photo).abs().mean() > 1e-3
    assert (sharp - clean).std() > 1.3 * 0.02, "the noise is sharpened too"
