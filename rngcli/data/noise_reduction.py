"""What a camera's own noise reduction and sharpening leave of the noise, before anybody sees the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .jpeg_sim import mix_colours, ycc
from .random_fields import chosen, gaussian_blur, uniform

Range = tuple[float, float]


def reduce_noise(noisy: Tensor, clean: Tensor, grain: Range, blotch: Range, rng: torch.Generator) -> Tensor:
    """The noise, not the picture, loses its fine grain, in colour more than in light.

    What is left is coarse, and blotched in colour: blurred by `grain` px in light and by `blotch` px in colour. A
    fifth of the pictures stay as they are, two fifths partly so. (N, 3, H, W) in [0, 1] each.
    """
    n = len(clean)
    matrix = ycc(n, clean.device)
    noise = mix_colours(noisy - clean, matrix)
    coarse = _coarse(noise, grain, blotch, rng)
    share = uniform(n, -0.5, 2.0, rng).clamp(0, 1)
    left = mix_colours(noise + share * (coarse - noise), torch.linalg.inv(matrix))
    return (clean + left).clamp(0, 1)


def _coarse(noise: Tensor, grain: Range, blotch: Range, rng: torch.Generator) -> Tensor:
    """Luma and chromas (N, 3, H, W) blurred, each picture by its own σ [px] of light and of colour."""
    light, colour = (uniform(len(noise), *sigma, rng) for sigma in (grain, blotch))
    return gaussian_blur(noise, torch.cat([light, colour, colour], dim=1), math.ceil(3 * max(grain[1], blotch[1])))


@dataclass(frozen=True)
class ReductionSpec:
    """An edge-aware noise reduction with coring, and a sharpening after it. Ranges are plausible, not calibrated.

    Noise left by real cameras (neighbours alike in light by 0.3 to 0.8, in colour by 0.8 to 0.95, colour half as
    strong as light) lies within what they give.
    """

    reduced_share: float = 0.75  # of the pictures
    grain: Range = (0.5, 1.8)  # σ [px] that divides fine from coarse noise in light …
    blotch: Range = (1.2, 4.0)  # … and in colour
    fine: Range = (0.0, 0.7)  # how much of the fine noise is left where the picture is flat, in light; half in colour
    coarse_colour: Range = (0.35, 1.0)  # how much of the coarse noise in colour is left
    coring: Range = (-1.0, 1.5)  # fine noise below so many of its σ is taken away more than what is above; < 0: not
    edge: Range = (0.02, 0.15)  # contrast of an edge near which the noise is spared, of full scale
    sharpened_share: float = 0.4
    amount: Range = (0.2, 1.0)
    radius: Range = (0.5, 1.5)  # σ [px]


def reduce_in_camera(clean: Tensor, noisy: Tensor, spec: ReductionSpec, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """(clean, noisy), (N, 3, H, W) in [0, 1] each -> the same after noise reduction and sharpening.

    The truth is sharpened as the picture is, so that taking noise away is not punished for leaving the sharpness.
    """
    n = len(clean)
    matrix = ycc(n, clean.device)
    noise = mix_colours(noisy - clean, matrix)
    coarse = _coarse(noise, spec.grain, spec.blotch, rng)
    fine = noise - coarse
    threshold = uniform(n, *spec.coring, rng).clamp(min=0) * fine.std(dim=(2, 3), keepdim=True)
    cored = fine**3 / (fine**2 + threshold**2).clamp(min=1e-12)
    kept = uniform(n, *spec.fine, rng) * torch.tensor([1.0, 0.5, 0.5], device=clean.device)[:, None, None]
    spared = _edges(clean, uniform(n, *spec.edge, rng))
    colour = uniform(n, *spec.coarse_colour, rng)
    left = coarse * torch.cat([torch.ones_like(colour), colour, colour], dim=1)
    left = left + kept * cored + spared * (1 - kept) * fine
    left = torch.where(chosen(n, spec.reduced_share, rng), left, noise)
    noisy = (clean + mix_colours(left, torch.linalg.inv(matrix))).clamp(0, 1)
    amount = chosen(n, spec.sharpened_share, rng) * uniform(n, *spec.amount, rng)
    radius = uniform(n, *spec.radius, rng)
    return sharpen(clean, amount, radius), sharpen(noisy, amount, radius)


def _edges(clean: Tensor, contrast: Tensor) -> Tensor:
    """Where the picture changes by about `contrast` or more within 2 px: towards 1; (N, 1, H, W)."""
    light = clean.mean(dim=1, keepdim=True)
    change = (light - gaussian_blur(light, torch.full_like(contrast, 2.0), 5)).abs()
    change = gaussian_blur(change, torch.full_like(contrast, 1.0), 3)
    return change**2 / (change**2 + contrast**2)


def sharpen(x: Tensor, amount: Tensor, sigma: Tensor) -> Tensor:
    """An unsharp mask: `amount` (N, 1, 1, 1) of what a Gaussian blur of `sigma` [px], at most 1.5, takes away."""
    return (x + amount * (x - gaussian_blur(x, sigma, 5))).clamp(0, 1)
