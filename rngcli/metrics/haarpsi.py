"""HaarPSI (Reisenhofer et al. 2018): perceptual similarity by Haar wavelets, with neither training nor weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import PictureError

C, ALPHA = 30.0, 4.2  # on the 0-255 scale; the authors' fit to four databases of opinions
SCALES = 3  # two that are compared, and the coarsest, whose size says how much a place counts
# RGB -> YIQ, as in the authors' code
_YIQ = [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]]


def haarpsi(image: Tensor, truth: Tensor, data_range: float) -> Tensor:
    """Similarity of RGB pictures (N, 3, H, W) ×2 -> (N,) float64 in [0, 1]; equal pictures have 1.

    As in the authors' code, pictures are halved first, which stands for the distance of who looks at them.
    """
    if min(image.shape[-2:]) < 2 ** (SCALES + 1):
        raise PictureError(f"a picture of {image.shape[-1]}×{image.shape[-2]} px is too small for HaarPSI", "16 px")
    sides = [_halved_yiq(side.double() / data_range * 255) for side in (image, truth)]
    details = [torch.stack([_haar(side[:, :1], scale) for scale in range(SCALES)], dim=1).abs() for side in sides]
    weights = torch.maximum(details[0][:, -1], details[1][:, -1])  # (N, 2, h, w): horizontal and vertical
    local = _similar(details[0][:, :-1], details[1][:, :-1]).mean(dim=1)
    colours = [F.avg_pool2d(F.pad(side[:, 1:], (0, 1, 0, 1)), 2, stride=1).abs() for side in sides]
    local = torch.cat([local, _similar(*colours).mean(dim=1, keepdim=True)], dim=1)
    weights = torch.cat([weights, weights.mean(dim=1, keepdim=True)], dim=1)
    total = weights.sum(dim=(1, 2, 3))
    score = ((ALPHA * local).sigmoid() * weights).sum(dim=(1, 2, 3)) / total
    return torch.where(total > 0, (score.logit() / ALPHA).square(), 1.0)  # two black pictures are equal


def _similar(a: Tensor, b: Tensor) -> Tensor:
    return (2 * a * b + C) / (a.square() + b.square() + C)


def _halved_yiq(rgb: Tensor) -> Tensor:
    """Means of 2×2 pixels, an odd side filled up with black."""
    yiq = torch.einsum("nchw,dc->ndhw", rgb, rgb.new_tensor(_YIQ))
    odd = max(rgb.shape[2] % 2, rgb.shape[3] % 2)
    return F.avg_pool2d(F.pad(yiq, (0, odd, 0, odd)), 2)


def _haar(luma: Tensor, scale: int) -> Tensor:
    """Haar coefficients down and across at a scale, (N, 1, h, w) -> (N, 2, h, w), as MATLAB's conv2(…, 'same')."""
    side = 2 ** (scale + 1)
    down = luma.new_full((side, side), 1 / side)
    down[side // 2 :] *= -1
    padding = (side // 2 - 1, side // 2) * 2
    return F.conv2d(F.pad(luma, padding), torch.stack([down, down.T]).unsqueeze(1))
