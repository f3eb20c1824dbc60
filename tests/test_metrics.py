"""PSNR and SSIM against scikit-image and an independent 3-D Gaussian."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from rngcli.errors import PictureError
from rngcli.metrics.fidelity import psnr, ssim


def pair(dtype: type, shape: tuple[int, int] = (48, 67), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    clean = gaussian_filter(rng.random((*shape, 3)), (3, 3, 0))
    clean = (clean - clean.min()) / np.ptp(clean)
    noisy = np.clip(clean + rng.normal(0, 0.1, clean.shape), 0, 1)
    if dtype is np.uint8:
        return (noisy * 255).round().astype(np.uint8), (clean * 255).round().astype(np.uint8)
    return noisy.astype(dtype), clean.astype(dtype)


def tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1).unsqueeze(0)


@pytest.mark.parametrize(("dtype", "data_range"), [(np.float32, 1.0), (np.float64, 1.0), (np.uint8, 255.0)])
def test_equal_to_scikit_image(dtype: type, data_range: float) -> None:
    noisy, clean = pair(dtype)
    a, b = tensor(noisy), tensor(clean)
    assert psnr(a, b, data_range).item() == pytest.approx(
        peak_signal_noise_ratio(clean, noisy, data_range=data_range), abs=1e-5
    )
    reference = structural_similarity(
        clean, noisy, data_range=data_range, channel_axis=-1, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    assert ssim(a, b, data_range).item() == pytest.approx(reference, abs=1e-5)


def test_matlab_3d_ssim_takes_colour_for_a_dimension() -> None:
    noisy, clean = (x.astype(np.float64) for x in pair(np.float64))

    def mean(volume: np.ndarray) -> np.ndarray:
        return gaussian_filter(volume, 1.5, truncate=5 / 1.5, mode="nearest")

    mu_x, mu_y = mean(noisy), mean(clean)
    var_x, var_y = mean(noisy**2) - mu_x**2, mean(clean**2) - mu_y**2
    cov = mean(noisy * clean) - mu_x * mu_y
    expected = ((2 * mu_x * mu_y + 1e-4) * (2 * cov + 9e-4)) / ((mu_x**2 + mu_y**2 + 1e-4) * (var_x + var_y + 9e-4))
    got = ssim(tensor(noisy), tensor(clean), 1.0, "matlab-3d").item()
    assert got == pytest.approx(expected.mean(), abs=1e-9)
    assert abs(got - ssim(tensor(noisy), tensor(clean), 1.0).item()) > 1e-3


def test_a_batch_gives_each_picture_its_own_number() -> None:
    pairs = [pair(np.float64, seed=s) for s in range(3)]
    a, b = torch.cat([tensor(p[0]) for p in pairs]), torch.cat([tensor(p[1]) for p in pairs])
    for metric in (psnr, ssim):
        alone = [metric(a[i : i + 1], b[i : i + 1], 1.0).item() for i in range(3)]
        assert metric(a, b, 1.0).tolist() == pytest.approx(alone, abs=1e-12)


def test_equal_pictures_are_infinitely_good() -> None:
    picture = tensor(pair(np.float32)[1])
    assert psnr(picture, picture, 1.0).item() == float("inf")
    assert ssim(picture, picture, 1.0).item() == pytest.approx(1.0)


def test_wrong_sizes_are_named() -> None:
    picture = torch.zeros(1, 3, 20, 30)
    with pytest.raises(PictureError, match="30×20 px cannot be compared with 30×19"):
        psnr(picture, picture[..., :19, :], 1.0)
    with pytest.raises(PictureError, match="too small for SSIM"):
        ssim(picture[..., :10, :], picture[..., :10, :], 1.0)
