"""What degradations are drawn from: numbers, one a picture, and random fields of a chosen grain; on the device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def uniform(n: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    """(N, 1, 1, 1), uniform in [low, high)."""
    return low + (high - low) * torch.rand(n, 1, 1, 1, generator=rng, device=rng.device)


def log_uniform(n: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    """(N, 1, 1, 1), log-uniform in [low, high); low > 0."""
    return uniform(n, math.log(low), math.log(high), rng).exp()


def chosen(n: int, share: float, rng: torch.Generator) -> Tensor:
    """(N, 1, 1, 1) booleans, each true with probability `share`."""
    return torch.rand(n, 1, 1, 1, generator=rng, device=rng.device) < share


def one_of(weights: Sequence[float], rng: torch.Generator) -> int:
    """An index, drawn by its weight."""
    return int(torch.multinomial(torch.tensor(weights, dtype=torch.float32, device=rng.device), 1, generator=rng))


def normal(shape: Sequence[int], rng: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=rng, device=rng.device)


def gaussian_taps(sigma: Tensor, radius: int) -> Tensor:
    """Weights of a Gaussian at −radius … radius, summing to 1: sigma (..., 1) [px] -> (..., 2·radius + 1)."""
    offsets = torch.arange(-radius, radius + 1, device=sigma.device)
    return torch.softmax(-(offsets**2) / (2 * sigma.clamp(min=1e-2) ** 2), dim=-1)


def separable(x: Tensor, taps: Tensor) -> Tensor:
    """Each channel of x (N, C, H, W) filtered down and across by its own taps (N, C, k): k − 1 px smaller."""
    n, channels = x.shape[:2]
    kernels = taps.reshape(n * channels, 1, 1, -1)
    rows = F.conv2d(x.reshape(1, n * channels, *x.shape[-2:]), kernels, groups=len(kernels))
    columns = F.conv2d(rows, kernels.mT, groups=len(kernels))
    return columns.view(n, channels, *columns.shape[-2:])


def gaussian_blur(x: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Each picture, or each channel of each, by its own Gaussian: x (N, C, H, W), sigma (N, 1 or C, 1, 1) [px]."""
    taps = gaussian_taps(sigma.expand(-1, x.shape[1], 1, 1)[..., 0], radius)
    return separable(F.pad(x, [radius] * 4, mode="reflect"), taps)


def gaussian_field(shape: Sequence[int], sigma: Tensor, rng: torch.Generator) -> Tensor:
    """Normal noise (N, C, H, W) of unit variance and Gaussian correlation: white noise blurred by sigma [px].

    sigma is (N, 1 or C, 1, 1) and at most 2; 0 leaves the noise white.
    """
    n, channels, height, width = shape
    taps = _unit_variance(sigma, channels, radius=6)
    return separable(normal((n, channels, height + 12, width + 12), rng), taps)


def gaussian_lines(n: int, channels: int, length: int, sigma: Tensor, rng: torch.Generator) -> Tensor:
    """The same along one direction alone: (N, C, length, 1)."""
    taps = _unit_variance(sigma, channels, radius=6).reshape(n * channels, 1, -1)
    white = normal((1, n * channels, length + 12), rng)
    return F.conv1d(white, taps, groups=len(taps)).view(n, channels, length, 1)


def _unit_variance(sigma: Tensor, channels: int, radius: int) -> Tensor:
    """Gaussian taps (N, C, 2·radius + 1) that leave white noise its variance."""
    taps = gaussian_taps(sigma.expand(-1, channels, 1, 1)[..., 0], radius)
    return taps / taps.square().sum(dim=-1, keepdim=True).sqrt()


def broad_field(shape: Sequence[int], cell: int, rng: torch.Generator) -> Tensor:
    """Normal noise (N, C, H, W) of unit variance in the mean whose blotches are `cell` px wide: white, enlarged."""
    n, channels, height, width = shape
    small = normal((n, channels, height // cell + 3, width // cell + 3), rng)
    broad = F.interpolate(small, scale_factor=cell, mode="bicubic", align_corners=False)
    shift = cell * 3 // 2  # away from the border, where a cubic repeats its edge
    # Between its samples a cubic's weights have, squared, a sum of 0.857 in the mean, down and across.
    return broad[..., shift : shift + height, shift : shift + width] / 0.857
