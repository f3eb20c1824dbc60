"""What rows and columns have in common is found where it is the sensor's, left alone where it is the picture's."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from rngcli.cli import main
from rngcli.inference.banding import find_banding
from rngcli.inference.engine import Job, denoise
from rngcli.inference.pipeline import Pipeline
from rngcli.methods.contract import Request
from rngcli.models.bundle import save
from tests.tiny import identity_bundle

SHAPE = (240, 320)


def scene(seed=0, shape=SHAPE):
    """Blobs, with edges and texture: (H, W, 3) float32 in [0.2, 0.8]."""
    rng = np.random.default_rng(seed)
    blobs = gaussian_filter(rng.normal(size=(*shape, 3)), (6, 6, 0)) * 1.2
    texture = rng.normal(size=(*shape, 1)) * (gaussian_filter(rng.normal(size=(*shape, 1)), (20, 20, 0)) > 0) * 0.02
    return (0.5 + np.sign(blobs) * 0.1 + blobs * 0.3 + texture).clip(0.2, 0.8).astype(np.float32)


def banded(strength=10.0, seed=1, shape=SHAPE):
    """(rows, columns) of Gaussian offsets, tinted, on the [0, 1] scale."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(scale=strength / 255, size=(shape[0], 1, 1)) * [1.0, 0.8, 1.2]
    columns = rng.normal(scale=strength / 2 / 255, size=(1, shape[1], 1)) * [1.0, 1.0, 1.0]
    return rows.astype(np.float32), columns.astype(np.float32)


def noise(sigma, seed=2, shape=SHAPE):
    return np.random.default_rng(seed).normal(scale=sigma / 255, size=(*shape, 3)).astype(np.float32)


def test_most_of_the_offsets_is_found():
    rows, columns = banded()
    found = find_banding(scene() + rows + columns + noise(8))
    left = found.rows[:, None] + found.columns[None] - rows - columns
    assert left.std() < 0.35 * (rows + columns).std()
    assert found.note == f"banding of {255 * found.rms:.1f} of 255 (RMS) removed; --keep-banding leaves it"
    assert 255 * found.rms == pytest.approx(11, abs=2)


def test_rows_alone_leave_columns_alone():
    found = find_banding(scene() + banded()[0] + noise(8))
    assert found.rows.any()
    assert not found.columns.any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_mean_what_floats_mean(dtype):
    picture = (scene() + banded()[0] + noise(8)).clip(0, 1)
    full = np.iinfo(dtype).max
    found, expected = find_banding(np.round(picture * full).astype(dtype)), find_banding(picture)
    assert 255 * np.abs(found.rows - expected.rows).max() < 0.5


@pytest.mark.parametrize("sigma", [0, 10, 50])
@pytest.mark.parametrize("seed", range(5))
def test_a_picture_with_white_noise_has_no_banding(sigma, seed):
    assert find_banding(scene(seed) + noise(sigma, seed)) is None


def test_a_few_edges_across_the_whole_picture_are_the_pictures_own():
    stairs = scene()
    for row in range(20, 240, 40):
        stairs[row : row + 3] += 0.2
    assert find_banding(stairs + noise(3)) is None


def test_lines_that_end_somewhere_are_the_pictures_own():
    blinds = scene()
    blinds[::2, : SHAPE[1] // 2] += 0.15
    assert find_banding(blinds + noise(3)) is None


def test_faint_offsets_such_as_a_gradients_rounding_are_left_alone():
    gradient = np.round(np.linspace(60, 90, 240)[:, None, None] * np.ones((1, 320, 3))) / 255
    assert find_banding(gradient.astype(np.float32)) is None


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 300, 3), (300, 7, 3), (63, 63, 3), (9, 64, 3)])
def test_a_picture_too_small_to_tell_is_left_alone(shape):
    assert find_banding(np.random.default_rng(0).random(shape, np.float32)) is None


def test_values_that_are_no_numbers_are_somebody_elses_matter():
    assert find_banding(np.full((90, 90, 3), np.nan, np.float32)) is None


@pytest.mark.parametrize("kept", [False, True])
def test_tiles_are_cut_without_it_unless_it_is_to_be_kept(kept):
    picture = (scene(shape=(300, 290)) + banded(shape=(300, 290))[0]).astype(np.float32)
    pipeline = Pipeline(identity_bundle(), "cpu", "fp32", 2)
    (result,) = denoise([Job("x", picture)], pipeline, Request(detail=0, keep_banding=kept))
    found = find_banding(picture)
    expected = picture if kept else (picture - found.rows[:, None] - found.columns[None]).clip(0, 1)
    np.testing.assert_allclose(result.pixels, expected, atol=1e-6)
    assert result.notes == (() if kept else (found.note,))


def test_holes_are_no_reason_to_look_for_it():
    picture = (scene() + banded()[0]).astype(np.float32)
    job = Job("x", picture, np.ones(SHAPE, bool))
    (result,) = denoise([job], Pipeline(identity_bundle(), "cpu", "fp32", 2), Request(detail=0))
    assert result.notes == ()


def test_the_command_says_so_and_can_be_told_to_leave_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(identity_bundle(), tmp_path / "model")
    picture = np.round(255 * (scene() + banded()[0]).clip(0, 1)).astype(np.uint8)
    Image.fromarray(picture).save("a.png")

    def rng(*arguments):
        monkeypatch.setattr(sys, "argv", ["rng", "denoise", *arguments, "--model", "model", "--detail", "0", "--json"])
        with pytest.raises(SystemExit) as left:
            main()
        return SimpleNamespace(code=left.value.code, row=json.loads(capsys.readouterr().out.splitlines()[0]))

    removed = rng("a.png", "b.png")
    assert removed.code == 0
    assert removed.row["notes"].startswith("banding of ")
    kept = rng("a.png", "b.png", "--keep-banding")
    assert (kept.row["status"], kept.row["notes"]) == ("done", "")
    assert np.array_equal(np.asarray(Image.open("b.png")), picture)
