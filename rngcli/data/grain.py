"""Noise that pictures bring along: film grain, coarse noise, noise that was compressed or enlarged, bands."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .jpeg_sim import compressed, jpeg, mix_colours, ycc
from .random_fields import broad_field, chosen, gaussian_field, gaussian_lines, log_uniform, normal, one_of, uniform

# --- film ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FilmSpec:
    """Film grain, and what a scan makes of it. Ranges are plausible, not calibrated."""

    strength: tuple[float, float] = (5.0, 32.0)  # standard deviation in light where it is strongest, of 255
    size: tuple[float, float] = (0.6, 1.6)  # σ [px] of the grain's correlation
    shape: tuple[float, float] = (0.3, 1.2)  # exponent of 4v(1 − v): how fast the grain fades towards black and white
    fog: tuple[float, float] = (0.0, 0.35)  # what is left of it at black and white
    colour: tuple[float, float] = (0.0, 0.7)  # strength in colour, of that in light; a fifth is black-and-white film
    jpeg_share: float = 0.4
    jpeg_quality: tuple[int, int] = (40, 100)


def add_film_grain(clean: Tensor, spec: FilmSpec, rng: torch.Generator) -> Tensor:
    """Grain of a few pixels' correlation, strongest in the middle tones: sRGB (N, 3, H, W) in [0, 1] -> the same.

    Of overlapping opaque grains that leave v of the light through, the variance is v(1 − v) times a factor of their
    size (Newson et al. 2017, §3: an inhomogeneous Boolean model); blurred by the scanner's lens, the sum over many
    grains is normal, and its correlation about Gaussian.
    """
    n = len(clean)
    size = log_uniform(n, *spec.size, rng)
    colour = uniform(n, -0.25, 1.0, rng).clamp(min=0) * spec.colour[1] + spec.colour[0]
    field = gaussian_field(clean.shape, torch.cat([size, 1.25 * size, 1.25 * size], dim=1), rng)
    field = field * torch.cat([torch.ones_like(colour), colour, colour], dim=1)
    grain = mix_colours(field, torch.linalg.inv(ycc(n, clean.device)))
    fog = uniform(n, *spec.fog, rng)
    level = (4 * clean * (1 - clean)).clamp(min=1e-4) ** uniform(n, *spec.shape, rng)
    noisy = clean + log_uniform(n, *spec.strength, rng) / 255 * (fog + (1 - fog) * level) * grain
    return compressed(noisy, spec.jpeg_share, spec.jpeg_quality, rng)


# --- coarse ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CoarseSpec:
    """Noise that was enlarged, with its picture or without, and blotches in colour."""

    sigma: tuple[float, float] = (3.0, 45.0)  # of the noise before it was enlarged, 0–255 scale; log-uniform
    factor: tuple[float, float] = (1.2, 3.0)
    with_picture: float = 0.6  # the rest: coarse noise on a sharp picture
    jpeg_share: float = 0.3  # before the enlargement, and after it
    jpeg_quality: tuple[int, int] = (40, 100)
    blotch: tuple[float, float] = (0.0, 8.0)  # σ of broad blotches in colour, of 255; in light a fifth
    blotch_width: tuple[int, ...] = (4, 8)  # [px]


def add_coarse_noise(clean: Tensor, spec: CoarseSpec, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """sRGB (N, 3, H, W) in [0, 1] -> (clean, noisy): noisy pictures enlarged, or sharp ones with enlarged noise.

    The truth of an enlarged picture is the clean one, enlarged: the network is not to sharpen.
    """
    factor = float(uniform(1, *spec.factor, rng))
    mode = ("bicubic", "bilinear")[one_of((2, 1), rng)]
    sides = [max(16, round(side / factor / 16) * 16) for side in clean.shape[-2:]]

    def enlarge(x: Tensor) -> Tensor:
        return F.interpolate(x, size=clean.shape[-2:], mode=mode, align_corners=False)

    small = clean[..., : sides[0], : sides[1]]
    noise = log_uniform(len(clean), *spec.sigma, rng) / 255 * _tinted(small, rng)
    if one_of((spec.with_picture, 1 - spec.with_picture), rng):
        noisy = clean + enlarge(noise) + _blotches(clean, spec, rng)
    else:
        noisy = enlarge(compressed(small + noise, spec.jpeg_share, spec.jpeg_quality, rng))
        clean = enlarge(small).clamp(0, 1)
        noisy = noisy + chosen(len(clean), 0.3, rng) * _blotches(clean, spec, rng)
    return clean, compressed(noisy, spec.jpeg_share, spec.jpeg_quality, rng)


def _tinted(x: Tensor, rng: torch.Generator) -> Tensor:
    """White noise like x, in half of the pictures with less of it in colour."""
    noise = normal(x.shape, rng)
    return torch.lerp(noise, noise.mean(dim=1, keepdim=True) * 3**0.5, uniform(len(x), -1, 1, rng).clamp(min=0))


def _blotches(x: Tensor, spec: CoarseSpec, rng: torch.Generator) -> Tensor:
    """Blotches much broader than the noise, in colour mostly, as a phone's noise reduction leaves them."""
    n, width = len(x), spec.blotch_width[one_of([1] * len(spec.blotch_width), rng)]
    field = broad_field(x.shape, width, rng) * torch.tensor([0.2, 1.0, 1.0], device=x.device)[:, None, None]
    return uniform(n, *spec.blotch, rng) / 255 * mix_colours(field, torch.linalg.inv(ycc(n, x.device)))


# --- strong JPEG -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JpegSpec:
    """Noise under strong compression, and compression alone."""

    sigma: tuple[float, float] = (-5.0, 35.0)  # white noise before it, 0–255 scale; below 0: none
    quality: tuple[int, int] = (35, 95)
    enlarged_share: float = 0.25  # after it
    factor: tuple[float, float] = (1.2, 2.0)


def compress(clean: Tensor, spec: JpegSpec, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """sRGB (N, 3, H, W) in [0, 1] -> (clean, what JPEG leaves of it with noise), in a share of the calls enlarged."""
    sigma = uniform(len(clean), *spec.sigma, rng).clamp(min=0) / 255
    noisy = (clean + sigma * _tinted(clean, rng)).clamp(0, 1)
    noisy = jpeg(noisy, uniform(len(clean), *spec.quality, rng).floor())
    if one_of((spec.enlarged_share, 1 - spec.enlarged_share), rng):
        return clean, noisy
    factor = float(uniform(1, *spec.factor, rng))
    size, small = clean.shape[-2:], [round(side / factor) for side in clean.shape[-2:]]
    return tuple(  # type: ignore[return-value]
        F.interpolate(x[..., : small[0], : small[1]], size=size, mode="bicubic", align_corners=False).clamp(0, 1)
        for x in (clean, noisy)
    )


# --- bands -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BandsSpec:
    """Rows and columns with offsets of their own, seen on the developed picture, under some white noise."""

    rows: tuple[float, float] = (2.0, 24.0)  # standard deviation of the rows' offsets, of 255; log-uniform
    across: float = 0.35  # of the pictures: columns instead of rows
    both: tuple[float, float] = (0.0, 0.5)  # strength of the other direction, of the first
    width: tuple[float, float] = (0.0, 1.2)  # σ [px] by which neighbouring rows are alike
    waves: tuple[float, float] = (-12.0, 12.0)  # amplitude of a regular ripple, of 255; below 0: none
    period: tuple[float, float] = (3.0, 24.0)  # [px]
    tint: tuple[float, float] = (0.0, 1.0)  # how much the colours' bands differ
    dark: tuple[float, float] = (0.0, 0.9)  # how far the bands fade towards white
    sigma: tuple[float, float] = (0.0, 20.0)  # white noise, 0–255 scale
    jpeg_share: float = 0.2
    jpeg_quality: tuple[int, int] = (40, 100)


def add_bands(clean: Tensor, spec: BandsSpec, rng: torch.Generator) -> Tensor:
    """Row and column noise (Wei et al. 2020, §3.2) and ripples on sRGB (N, 3, H, W) in [0, 1], clipped."""
    n = len(clean)
    strength = log_uniform(n, *spec.rows, rng)
    turned = chosen(n, spec.across, rng)
    other = strength * uniform(n, *spec.both, rng)
    rows, columns = torch.where(turned, other, strength), torch.where(turned, strength, other)
    bands = rows * _lines(clean, spec, rng)
    bands = bands + columns * _lines(clean.mT, spec, rng).mT
    bands = bands + torch.where(turned, _ripple(clean.mT, spec, rng).mT, _ripple(clean, spec, rng))
    fade = 1 - uniform(n, *spec.dark, rng) * clean.mean(dim=1, keepdim=True)
    noise = uniform(n, *spec.sigma, rng) * normal(clean.shape, rng)
    return compressed(clean + (fade * bands + noise) / 255, spec.jpeg_share, spec.jpeg_quality, rng)


def _lines(x: Tensor, spec: BandsSpec, rng: torch.Generator) -> Tensor:
    """Offsets of unit variance, one a row: (N, 3, H, 1)."""
    n, height = len(x), x.shape[2]
    offsets = gaussian_lines(n, 4, height, uniform(n, *spec.width, rng), rng)
    tint = uniform(n, *spec.tint, rng)
    return torch.cos(tint * torch.pi / 2) * offsets[:, :1] + torch.sin(tint * torch.pi / 2) * offsets[:, 1:]


def _ripple(x: Tensor, spec: BandsSpec, rng: torch.Generator) -> Tensor:
    """A regular wave down the picture, (N, 1, H, 1), of 255."""
    n, rows = len(x), torch.arange(x.shape[2], device=x.device)[:, None]
    turns = rows / log_uniform(n, *spec.period, rng) + uniform(n, 0, 1, rng)
    return uniform(n, *spec.waves, rng).clamp(min=0) * torch.sin(2 * torch.pi * turns)
