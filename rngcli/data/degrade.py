"""Synthetic degradations for training: Gaussian noise, a camera's noise, JPEG; on the device, blind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class DegradeSpec:
    """How a batch of clean crops is made noisy."""

    gaussian_share: float = 0.7  # of the batch: white Gaussian noise; the rest: camera noise
    sigma: tuple[float, float] = (0.0, 75.0)  # on the 0–255 scale
    clipped_share: float = 0.75  # of the pictures with white noise: clipped and rounded as files hold them
    shot: tuple[float, float] = (1e-4, 1.2e-2)  # variance per unit of signal, log-uniform (Brooks et al. 2019)
    jpeg_share: float = 0.5  # of the camera's pictures
    jpeg_quality: tuple[int, int] = (60, 100)
    blur_share: tuple[float, float] = (0.2, 0.6)  # of the pictures with white, and with camera noise
    blur: tuple[float, float] = (0.4, 1.6)  # σ [px]
    grain: tuple[float, float] = (0.3, 1.2)  # σ [px] by which a camera's noise reduction blurs the noise in light …
    blotch: tuple[float, float] = (0.8, 4.0)  # … and in colour


SHARP = (0.0, 0.0)  # a blur_share that leaves the pictures as they are


def degrade(clean: Tensor, spec: DegradeSpec, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sharp sRGB (N, 3, H, W) in [0, 1] -> (clean, noisy) of the same shape; H and W multiples of 16.

    Gaussian noise is clipped and rounded to 8 bits in most pictures, as in a file, and neither in the rest, as
    in the field's protocol; the camera's noise is both.
    """
    split = round(spec.gaussian_share * len(clean))
    clean = torch.cat([_blur(part, share, spec.blur, rng) for part, share in
                       zip((clean[:split], clean[split:]), spec.blur_share, strict=True)])  # fmt: skip
    gaussian = _as_files(add_gaussian(clean[:split], spec.sigma, rng), spec.clipped_share, rng)
    camera = add_camera_noise(clean[split:], spec, rng)
    return clean, torch.cat([gaussian, camera])


def _blur(sharp: Tensor, share: float, sigma: tuple[float, float], rng: torch.Generator) -> Tensor:
    """A share of the pictures as soft as lens, antialiasing filter and demosaic leave them at a sensor's own pixels.

    Photographs that were downsampled are far sharper, and a generator that knows no others makes up their detail.
    """
    if not (share and len(sharp)):
        return sharp
    n = len(sharp)
    chosen = torch.rand(n, 1, 1, 1, generator=rng, device=rng.device) < share
    return torch.where(chosen, _gaussian_blur(sharp, _uniform(n, *sigma, rng), math.ceil(3 * sigma[1])), sharp)


def _gaussian_blur(x: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Each picture, or each channel of each, by its own Gaussian: x (N, C, H, W), sigma (N, 1 or C, 1, 1) [px]."""
    n, channels = x.shape[:2]
    offsets = torch.arange(-radius, radius + 1, device=x.device)
    taps = torch.softmax(-(offsets**2) / (2 * sigma.expand(n, channels, 1, 1) ** 2), dim=-1)
    taps = taps.reshape(n * channels, 1, 1, -1)
    rows = F.pad(x.reshape(1, n * channels, *x.shape[-2:]), [radius] * 4, mode="reflect")
    return F.conv2d(F.conv2d(rows, taps, groups=len(taps)), taps.mT, groups=len(taps)).view_as(x)


def _uniform(n: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    """(N, 1, 1, 1), uniform in [low, high)."""
    return low + (high - low) * torch.rand(n, 1, 1, 1, generator=rng, device=rng.device)


def _normal_like(x: Tensor, rng: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=rng, device=x.device)


def add_gaussian(clean: Tensor, sigma: tuple[float, float], rng: torch.Generator) -> Tensor:
    """White Gaussian noise, σ drawn per picture from `sigma` (0–255 scale)."""
    return clean + _uniform(len(clean), *sigma, rng) / 255 * _normal_like(clean, rng)


def to_8_bits(x: Tensor) -> Tensor:
    """What an 8-bit file keeps of x: clipped to [0, 1] and rounded to 255ths."""
    return (x.clamp(0, 1) * 255).round() / 255


def _as_files(noisy: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """A share of the pictures as 8-bit files hold them; draws nothing where the share is 0 or 1."""
    if share in (0, 1):
        return to_8_bits(noisy) if share else noisy
    chosen = torch.rand(len(noisy), 1, 1, 1, generator=rng, device=rng.device) < share
    return torch.where(chosen, to_8_bits(noisy), noisy)


# --- a camera: unprocess, expose, mosaic, develop (Brooks et al. 2019; Guo et al. 2019) -------------------------

# Plausible colour matrices, camera RGB -> linear sRGB, rows sum to 1: of the strength that sensors ask for, not any
# one sensor's calibration (Brooks et al. 2019 mix the matrices of four cameras in the same way).
_CAMERA_TO_SRGB = torch.tensor(
    [
        [[1.72, -0.58, -0.14], [-0.22, 1.52, -0.30], [0.02, -0.52, 1.50]],
        [[1.55, -0.42, -0.13], [-0.16, 1.38, -0.22], [-0.03, -0.38, 1.41]],
        [[1.90, -0.72, -0.18], [-0.27, 1.68, -0.41], [0.05, -0.66, 1.61]],
    ]
)


def _mix_colours(x: Tensor, matrix: Tensor) -> Tensor:
    return torch.einsum("nij,njhw->nihw", matrix, x)


def _colour_matrices(n: int, rng: torch.Generator) -> Tensor:
    """Random convex mixtures of the known sensors' matrices, (N, 3, 3)."""
    weights = torch.rand(n, len(_CAMERA_TO_SRGB), generator=rng, device=rng.device)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return torch.einsum("nk,kij->nij", weights, _CAMERA_TO_SRGB.to(rng.device))


def _to_linear(x: Tensor) -> Tensor:
    """Inverse of `_to_display`: smoothstep inverted in closed form, then gamma 2.2."""
    x = x.clamp(0, 1)
    return (0.5 - torch.sin(torch.asin(1 - 2 * x) / 3)) ** 2.2


def _to_display(linear: Tensor) -> Tensor:
    """Gamma 1/2.2, then the smoothstep tone curve 3v² − 2v³ (Brooks et al. 2019, §3)."""
    v = linear.clamp(1e-8, 1) ** (1 / 2.2)
    return v * v * (3 - 2 * v)


def _mosaic(x: Tensor) -> Tensor:
    """RGGB Bayer samples of (N, 3, H, W), zero elsewhere."""
    mask = torch.zeros(3, 2, 2, device=x.device)
    mask[0, 0, 0] = mask[1, 0, 1] = mask[1, 1, 0] = mask[2, 1, 1] = 1
    h, w = x.shape[-2:]
    return x * mask.repeat(1, h // 2, w // 2)


def _demosaic(bayer: Tensor) -> Tensor:
    """Bilinear demosaic: what makes a camera's noise spatially correlated and chromatic."""
    cross = torch.tensor([[0.0, 1, 0], [1, 4, 1], [0, 1, 0]], device=bayer.device) / 4
    full = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]], device=bayer.device) / 4
    kernels = torch.stack([full, cross, full])[:, None]
    return F.conv2d(F.pad(bayer, (1, 1, 1, 1), mode="reflect"), kernels, groups=3)


def _shot_and_read(n: int, spec: DegradeSpec, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Variances per unit of signal and of darkness, (N, 1, 1, 1) each (Brooks et al. 2019, eq. 5 and fig. 6)."""
    log_shot = _uniform(n, math.log(spec.shot[0]), math.log(spec.shot[1]), rng)
    spread = 0.26 * torch.randn(n, 1, 1, 1, generator=rng, device=rng.device)
    return log_shot.exp(), (2.18 * log_shot + 1.20 + spread).exp()


def add_camera_noise(clean: Tensor, spec: DegradeSpec, rng: torch.Generator) -> Tensor:
    """Shot and read noise in the sensor's linear light, seen through demosaic, colour matrix, tone curve and JPEG.

    Half the pictures skip the mosaic (downscaled or pixel-binned photographs have white noise). The clean
    picture goes through the same development without the noise; only the difference is added, so the truth
    keeps its sharpness and no demosaicing error is taught as noise.
    """
    if not (n := len(clean)):
        return clean
    matrix = _colour_matrices(n, rng)
    gains = torch.cat([_uniform(n, 1.6, 2.4, rng), torch.ones(n, 1, 1, 1, device=rng.device),
                       _uniform(n, 1.4, 1.9, rng)], dim=1)  # fmt: skip
    sensor = _mix_colours(_to_linear(clean), torch.linalg.inv(matrix)).clamp(0, 1) / gains
    shot, read = _shot_and_read(n, spec, rng)
    noise = (sensor * shot + read).sqrt() * _normal_like(sensor, rng)
    half = n // 2
    noise = torch.cat([_demosaic(_mosaic(noise[:half])), noise[half:]])

    def develop(light: Tensor) -> Tensor:
        return _to_display(_mix_colours(light * gains, matrix))

    noisy = (clean + develop(sensor + noise) - develop(sensor)).clamp(0, 1)
    noisy = _reduce(noisy, clean, spec, rng)
    with_jpeg = torch.rand(n, 1, 1, 1, generator=rng, device=rng.device) < spec.jpeg_share
    quality = _uniform(n, *spec.jpeg_quality, rng)
    return torch.where(with_jpeg, jpeg(noisy, quality), (noisy * 255).round() / 255)


def _reduce(noisy: Tensor, clean: Tensor, spec: DegradeSpec, rng: torch.Generator) -> Tensor:
    """A camera's own noise reduction: the noise, not the picture, loses its fine grain, in colour more than in light.

    What it leaves is coarse, and blotched in colour. A fifth of the pictures stay as they are, two fifths partly so.
    """
    n = len(clean)
    matrix = _ycc(n, clean.device)
    noise = _mix_colours(noisy - clean, matrix)
    light, colour = (_uniform(n, *sigma, rng) for sigma in (spec.grain, spec.blotch))
    coarse = _gaussian_blur(noise, torch.cat([light, colour, colour], dim=1), math.ceil(3 * spec.blotch[1]))
    share = _uniform(n, -0.5, 2.0, rng).clamp(0, 1)
    left = _mix_colours(noise + share * (coarse - noise), torch.linalg.inv(matrix))
    return (clean + left).clamp(0, 1)


# --- JPEG: colour transform, 4:2:0, 8×8 DCT, the standard's tables (ITU-T T.81, annex K) ------------------------

_LUMA = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
]  # fmt: skip
_CHROMA = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
    99, 99, 99, *[99] * 32,
]  # fmt: skip
_RGB_TO_YCC = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]


def _ycc(n: int, device: torch.device) -> Tensor:
    """RGB to luma and two chromas, (n, 3, 3)."""
    return torch.tensor(_RGB_TO_YCC, device=device).expand(n, 3, 3)


@cache
def _dct_matrix(device: torch.device) -> Tensor:
    """Orthonormal DCT-II of 8 samples, (8, 8)."""
    k, i = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    basis = torch.cos((2 * i + 1) * k * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis.to(device)


def _quantise_plane(plane: Tensor, table: list[int], quality: Tensor) -> Tensor:
    """(N, 1, H, W) around zero on the 0–255 scale: to DCT blocks, rounded by the scaled table, and back."""
    n, _, h, w = plane.shape
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    steps = torch.tensor(table, dtype=plane.dtype, device=plane.device).view(1, 1, 8, 8)
    steps = ((steps * scale + 50) / 100).floor().clamp(1, 255)[:, :, None, None]
    dct = _dct_matrix(plane.device)
    blocks = plane.view(n, 1, h // 8, 8, w // 8, 8).transpose(3, 4)  # (N, 1, H/8, W/8, 8, 8)
    blocks = dct.T @ ((dct @ blocks @ dct.T / steps).round() * steps) @ dct
    return blocks.transpose(3, 4).reshape(n, 1, h, w)


def jpeg(x: Tensor, quality: Tensor) -> Tensor:
    """What a baseline 4:2:0 JPEG of `quality` (N, 1, 1, 1) leaves of x (N, 3, H, W) in [0, 1]; H, W multiples of 16."""
    matrix = _ycc(len(x), x.device)
    ycc = _mix_colours(x * 255, matrix)
    luma = _quantise_plane(ycc[:, :1] - 128, _LUMA, quality) + 128
    chroma = F.avg_pool2d(ycc[:, 1:], 2)
    chroma = torch.cat([_quantise_plane(c, _CHROMA, quality) for c in chroma.split(1, dim=1)], dim=1)
    chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    rgb = _mix_colours(torch.cat([luma, chroma], dim=1), torch.linalg.inv(matrix))
    return (rgb / 255).clamp(0, 1)
