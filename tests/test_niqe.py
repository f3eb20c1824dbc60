"""NIQE against a second, plain reading of the paper and the authors' release in NumPy and SciPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from scipy.ndimage import correlate, gaussian_filter
from scipy.special import gamma

from rngcli.errors import ModelError, NoInputError, PictureError
from rngcli.metrics.niqe import NIQE, OWN_MODEL, SceneModel, blocks_of, fit


def scene(height: int, width: int, seed: int, noise: float = 0.02) -> torch.Tensor:
    """A picture with the power spectrum of photographs (1/f²), RGB (3, H, W) in [0, 1]."""
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    spectrum = np.fft.fft2(rng.normal(size=(3, height, width))) / (np.hypot(fy, fx) + 0.01)
    picture = np.fft.ifft2(spectrum).real
    picture = 0.5 + 0.15 * picture / picture.std()
    return torch.from_numpy(np.clip(picture + rng.normal(0, noise, picture.shape), 0, 1))


def reference_features(image: torch.Tensor) -> np.ndarray:
    rgb = np.round(image.permute(1, 2, 0).numpy() * 255)
    grey = np.round(rgb @ [0.298936, 0.587043, 0.114021])
    grey = grey[: grey.shape[0] // 96 * 96, : grey.shape[1] // 96 * 96]
    rows = []
    for side in (96, 48):
        window = np.outer(*[np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))] * 2)
        window /= window.sum()
        mu = correlate(grey, window, mode="nearest")
        sigma = np.sqrt(np.abs(correlate(grey**2, window, mode="nearest") - mu**2))
        normal = (grey - mu) / (sigma + 1)
        rows.append(
            [
                reference_block(normal[y : y + side, x : x + side])
                for y in range(0, grey.shape[0], side)
                for x in range(0, grey.shape[1], side)
            ]
        )
        grey = halve(halve(grey).T).T
    return np.hstack(rows)


def halve(grey: np.ndarray) -> np.ndarray:
    """MATLAB's imresize by one half down the rows, written as its documentation says: kernel, then mirrored index."""
    out = np.zeros((grey.shape[0] // 2, grey.shape[1]))
    for i in range(len(out)):
        centre = 2 * i + 0.5
        weights = {j: cubic((j - centre) / 2) for j in range(2 * i - 4, 2 * i + 6)}
        for j, weight in weights.items():
            mirrored = -j - 1 if j < 0 else 2 * len(grey) - 1 - j if j >= len(grey) else j
            out[i] += weight / sum(weights.values()) * grey[mirrored]
    return out


def cubic(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def reference_block(block: np.ndarray) -> list[float]:
    alpha, left, right = reference_aggd(block)
    found = [alpha, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        alpha, left, right = reference_aggd(block * np.roll(block, shift, (0, 1)))
        found += [alpha, (right - left) * gamma(2 / alpha) / gamma(1 / alpha), left, right]
    return found


def reference_aggd(block: np.ndarray) -> tuple[float, float, float]:
    shapes = np.arange(0.2, 10.0005, 0.001)
    moments = gamma(2 / shapes) ** 2 / (gamma(1 / shapes) * gamma(3 / shapes))
    left, right = np.sqrt(np.mean(block[block < 0] ** 2)), np.sqrt(np.mean(block[block > 0] ** 2))
    g = left / right
    wanted = np.mean(np.abs(block)) ** 2 / np.mean(block**2) * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2
    alpha = shapes[np.argmin((moments - wanted) ** 2)]
    scale = np.sqrt(gamma(1 / alpha) / gamma(3 / alpha))
    return alpha, left * scale, right * scale


@pytest.fixture(scope="module")
def model() -> SceneModel:
    return fit((scene(192, 288, seed) for seed in range(12)), "synthetic scenes")


def test_features_and_score_equal_the_reference(model: SceneModel) -> None:
    picture = scene(200, 300, 50, noise=0.08)
    expected = reference_features(picture)
    assert blocks_of(picture)[0].numpy() == pytest.approx(expected, rel=1e-3, abs=1e-6)
    apart = expected.mean(0) - model.mean.numpy()
    between = (np.cov(expected.T) + model.covariance.numpy()) / 2
    score = np.sqrt(apart @ np.linalg.pinv(between) @ apart)
    assert NIQE(model)(picture[None]).item() == pytest.approx(score, rel=0.02)


def test_worse_pictures_score_worse(model: SceneModel) -> None:
    clean = scene(192, 288, 77)
    blurred = torch.from_numpy(gaussian_filter(clean.numpy(), (0, 2, 2)))
    noisy = (clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    good, blurry, grainy = NIQE(model)(torch.stack([clean, blurred, noisy])).tolist()
    assert good < blurry
    assert good < grainy


def test_the_shipped_model_knows_its_origin() -> None:
    shipped = NIQE.load().model
    assert "fitted on" in shipped.source
    assert shipped.mean.shape == (36,)
    assert torch.linalg.eigvalsh(shipped.covariance).min() > 0
    assert OWN_MODEL.stat().st_size < 20_000


def test_a_model_survives_its_file_in_both_formats(model: SceneModel, tmp_path: Path) -> None:
    picture = scene(192, 192, 5)[None]
    model.save(tmp_path / "own.npz")
    names = {"mu_prisparam": model.mean.numpy()[None], "cov_prisparam": model.covariance.numpy()}
    savemat(tmp_path / "modelparameters.mat", names)
    expected = NIQE(model)(picture).item()
    assert NIQE.load(tmp_path / "own.npz").model.source == "synthetic scenes"
    assert NIQE.load(tmp_path / "own.npz")(picture).item() == expected
    published = NIQE.load(tmp_path / "modelparameters.mat")
    assert published(picture).item() == expected
    assert published.model.source == "modelparameters.mat"


def test_small_flat_and_foreign_things_are_named(model: SceneModel, tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="200×95 px is too small for NIQE"):
        NIQE(model)(torch.rand(1, 3, 95, 200))
    assert NIQE(model)(torch.full((1, 3, 96, 96), 0.5)).isnan().all()
    (tmp_path / "model.npz").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="holds no NIQE scene model"):
        NIQE.load(tmp_path / "model.npz")
    with pytest.raises(NoInputError, match="no sharp blocks"):
        fit([], "nothing")
