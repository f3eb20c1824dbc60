"""What happened to a picture before we saw it, pixels = H·y + σ_n·ε, and how an estimate of y meets that measurement.

Every data step is x̂ = ŷ + v·Hᵀ(v·H·Hᵀ + σ_n²)⁻¹[trusted·(pixels − H·ŷ)], the posterior's mean for a ŷ of variance v.
Blur is a product of spectra, which wraps around the tile; what is wrapped is no residual, because the rim of the tile
that a kernel reaches into is not trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from . import kernels
from .process import per_tile

FLOOR = 1 / (255 * 12**0.5)  # what is added to σ_n where a kernel is undone: the rounding of 8 bits
LEAST = 2 / 255  # the least σ_n where a blur is undone: what is not trusted leaks into frequencies that were erased
EDGE = 8  # [px], over which a blurred picture's border passes into trusted pixels: an edge is at all frequencies
TAPER = 6  # [px], over which the rim passes into trusted pixels
TEXTURE = 3e-4  # c of the prior c/f² for first pictures: what photographs have per cycle/px, found on six of them
KEPT = 4  # spectra of a kernel, of the last sizes of tiles that came
WINDOW = 17  # [px] of the mean that a first picture starts from


@dataclass(frozen=True)
class Seen:
    """What a batch of tiles shows.

    pixels (N, 3, H, W) in [0, 1]; valid (N, 1, H, W): 0 in holes and beyond the picture's border, where pixels are its
    reflection, else 1; sigma (N,): σ_n on the [0, 1] scale, NaN where it is not known.
    """

    pixels: Tensor
    valid: Tensor
    sigma: Tensor


class Operator(Protocol):
    """H: linear, and one with which a method can meet the measurement in closed form, where σ_n is known."""

    scale: int  # pixels of y for each pixel seen, along each side
    margin: int  # [px seen] how far a pixel of y reaches

    def first(self, seen: Seen) -> Tensor:
        """A first picture of y, (N, 3, scale·H, scale·W), that no network has seen yet."""

    def meet(self, y: Tensor, seen: Seen, variance: Tensor) -> Tensor:
        """y drawn to what was seen: y + v·Hᵀ(v·H·Hᵀ + σ_n²)⁻¹[valid·(pixels − H·y)], v (N,) the variance of y."""


class Identity:
    """Nothing but noise was added."""

    scale, margin = 1, 0

    def first(self, seen: Seen) -> Tensor:
        return seen.pixels

    def meet(self, y: Tensor, seen: Seen, variance: Tensor) -> Tensor:
        v, noise = per_tile(variance, y), per_tile(seen.sigma, y).square()
        # Written so that σ_n = 0 pastes the very pixels, where ŷ + 1·(x − ŷ) would round.
        share = seen.valid * v / (v + noise)
        return share * seen.pixels + (1 - share) * y


class Mask:
    """Pixels are missing: `valid` is 0 there."""

    scale, margin = 1, 0

    def first(self, seen: Seen) -> Tensor:
        return filled(seen.pixels, seen.valid)

    def meet(self, y: Tensor, seen: Seen, variance: Tensor) -> Tensor:
        return Identity().meet(y, seen, variance)


class Decimate:
    """Blurred by a kernel, then every `scale`-th pixel kept: pixel i along a side was seen at scale·i."""

    least_sigma = 0.0

    def __init__(self, kernel: Tensor, scale: int) -> None:
        self.kernel, self.scale = kernel, scale
        self.margin = -(-kernels.reach(kernel) // scale)
        self._spectra: dict[tuple[object, ...], Tensor] = {}

    def first(self, seen: Seen) -> Tensor:
        """Wiener's estimate: a smooth picture, and on it what the prior c/f² expects of the rest."""
        smooth = interpolated(local_mean(seen.pixels, seen.valid), self.scale)
        h, w = smooth.shape[-2:]
        like = {"dtype": smooth.dtype, "device": smooth.device}
        f2 = torch.fft.fftfreq(h, **like)[:, None].square() + torch.fft.rfftfreq(w, **like).square()
        return self._drawn(smooth, seen, TEXTURE / f2.clamp(min=1 / (h * w)))

    def meet(self, y: Tensor, seen: Seen, variance: Tensor) -> Tensor:
        return self._drawn(y, seen, per_tile(variance, y))

    def apply(self, y: Tensor) -> Tensor:
        """H·y, (N, C, scale·H, scale·W) -> (N, C, H, W), as if y were periodic."""
        return _filtered(y, self.spectrum(y))[..., :: self.scale, :: self.scale]

    def _drawn(self, y: Tensor, seen: Seen, power: Tensor) -> Tensor:
        """y + M·Hᵀ(H·M·Hᵀ + σ_n²)⁻¹[trusted·(pixels − H·y)], M the power of y's error at each frequency."""
        residual = self._trusted(seen) * (seen.pixels - self.apply(y))
        noise = per_tile(seen.sigma.clamp(min=self.least_sigma), y).square() + FLOOR**2
        otf = self.spectrum(y)
        # H·M·Hᵀ is a convolution as well, by every scale-th sample of M's own, blurred both ways.
        response = torch.fft.irfft2(power * otf.abs().square(), y.shape[-2:])[..., :: self.scale, :: self.scale]
        weighed = torch.fft.rfft2(residual) / (torch.fft.rfft2(response).real + noise)
        apart = self._apart(torch.fft.irfft2(weighed, residual.shape[-2:]))
        return y + _filtered(apart, power * otf.conj())

    def _trusted(self, seen: Seen) -> Tensor:
        """`valid`, and 0 where the tile's rim is wrapped around, with a smooth passage between them."""
        h, w = seen.pixels.shape[-2:]
        return seen.valid * torch.outer(self._inside(h), self._inside(w)).to(seen.pixels)

    def _inside(self, length: int) -> Tensor:
        at = torch.arange(length).double()
        edge = torch.minimum(at, length - 1 - at) - self.margin  # [px] inside of the rim
        return _passage((edge + 1) / (TAPER + 1))

    def _apart(self, x: Tensor) -> Tensor:
        """Each pixel at scale·i, and zeros between them."""
        apart = x.new_zeros(*x.shape[:-2], self.scale * x.shape[-2], self.scale * x.shape[-1])
        apart[..., :: self.scale, :: self.scale] = x
        return apart

    def spectrum(self, like: Tensor) -> Tensor:
        """The kernel's transfer function on pictures of this size, computed once."""
        shape = like.shape[-2:]
        key = (*shape, like.dtype, like.device)
        if key not in self._spectra:
            if len(self._spectra) == KEPT:  # a folder of pictures of many sizes has tiles of many
                del self._spectra[next(iter(self._spectra))]
            placed = torch.zeros(shape, dtype=torch.float64)
            rows, cols = (torch.arange(n) - n // 2 for n in self.kernel.shape)
            # Added, not set: a kernel larger than the picture wraps around it.
            index = (rows[:, None] % shape[0] * shape[1] + cols % shape[1]).flatten()
            placed.view(-1).index_add_(0, index, self.kernel.flatten())
            self._spectra[key] = torch.fft.rfft2(placed).to(like.device, like.dtype.to_complex())
        return self._spectra[key]


class Blur(Decimate):
    """Blurred by a kernel."""

    least_sigma = LEAST

    def __init__(self, kernel: Tensor) -> None:
        super().__init__(kernel, 1)

    def _trusted(self, seen: Seen) -> Tensor:
        """The same, and the picture's own border passes smoothly as well."""
        return super()._trusted(seen) * _within(seen.valid)


def interpolated(x: Tensor, scale: int) -> Tensor:
    """Bicubic, with pixel i at scale·i and the last one repeated; (N, C, H, W) -> (N, C, scale·H, scale·W)."""
    if scale == 1:
        return x
    h, w = x.shape[-2:]
    within = ((h - 1) * scale + 1, (w - 1) * scale + 1)
    between = F.interpolate(x, within, mode="bicubic", align_corners=True)
    return F.pad(between, (0, scale - 1, 0, scale - 1), mode="replicate")


def local_mean(x: Tensor, valid: Tensor, window: int = WINDOW) -> Tensor:
    """Mean of the valid pixels in a window around each one, 0.5 where there are none; (N, C, H, W)."""

    def mean(a: Tensor) -> Tensor:
        rows = F.avg_pool2d(a, (window, 1), 1, (window // 2, 0), count_include_pad=False)
        return F.avg_pool2d(rows, (1, window), 1, (0, window // 2), count_include_pad=False)

    share = mean(valid)
    return torch.where(share > 0, mean(x * valid) / share.clamp(min=1e-6), 0.5)


def filled(x: Tensor, valid: Tensor) -> Tensor:
    """x with its holes filled from around them, by the valid pixels of ever coarser pictures; (N, C, H, W)."""
    size = x.shape[-2:]
    if max(size) == 1:
        return torch.where(valid > 0, x, 0.5)
    odd = (0, size[1] % 2, 0, size[0] % 2)
    share = F.avg_pool2d(F.pad(valid.to(x), odd), 2)
    coarse = F.avg_pool2d(F.pad(x * valid, odd), 2) / share.clamp(min=0.25)
    around = F.interpolate(filled(coarse, (share > 0).to(x)), scale_factor=2, mode="bilinear")
    return torch.where(valid > 0, x, around[..., : size[0], : size[1]])


def _within(valid: Tensor) -> Tensor:
    """0 in holes, 1 at EDGE px and more from them, with a smooth passage between; beyond the tile is no hole."""
    window = 2 * EDGE + 1
    share = F.avg_pool2d(F.pad(valid, [EDGE] * 4, value=1.0), window, 1)
    depth = (window * share - EDGE) / (EDGE + 1)  # of a straight border: 1 / (EDGE + 1) at the first pixel
    return valid * _passage(depth)


def _passage(at: Tensor) -> Tensor:
    """From 0 to 1 where `at` does, smoothly (a raised cosine), and constant beyond."""
    return 0.5 - 0.5 * torch.cos(torch.pi * at.clamp(0, 1))


def _filtered(x: Tensor, spectrum: Tensor) -> Tensor:
    return torch.fft.irfft2(torch.fft.rfft2(x) * spectrum, x.shape[-2:])
