"""How much detail there is beside how much there should be, and where it lies: measures that grain cannot fool."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import PictureError

BLOCK = 16  # [px], the side of the blocks that are told apart
TEXTURES = ("flat", "medium", "rich")
FINE = 2.0  # [px] σ of the Gaussian that is taken away from a picture so that its fine detail is left
FLATTEST = 0.1  # share of a picture's blocks
FLOOR = 0.25 / 255  # what varies by less than a quarter of an 8-bit level can be seen by nobody, nor told from rounding
OCTAVES = {"2-4": (1 / 4, math.inf), "4-8": (1 / 8, 1 / 4), "8-16": (1 / 16, 1 / 8)}  # wavelength [px]: [1/px]


def spread(d: Tensor, missing: Tensor) -> float:
    """Standard deviation of the generated residual over that of the true one, y − r(x)."""
    return float(d.std() / missing.std())


def spread_by_texture(d: Tensor, missing: Tensor, clean: Tensor) -> dict[str, float]:
    """The same for three equal parts of the pictures' blocks, by the standard deviation of what is in them.

    All (N, 3, H, W), H and W at least BLOCK; what is left of whole blocks at the borders does not count.
    """
    order = _blocks(clean).std(dim=1).argsort()
    parts = order.tensor_split(len(TEXTURES))
    ours, theirs = _blocks(d), _blocks(missing)
    return {name: spread(ours[part], theirs[part]) for name, part in zip(TEXTURES, parts, strict=True)}


def placement(image: Tensor, truth: Tensor, reconstruction: Tensor) -> Tensor:
    """Whether detail was added where it is missing, (N, C, H, W) ×3 in [0, 1] -> (N,) in [-1, 1].

    The correlation, over blocks, of the log standard deviation of what was added to the reconstruction with that of
    what it lacks of the truth, fine detail of each. White grain is everywhere alike and has 0; NaN where nothing was
    added.
    """
    added, lacking = (_log_spread(fine_detail(side - reconstruction)) for side in (image, truth))
    added, lacking = (side - side.mean(dim=1, keepdim=True) for side in (added, lacking))
    cosine = F.cosine_similarity(added, lacking, dim=1, eps=0)
    return torch.where(added.square().mean(dim=1).sqrt() > 1e-3, cosine, math.nan)


def misplacement(added: Tensor, lacking: Tensor) -> Tensor:
    """How unevenly detail was added beside what was lacking, (N, C, H, W) ×2 -> (N,); a loss that has gradients.

    The variance, over blocks, of the log of the ratio of their standard deviations, fine detail of each: 0 where what
    was added is everywhere the same share of what was lacking, however small. White grain in a picture of sky and
    grass has much.
    """
    ratio = _log_spread(fine_detail(added)) - _log_spread(fine_detail(lacking))
    return ratio.var(dim=1, correction=0)


def flat_ratio(image: Tensor, truth: Tensor) -> Tensor:
    """Standard deviation of fine detail over the truth's own, in the truth's flattest blocks; (N, C, H, W) ×2 -> (N,).

    1 is right, more is noise or grain that the truth lacks, less is smoothed away. FLOOR is added to both.
    """
    ours, theirs = (_power(fine_detail(side)) for side in (image, truth))  # (N, blocks)
    count = max(round(FLATTEST * theirs.shape[1]), 1)
    flattest = theirs.argsort(dim=1)[:, :count]
    ours, theirs = (power.gather(1, flattest).mean(dim=1) + FLOOR**2 for power in (ours, theirs))
    return (ours / theirs).sqrt()


def flat_excess(image: Tensor, truth: Tensor) -> Tensor:
    """By how much `flat_ratio` is above 1, as its logarithm, (N, C, H, W) ×2 -> (N,); a loss that has gradients.

    0 where flat blocks have as much fine detail as the truth's, or less.
    """
    return flat_ratio(image, truth).log().clamp(min=0)


def octave_ratio(image: Tensor, truth: Tensor, octave: str) -> Tensor:
    """Amplitude over the truth's in one of OCTAVES, (N, 3, H, W) ×2 -> (N,); NaN where the truth has none.

    Of the luma (BT.601) under a Hann window.
    """
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64, device=image.device) for n in image.shape[-2:])
    frequency = torch.hypot(rows[:, None], columns)
    low, high = OCTAVES[octave]
    band = (frequency >= low) & (frequency < high)
    ours, theirs = (_spectrum(side)[:, band].sum(dim=1) for side in (image, truth))
    return torch.where(theirs > 0, (ours / theirs).sqrt(), math.nan)


def fine_detail(pictures: Tensor) -> Tensor:
    """What a Gaussian of σ = FINE takes away of (N, C, H, W). Raises PictureError below 2 BLOCK on a side."""
    if min(pictures.shape[-2:]) < 2 * BLOCK:
        size = f"{pictures.shape[-1]}×{pictures.shape[-2]}"
        raise PictureError(f"a picture of {size} px is too small to tell its blocks apart", f"it needs {2 * BLOCK} px")
    radius = math.ceil(3 * FINE)
    offsets = torch.arange(-radius, radius + 1, dtype=pictures.dtype, device=pictures.device)
    taps = torch.exp(-0.5 * (offsets / FINE).square())
    taps = taps / taps.sum()
    planes = F.pad(pictures.flatten(0, 1).unsqueeze(1), [radius] * 4, mode="reflect")
    smooth = F.conv2d(F.conv2d(planes, taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1))
    return pictures - smooth.reshape(pictures.shape)


def _log_spread(detail: Tensor) -> Tensor:
    """Log standard deviation in each block, (N, blocks)."""
    return 0.5 * (_power(detail) + FLOOR**2).log()


def _power(detail: Tensor) -> Tensor:
    """Mean square of each block, all channels together, (N, C, H, W) -> (N, blocks)."""
    return F.avg_pool2d(detail.square().mean(dim=1, keepdim=True), BLOCK).flatten(1)


def _spectrum(pictures: Tensor) -> Tensor:
    """Power of the luma, (N, 3, H, W) -> (N, H, W) float64."""
    luma = torch.einsum("nchw,c->nhw", pictures.double(), pictures.new_tensor([0.299, 0.587, 0.114]).double())
    luma = luma - luma.mean(dim=(1, 2), keepdim=True)
    down, across = (torch.hann_window(n, periodic=False, dtype=luma.dtype, device=luma.device) for n in luma.shape[1:])
    return torch.fft.fft2(luma * down[:, None] * across).abs().square()


def _blocks(pictures: Tensor) -> Tensor:
    """(N, 3, H, W) -> (blocks, 3·BLOCK²)."""
    columns = F.unfold(pictures, BLOCK, stride=BLOCK)
    return columns.transpose(1, 2).reshape(-1, columns.shape[1])
