"""What JPEG does to a picture: colour transform, 4:2:0, 8×8 DCT, the standard's tables (ITU-T T.81, annex K)."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from .random_fields import chosen, uniform

LUMA = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
]  # fmt: skip
CHROMA = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
    99, 99, 99, *[99] * 32,
]  # fmt: skip
_RGB_TO_YCC = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]


def mix_colours(x: Tensor, matrix: Tensor) -> Tensor:
    """Each pixel of x (N, 3, H, W) times its picture's matrix (N, 3, 3)."""
    return torch.einsum("nij,njhw->nihw", matrix, x)


def ycc(n: int, device: torch.device) -> Tensor:
    """RGB to luma and two chromas, (n, 3, 3)."""
    return torch.tensor(_RGB_TO_YCC, device=device).expand(n, 3, 3)


@cache
def _dct_matrix(device: torch.device) -> Tensor:
    """Orthonormal DCT-II of 8 samples, (8, 8)."""
    k, i = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    basis = torch.cos((2 * i + 1) * k * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis.to(device)


def quantisation(table: list[int], quality: Tensor) -> Tensor:
    """The steps of an 8×8 table at each quality of 1 to 100, as libjpeg scales them: (N, 1, 1, 1) -> (N, 1, 8, 8)."""
    scale = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)
    steps = torch.tensor(table, dtype=quality.dtype, device=quality.device).view(1, 1, 8, 8)
    return ((steps * scale + 50) / 100).floor().clamp(1, 255)


def _quantise_plane(plane: Tensor, table: list[int], quality: Tensor) -> Tensor:
    """(N, 1, H, W) around zero on the 0–255 scale: to DCT blocks, rounded by the scaled table, and back."""
    n, _, h, w = plane.shape
    steps = quantisation(table, quality)[:, :, None, None]
    dct = _dct_matrix(plane.device)
    blocks = plane.reshape(n, 1, h // 8, 8, w // 8, 8).transpose(3, 4)  # (N, 1, H/8, W/8, 8, 8)
    blocks = dct.T @ ((dct @ blocks @ dct.T / steps).round() * steps) @ dct
    return blocks.transpose(3, 4).reshape(n, 1, h, w)


def jpeg(x: Tensor, quality: Tensor) -> Tensor:
    """What a baseline 4:2:0 JPEG of `quality` (N, 1, 1, 1) leaves of x (N, 3, H, W) in [0, 1]; H, W multiples of 16."""
    matrix = ycc(len(x), x.device)
    planes = mix_colours(x * 255, matrix)
    luma = _quantise_plane(planes[:, :1] - 128, LUMA, quality) + 128
    chroma = F.avg_pool2d(planes[:, 1:], 2)
    chroma = torch.cat([_quantise_plane(c, CHROMA, quality) for c in chroma.split(1, dim=1)], dim=1)
    chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    rgb = mix_colours(torch.cat([luma, chroma], dim=1), torch.linalg.inv(matrix))
    return (rgb / 255).clamp(0, 1)


def compressed(x: Tensor, share: float, quality: tuple[int, int], rng: torch.Generator) -> Tensor:
    """A share of the pictures as JPEG leaves them, the rest clipped."""
    x = x.clamp(0, 1)
    if not share:
        return x
    return torch.where(chosen(len(x), share, rng), jpeg(x, uniform(len(x), *quality, rng)), x)
