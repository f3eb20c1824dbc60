"""How a camera develops its sensor's samples: mosaic and demosaicing, colour matrices, tone curves."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

# --- colour ----------------------------------------------------------------------------------------------------

# Plausible colour matrices, camera RGB -> linear sRGB, rows sum to 1: of the strength that sensors ask for, not any
# one sensor's calibration (Brooks et al. 2019 mix the matrices of four cameras in the same way).
_CAMERA_TO_SRGB = torch.tensor(
    [
        [[1.72, -0.58, -0.14], [-0.22, 1.52, -0.30], [0.02, -0.52, 1.50]],
        [[1.55, -0.42, -0.13], [-0.16, 1.38, -0.22], [-0.03, -0.38, 1.41]],
        [[1.90, -0.72, -0.18], [-0.27, 1.68, -0.41], [0.05, -0.66, 1.61]],
    ]
)


def colour_matrices(n: int, rng: torch.Generator) -> Tensor:
    """Random convex mixtures of the known sensors' matrices, (N, 3, 3)."""
    weights = torch.rand(n, len(_CAMERA_TO_SRGB), generator=rng, device=rng.device)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return torch.einsum("nk,kij->nij", weights, _CAMERA_TO_SRGB.to(rng.device))


# --- tone: linear light in [0, 1] to display values in [0, 1], and back; all clip first ---------------------------


def gamma(light: Tensor) -> Tensor:
    return light.clamp(1e-8, 1) ** (1 / 2.2)


def srgb(light: Tensor) -> Tensor:
    """IEC 61966-2-1."""
    light = light.clamp(0, 1)
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp(min=1e-8) ** (1 / 2.4) - 0.055)


def srgb_to_linear(x: Tensor) -> Tensor:
    """Inverse of `srgb`."""
    x = x.clamp(0, 1)
    return torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def smoothstep(light: Tensor) -> Tensor:
    """Gamma 1/2.2, then the tone curve 3v² − 2v³ (Brooks et al. 2019, §3)."""
    v = gamma(light)
    return v * v * (3 - 2 * v)


def smoothstep_to_linear(x: Tensor) -> Tensor:
    """Inverse of `smoothstep`, in closed form."""
    x = x.clamp(0, 1)
    return (0.5 - torch.sin(torch.asin(1 - 2 * x) / 3)) ** 2.2


def contrasty(light: Tensor) -> Tensor:
    """Gamma 1/2.2, then an S that keeps shadows more open than the smoothstep and is as steep in the middle."""
    v = gamma(light) ** 1.5
    return v / (v + (1 - gamma(light)) ** 1.5)


TONE_CURVES = (gamma, srgb, smoothstep, contrasty)

# --- mosaic ----------------------------------------------------------------------------------------------------


@cache
def _bayer_mask(device: torch.device) -> Tensor:
    """RGGB: which colour the sensor samples at each place of a 2×2 cell, (3, 2, 2)."""
    mask = torch.zeros(3, 2, 2, device=device)
    mask[0, 0, 0] = mask[1, 0, 1] = mask[1, 1, 0] = mask[2, 1, 1] = 1
    return mask


def mosaic(x: Tensor) -> Tensor:
    """RGGB Bayer samples of (N, 3, H, W), zero elsewhere; H and W even."""
    h, w = x.shape[-2:]
    return x * _bayer_mask(x.device).repeat(1, h // 2, w // 2)


def bilinear(bayer: Tensor) -> Tensor:
    """Bilinear demosaicing: what makes a camera's noise spatially correlated and chromatic."""
    cross = torch.tensor([[0.0, 1, 0], [1, 4, 1], [0, 1, 0]], device=bayer.device) / 4
    full = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]], device=bayer.device) / 4
    kernels = torch.stack([full, cross, full])[:, None]
    return F.conv2d(F.pad(bayer, (1, 1, 1, 1), mode="reflect"), kernels, groups=3)


@cache
def _malvar_kernels(device: torch.device) -> Tensor:
    """Green at red and blue; red or blue at green, along its row and along its column; red at blue and the reverse."""
    green = [[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]]
    row = [[0, 0, 0.5, 0, 0], [0, -1, 0, -1, 0], [-1, 4, 5, 4, -1], [0, -1, 0, -1, 0], [0, 0, 0.5, 0, 0]]
    cross = [[0, 0, -1.5, 0, 0], [0, 2, 0, 2, 0], [-1.5, 0, 6, 0, -1.5], [0, 2, 0, 2, 0], [0, 0, -1.5, 0, 0]]
    column = [list(line) for line in zip(*row, strict=True)]
    return torch.tensor([green, row, column, cross], device=device)[:, None] / 8


def malvar(bayer: Tensor) -> Tensor:
    """Gradient-corrected linear demosaicing (Malvar, He and Cutler 2004, fig. 2); -> (N, 3, H, W)."""
    plane = bayer.sum(dim=1, keepdim=True)
    found = F.conv2d(F.pad(plane, [2] * 4, mode="reflect"), _malvar_kernels(bayer.device))
    green, row, column, cross = found.split(1, dim=1)
    h, w = bayer.shape[-2:]
    at = _bayer_mask(bayer.device).repeat(1, h // 2, w // 2)
    red_rows = torch.tensor([1.0, 0.0], device=bayer.device).repeat(h // 2)[:, None]  # those that hold red samples
    red = at[0] * plane + at[1] * (red_rows * row + (1 - red_rows) * column) + at[2] * cross
    blue = at[2] * plane + at[1] * (red_rows * column + (1 - red_rows) * row) + at[0] * cross
    return torch.cat([red, at[1] * plane + (1 - at[1]) * green, blue], dim=1)


def edge_directed(bayer: Tensor, guide: Tensor) -> Tensor:
    """Green along the direction in which the `guide`, the noisy mosaic, changes less; colours less green, bilinear.

    Hamilton and Adams 1997, here linear in `bayer` for a given guide: (N, 3, H, W), (N, 1, H, W) -> (N, 3, H, W).
    """
    plane = bayer.sum(dim=1, keepdim=True)
    along = [_neighbours(plane, axis) for axis in (2, 3)]
    changes = [_change(guide, axis) for axis in (2, 3)]
    between = torch.where(changes[0] < changes[1], along[0], along[1])
    between = torch.where(changes[0] == changes[1], (along[0] + along[1]) / 2, between)
    h, w = bayer.shape[-2:]
    at = _bayer_mask(bayer.device).repeat(1, h // 2, w // 2)
    green = at[1] * plane + (1 - at[1]) * between
    differences = bilinear(at * (plane - green))
    return green + differences * torch.tensor([1.0, 0.0, 1.0], device=bayer.device)[:, None, None]


def _shifted(x: Tensor, by: int, axis: int) -> Tensor:
    """x moved by up to 2 px along an axis, the border mirrored."""
    padded = F.pad(x, [2] * 4, mode="reflect").narrow(5 - axis, 2, x.shape[5 - axis])
    return padded.narrow(axis, 2 + by, x.shape[axis])


def _neighbours(plane: Tensor, axis: int) -> Tensor:
    """The mean of both neighbours, corrected by the second difference of the place's own colour."""
    mean = (_shifted(plane, -1, axis) + _shifted(plane, 1, axis)) / 2
    return mean + (2 * plane - _shifted(plane, -2, axis) - _shifted(plane, 2, axis)) / 4


def _change(plane: Tensor, axis: int) -> Tensor:
    own = (2 * plane - _shifted(plane, -2, axis) - _shifted(plane, 2, axis)).abs()
    return own + (_shifted(plane, -1, axis) - _shifted(plane, 1, axis)).abs()


def demosaic(name: str, bayer: Tensor, guide: Tensor) -> Tensor:
    """By one of `DEMOSAICINGS`: samples (N, 3, H, W) of noise, as the mosaic `guide` (N, 1, H, W) leads."""
    if name == "edge-directed":
        return edge_directed(bayer, guide)
    return {"bilinear": bilinear, "malvar": malvar}[name](bayer)


DEMOSAICINGS = ("bilinear", "malvar", "edge-directed")
