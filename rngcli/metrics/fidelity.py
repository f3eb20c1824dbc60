"""Faithfulness to a reference: PSNR, the two SSIMs of the denoising literature, and how true highlights stay."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import PictureError

SsimVariant = Literal["gaussian", "matlab-3d"]
RADIUS = 5  # 11 taps: what σ = 1.5 gives in scikit-image (truncate 3.5) and in MATLAB (⌈3σ⌉)


def psnr(image: Tensor, truth: Tensor, data_range: float) -> Tensor:
    """Peak signal-to-noise ratio [dB] over all channels, (N, C, H, W) ×2 -> (N,) float64; equal pictures give inf.

    Pictures are compared as they are, neither rounded nor clamped; uint8 is taken with `data_range=255`.
    """
    image, truth = _paired(image, truth)
    mse = (image - truth).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(data_range**2 / mse)


def ssim(image: Tensor, truth: Tensor, data_range: float, variant: SsimVariant = "gaussian") -> Tensor:
    """Structural similarity (Wang et al. 2004), (N, C, H, W) ×2 -> (N,) float64.

    gaussian   each channel by itself, windows wholly inside the picture, mean over channels. Equals scikit-image's
               `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)`.
    matlab-3d  MATLAB's `ssim(A, ref)` of an H×W×3 array, which takes colour for a third dimension of space, edges
               replicated. Results on SIDD are reported so (MPRNet, Restormer, NAFNet).
    """
    image, truth = _paired(image, truth)
    if min(image.shape[-2:]) <= 2 * RADIUS:
        raise PictureError(f"a picture of {_size(image)} px is too small for SSIM", "it needs 11 px on each side")
    moments = torch.cat([image, truth, image.square() + truth.square(), image * truth])
    mu_x, mu_y, power, product = _smooth(moments, volume=variant == "matlab-3d").chunk(4)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    means, cross = mu_x.square() + mu_y.square(), mu_x * mu_y
    similarity = (2 * cross + c1) * (2 * (product - cross) + c2) / ((means + c1) * (power - means + c2))
    return similarity.mean(dim=(1, 2, 3))


def brightest_error(image: Tensor, truth: Tensor, data_range: float, share: float = 0.01) -> Tensor:
    """Mean signed error of the truth's brightest pixels on the 0-255 scale, (N, C, H, W) ×2 -> (N,) float64.

    The brightest `share` by the mean of the channels, and all that are as bright as the darkest of these: a picture may
    have more white than that. Networks that learned from clipped noise make highlights too dark.
    """
    image, truth = _paired(image, truth)
    light = truth.mean(dim=1).flatten(1)
    count = max(round(share * light.shape[1]), 1)
    brightest = light >= light.topk(count, dim=1).values[:, -1:]
    error = (image - truth).mean(dim=1).flatten(1) * (255 / data_range)
    return (error * brightest).sum(dim=1) / brightest.sum(dim=1)


def _paired(image: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    if image.shape != truth.shape or image.dim() != 4:
        raise PictureError(f"{_size(image)} px cannot be compared with {_size(truth)} px", "give pictures of one size")
    # Variances are differences of large numbers: in float32 flat areas would lose them.
    return image.double(), truth.double()


def _size(image: Tensor) -> str:
    return "×".join(str(n) for n in reversed(image.shape[-2:]))


def _taps(like: Tensor) -> Tensor:
    offsets = torch.arange(-RADIUS, RADIUS + 1, dtype=like.dtype, device=like.device)
    weights = torch.exp(-0.5 * (offsets / 1.5).square())
    return weights / weights.sum()


def _smooth(maps: Tensor, volume: bool) -> Tensor:
    """Gaussian means of each window; `volume` smooths across channels too and keeps the size."""
    taps = _taps(maps)
    if volume:
        maps = torch.einsum("nchw,dc->ndhw", maps, _across_channels(taps, maps.shape[1]))
        maps = F.pad(maps, [RADIUS] * 4, mode="replicate")
    for axis in (-1, -2):
        maps = _along(maps, taps, axis)
    return maps


def _along(maps: Tensor, taps: Tensor, axis: int) -> Tensor:
    """Windows of 11 wholly inside along one axis; by slices, as float64 convolutions on a CPU take 18 times as long."""
    kept = maps.shape[axis] - 2 * RADIUS
    smooth = maps.narrow(axis, RADIUS, kept) * taps[RADIUS]
    for k in range(RADIUS):
        smooth += taps[k] * (maps.narrow(axis, k, kept) + maps.narrow(axis, 2 * RADIUS - k, kept))
    return smooth


def _across_channels(taps: Tensor, channels: int) -> Tensor:
    """The same Gaussian along the channel axis with replicated ends, as a (C, C) matrix."""
    mixing = taps.new_zeros(channels, channels)
    for target in range(channels):
        for offset, weight in enumerate(taps, start=-RADIUS):
            mixing[target, min(max(target + offset, 0), channels - 1)] += weight
    return mixing
