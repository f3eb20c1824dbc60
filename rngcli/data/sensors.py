"""A camera's noise: photons, read noise and banding in the sensor's linear light, seen through its development."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .development import (
    DEMOSAICINGS,
    TONE_CURVES,
    bilinear,
    colour_matrices,
    demosaic,
    mosaic,
    smoothstep,
    smoothstep_to_linear,
    srgb_to_linear,
)  # fmt: skip
from .jpeg_sim import compressed, mix_colours
from .noise_reduction import ReductionSpec, reduce_in_camera, reduce_noise
from .random_fields import chosen, log_uniform, normal, one_of, uniform

# --- daylight: unprocess, expose, mosaic, develop (Brooks et al. 2019; Guo et al. 2019) -------------------------


@dataclass(frozen=True)
class CameraSpec:
    """A camera in good light: a heteroscedastic Gaussian, which photons are like where they are many."""

    shot: tuple[float, float] = (1e-4, 1.2e-2)  # variance per unit of signal, log-uniform (Brooks et al. 2019)
    jpeg_share: float = 0.5
    jpeg_quality: tuple[int, int] = (60, 100)
    grain: tuple[float, float] = (0.3, 1.2)  # σ [px] by which its noise reduction blurs the noise in light …
    blotch: tuple[float, float] = (0.8, 4.0)  # … and in colour


def _shot_and_read(n: int, spec: CameraSpec, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Variances per unit of signal and of darkness, (N, 1, 1, 1) each (Brooks et al. 2019, eq. 5 and fig. 6)."""
    log_shot = uniform(n, math.log(spec.shot[0]), math.log(spec.shot[1]), rng)
    spread = 0.26 * torch.randn(n, 1, 1, 1, generator=rng, device=rng.device)
    return log_shot.exp(), (2.18 * log_shot + 1.20 + spread).exp()


def add_camera_noise(clean: Tensor, spec: CameraSpec, rng: torch.Generator) -> Tensor:
    """Shot and read noise in the sensor's linear light, seen through demosaic, colour matrix, tone curve and JPEG.

    Half the pictures skip the mosaic (downscaled or pixel-binned photographs have white noise). The clean
    picture goes through the same development without the noise; only the difference is added, so the truth
    keeps its sharpness and no demosaicing error is taught as noise.
    """
    if not (n := len(clean)):
        return clean
    matrix = colour_matrices(n, rng)
    gains = torch.cat([uniform(n, 1.6, 2.4, rng), torch.ones(n, 1, 1, 1, device=rng.device),
                       uniform(n, 1.4, 1.9, rng)], dim=1)  # fmt: skip
    sensor = mix_colours(smoothstep_to_linear(clean), torch.linalg.inv(matrix)).clamp(0, 1) / gains
    shot, read = _shot_and_read(n, spec, rng)
    noise = (sensor * shot + read).sqrt() * normal(sensor.shape, rng)
    half = n // 2 + (n % 2 and one_of((1, 1), rng))
    noise = torch.cat([bilinear(mosaic(noise[:half])), noise[half:]])

    def develop(light: Tensor) -> Tensor:
        return smoothstep(mix_colours(light * gains, matrix))

    noisy = (clean + develop(sensor + noise) - develop(sensor)).clamp(0, 1)
    noisy = reduce_noise(noisy, clean, spec.grain, spec.blotch, rng)
    return compressed((noisy * 255).round() / 255, spec.jpeg_share, spec.jpeg_quality, rng)


# --- from day to night: photons that can be counted (Wei et al. 2020, §3; Zhang et al. 2021, §3.2) --------------


@dataclass(frozen=True)
class SensorSpec:
    """A sensor that counts photons, and how its counts are developed. Ranges are plausible, not calibrated."""

    exposure: tuple[float, float] = (0.03, 1.0)  # where the scene's white lies, of full scale; log-uniform
    photons: tuple[float, float] = (30.0, 5000.0)  # electrons of the scene's white; log-uniform
    read: tuple[float, float] = (0.7, 4.0)  # σ [electrons], log-uniform
    tail: tuple[float, float] = (-0.26, 0.14)  # Tukey's λ of the read noise: 0.14 is normal, below 0 is heavy-tailed
    rows: tuple[float, float] = (0.0, 0.5)  # σ of each row's own offset, of the read noise's; of columns a third
    hot: tuple[float, float] = (1e-6, 3e-4)  # share of the samples that are hot, log-uniform
    bits: tuple[int, int] = (10, 14)
    black_share: float = 0.6  # of the pictures whose noise is clipped at black before the development
    # How far the development makes up for the exposure, clipped to [0, 1]: 0 leaves the picture dark.
    brightened: tuple[float, float] = (-0.6, 1.2)
    mosaic_share: float = 0.8  # the rest is binned or downscaled
    reduction: ReductionSpec = field(default_factory=ReductionSpec)
    jpeg_share: float = 0.5
    jpeg_quality: tuple[int, int] = (40, 100)


def expose(clean: Tensor, spec: SensorSpec, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """sRGB (N, 3, H, W) in [0, 1] -> (what the scene would be without noise, the noisy picture), developed alike.

    The scene's light is the picture's by the sRGB curve, whatever curve develops it: the inverse of a steep one would
    make the picture's own faint noise strong in a dark truth. Photons are counted by a true Poisson draw; read noise,
    row and column offsets and hot pixels are added, the sum is rounded to the sensor's bits and, mostly, clipped at
    black, before it is developed, reduced in the camera and perhaps compressed. A scene that is left dark has a dark
    truth, and a picture that is sharpened a sharpened one.
    """
    n, display = len(clean), TONE_CURVES[one_of([1] * len(TONE_CURVES), rng)]
    matrix = colour_matrices(n, rng)
    gains = torch.cat([uniform(n, 1.2, 2.6, rng), torch.ones(n, 1, 1, 1, device=rng.device),
                       uniform(n, 1.2, 2.6, rng)], dim=1)  # fmt: skip
    exposure = log_uniform(n, *spec.exposure, rng)
    lift = exposure ** -uniform(n, *spec.brightened, rng).clamp(0, 1)
    # Who brightens a picture by four stops has more light to begin with.
    photons = log_uniform(n, *spec.photons, rng) * (lift * exposure / exposure.sqrt()).clamp(min=1)
    light = mix_colours(srgb_to_linear(clean), torch.linalg.inv(matrix)).clamp(0, 1) / gains
    noise = _noise(light, photons, exposure, spec, rng)

    def develop(light: Tensor) -> Tensor:
        return display(mix_colours(light * gains * exposure * lift, matrix))

    clean, noisy = reduce_in_camera(develop(light), develop(light + noise), spec.reduction, rng)
    return clean, compressed(noisy, spec.jpeg_share, spec.jpeg_quality, rng)


def _noise(light: Tensor, photons: Tensor, exposure: Tensor, spec: SensorSpec, rng: torch.Generator) -> Tensor:
    """What is wrong with the sensor's picture of `light` (N, 3, H, W), in its units, after demosaicing."""
    n, full = len(light), photons / exposure
    binned = one_of((spec.mosaic_share, 1 - spec.mosaic_share), rng)
    samples = light if binned else mosaic(light).sum(dim=1, keepdim=True)
    read = log_uniform(n, *spec.read, rng)
    counts = torch.poisson(samples * photons, generator=rng) + read * tukey(samples.shape, spec.tail, rng)
    counts = counts + read * banding(samples.shape, spec.rows, rng)
    counts = counts + full * _hot(samples.shape, spec.hot, rng)
    # No converter is much coarser than the noise that it converts.
    step = torch.minimum(full / 2.0 ** uniform(n, spec.bits[0], spec.bits[1] + 1, rng).floor(), 1.5 * read)
    black = torch.where(chosen(n, spec.black_share, rng), 0.0, -math.inf)
    counts = torch.minimum(torch.maximum((counts / step).round() * step, black), full)
    noise = counts / photons - samples
    if binned:
        return noise
    name = DEMOSAICINGS[one_of([1] * len(DEMOSAICINGS), rng)]
    return demosaic(name, mosaic(noise.expand(-1, 3, -1, -1)), counts)


def tukey(shape: torch.Size, shape_parameter: tuple[float, float], rng: torch.Generator) -> Tensor:
    """Tukey-lambda noise of unit variance, λ drawn per picture (Wei et al. 2020, §3.1)."""
    lam = uniform(shape[0], *shape_parameter, rng)
    lam = torch.where(lam.abs() < 0.02, 0.02, lam)  # at 0 both formulas divide by it
    p = torch.rand(shape, generator=rng, device=rng.device).clamp(1e-6, 1 - 1e-6)
    beta = (2 * torch.lgamma(lam + 1) - torch.lgamma(2 * lam + 2)).exp()
    variance = 2 / lam**2 * (1 / (1 + 2 * lam) - beta)
    return (p**lam - (1 - p) ** lam) / lam / variance.sqrt()


def banding(shape: torch.Size, rows: tuple[float, float], rng: torch.Generator) -> Tensor:
    """Offsets of rows, and a third as strong of columns, the σ drawn per picture from `rows`; -> (N, 1, H, W)."""
    n, _, height, width = shape
    sigma = uniform(n, *rows, rng)
    return sigma * (normal((n, 1, height, 1), rng) + normal((n, 1, 1, width), rng) / 3)


def _hot(shape: torch.Size, share: tuple[float, float], rng: torch.Generator) -> Tensor:
    """Hot samples, of up to the full scale; zero elsewhere."""
    p = log_uniform(shape[0], *share, rng)
    u = torch.rand(shape, generator=rng, device=rng.device)
    return torch.where(u < p, u / p, 0.0)
