"""Noise as named protocols: what `rng eval --noise` does to clean pictures, by makers that training does not use."""

from __future__ import annotations

import io
import math
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UsageError

Array = np.ndarray
Draw = np.random.RandomState  # its streams never change, so neither do the protocols


@dataclass(frozen=True)
class Protocol:
    """`make` turns a clean picture into (noisy, truth), all (H, W, 3) sRGB in [0, 1]; `text` says how."""

    text: str
    make: Callable[[Array, Draw], tuple[Array, Array]]


def degraded(noise: str, pixels: Array, key: str) -> tuple[Array, Array]:
    """(noisy, truth) by one of `PROTOCOLS`, float32; a picture's noise hangs on its name alone, whatever its set."""
    rng = Draw(zlib.crc32(os.fsencode(Path(key).stem)))
    noisy, truth = PROTOCOLS[noise].make(pixels.astype(np.float64), rng)
    return noisy.astype(np.float32), truth.astype(np.float32)


def check_noises(noises: Sequence[str], sigmas: Sequence[float]) -> None:
    """UsageError where a noise is unknown, or a σ is missing or has nothing to tell."""
    for noise in noises:
        if noise not in (*WHITE, *PROTOCOLS):
            raise UsageError(f"no noise is called {noise!r}", f"choose from {', '.join((*WHITE, *PROTOCOLS))}")
    if any(noise in WHITE for noise in noises) and not sigmas:
        raise UsageError("clean pictures need noise", "say how much: --sigma 15,25,50, or which: --noise night")
    if sigmas and not any(noise in WHITE for noise in noises):
        raise UsageError(f"{', '.join(noises)} has strengths of its own", "leave out --sigma")


def eight_bits(x: Array) -> Array:
    """Clipped to [0, 1] and rounded to 255ths, as an 8-bit file holds it."""
    return np.round(np.clip(x, 0, 1) * 255) / 255


# --- night -----------------------------------------------------------------------------------------------------

# Weaker than the matrices that training mixes; rows sum to 1. Plausible, not calibrated.
_MATRIX = np.array([[1.38, -0.27, -0.11], [-0.11, 1.24, -0.13], [-0.02, -0.27, 1.29]])
_GAINS = np.array([2.0, 1.0, 1.7])
_FULL = 600  # electrons of the full scale


def _filmic(light: Array) -> Array:
    """The tone curve of Hejl and Burgess-Dawson (2010), scaled to end at white."""
    x = np.clip(light, 0, 1)
    return x * (6.2 * x + 0.5) / (x * (6.2 * x + 1.7) + 0.06) * (7.96 / 6.7)


def _night(clean: Array, rng: Draw) -> tuple[Array, Array]:
    exposure = rng.uniform(0.04, 0.10)
    light = np.clip(clean**2 @ np.linalg.inv(_MATRIX).T, 0, 1) / _GAINS * exposure
    masks = _bayer(clean.shape[:2])
    samples = (light * masks).sum(axis=2)
    read = np.where(rng.uniform(size=samples.shape) < 0.01, 8.0, 2.0) * rng.normal(size=samples.shape)
    counts = rng.poisson(samples * _FULL) + read + rng.uniform(-1, 1, (len(samples), 1))
    noise = np.clip(np.round(counts / _FULL * 4095) / 4095, 0, 1) - samples

    def develop(light: Array) -> Array:
        return _filmic(light * _GAINS @ _MATRIX.T)

    return eight_bits(develop(light + _demosaic(noise, masks))), develop(light)


def _bayer(shape: tuple[int, int]) -> Array:
    """GBRG: which colour is sampled where, (H, W, 3); training has RGGB."""
    odd_row, odd_column = (np.arange(n) % 2 == 1 for n in shape)
    red = odd_row[:, None] & ~odd_column
    blue = ~odd_row[:, None] & odd_column
    return np.stack([red, ~(red | blue), blue], axis=2).astype(float)


def _demosaic(plane: Array, masks: Array) -> Array:
    """Green bilinear, then red and blue less green bilinear; linear, (H, W) -> (H, W, 3)."""
    green = _shifts(plane * masks[..., 1], _CROSS)
    differences = [_shifts((plane - green) * masks[..., c], _FULL_CELL) for c in (0, 2)]
    return np.stack([green + differences[0], green, green + differences[1]], axis=2)


_CROSS = {(0, 0): 1.0, (0, 1): 0.25, (0, -1): 0.25, (1, 0): 0.25, (-1, 0): 0.25}
_FULL_CELL = {(i, j): (1 - abs(i) / 2) * (1 - abs(j) / 2) for i in (-1, 0, 1) for j in (-1, 0, 1)}


def _shifts(plane: Array, weights: dict[tuple[int, int], float]) -> Array:
    """The weighted sum of `plane` (H, W) shifted by each (rows, columns), its border mirrored."""
    radius = max(max(abs(i), abs(j)) for i, j in weights)
    padded = np.pad(plane, radius, mode="reflect")
    h, w = plane.shape
    total = np.zeros_like(plane)
    for (i, j), weight in weights.items():
        total += weight * padded[radius + i : radius + i + h, radius + j : radius + j + w]
    return total


# --- film ------------------------------------------------------------------------------------------------------

_FINE = 4  # parts of a pixel's side in which grains are laid


def _film(clean: Array, rng: Draw) -> tuple[Array, Array]:
    radius, lens = rng.uniform(0.25, 0.45), rng.uniform(0.7, 1.1)
    light = _grain(clean @ [0.299, 0.587, 0.114], radius, lens, rng)
    colour = np.stack([_grain(clean[..., c], radius, lens, rng) for c in range(3)], axis=2)
    return eight_bits(clean + 0.6 * light[..., None] + 0.25 * colour), clean


def _grain(density: Array, radius: float, lens: float, rng: Draw) -> Array:
    """What an inhomogeneous Boolean model of opaque discs adds to `density` (H, W) (Newson et al. 2017, §3).

    Discs of `radius` px fall by a Poisson law so that a part `density` of the plane is covered; what the lens, a
    Gaussian of σ `lens` px, sees of the cover, less its mean.
    """
    within = int(radius * _FINE)
    square = range(-within, within + 1)
    disc = {(i, j): 1.0 for i in square for j in square if i * i + j * j <= (radius * _FINE) ** 2}
    fine = np.kron(np.clip(density, 0, 0.999), np.ones((_FINE, _FINE)))
    covered = _shifts(rng.poisson(-np.log1p(-fine) / len(disc)).astype(np.float32), disc) > 0
    h, w = density.shape
    cover = covered.reshape(h, _FINE, w, _FINE).mean(axis=(1, 3))
    return _gaussian(cover - density, lens)


def _gaussian(plane: Array, sigma: float) -> Array:
    radius = math.ceil(3 * sigma)
    taps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    taps /= taps.sum()
    rows = _shifts(plane, {(i, 0): t for i, t in zip(range(-radius, radius + 1), taps, strict=True)})
    return _shifts(rows, {(0, j): t for j, t in zip(range(-radius, radius + 1), taps, strict=True)})


# --- coarse, JPEG, bands ---------------------------------------------------------------------------------------


def _coarse(clean: Array, rng: Draw) -> tuple[Array, Array]:
    h, w = clean.shape[:2]
    factor, sigma = rng.uniform(2.0, 2.8), rng.uniform(12, 28) / 255
    small = [round(side / factor) for side in (h, w)]
    top, left = (h - small[0]) // 2, (w - small[1]) // 2
    part = clean[top : top + small[0], left : left + small[1]]
    noise = 0.8 * rng.normal(size=(*small, 1)) + 0.6 * rng.normal(size=part.shape)
    noisy = eight_bits(part + sigma * noise)
    return eight_bits(_enlarged(noisy, (h, w))), np.clip(_enlarged(part, (h, w)), 0, 1)


def _enlarged(x: Array, shape: tuple[int, int]) -> Array:
    planes = [Image.fromarray(x[..., c].astype(np.float32)) for c in range(3)]
    return np.stack([np.asarray(p.resize(shape[::-1], Image.Resampling.LANCZOS)) for p in planes], axis=2)


def _jpeg(clean: Array, rng: Draw) -> tuple[Array, Array]:
    noisy = eight_bits(clean + rng.uniform(10, 20) / 255 * rng.normal(size=clean.shape))
    file = io.BytesIO()
    stored = Image.fromarray(np.round(noisy * 255).astype(np.uint8))
    stored.save(file, "JPEG", quality=int(rng.randint(45, 61)), subsampling="4:2:0")
    return np.asarray(Image.open(file).convert("RGB")) / 255, clean


def _bands(clean: Array, rng: Draw) -> tuple[Array, Array]:
    h, w = clean.shape[:2]
    rows = rng.laplace(scale=rng.uniform(6, 14) / 2**0.5, size=(h, 1, 1))
    columns = rng.laplace(scale=3 / 2**0.5, size=(1, w, 1))
    period = rng.uniform(9, 40)
    hum = 6 * np.abs(np.sin(np.pi * (np.arange(h)[:, None, None] / period + rng.uniform())))
    tint = 1 + 0.3 * rng.normal(size=(1, 1, 3))
    noise = tint * (rows + hum - hum.mean()) + columns + rng.uniform(4, 10) * rng.normal(size=clean.shape)
    return eight_bits(clean + noise / 255), clean


WHITE = ("awgn", "awgn8")  # these have a σ
PROTOCOLS = {
    "night": Protocol(
        "light (gamma 2) of 4 to 10 % of a full scale of 600 electrons, uniform per picture, Poisson, read noise of 2 "
        "electrons (1 % of the samples 8), rows ± 1 electron, 12 bits, clipped at black, GBRG, bilinear colour "
        "differences, filmic tone curve, left dark; the truth is developed alike without noise",
        _night,
    ),
    "film": Protocol(
        "Boolean film grain (Newson et al. 2017): discs of 0.25 to 0.45 px radius, laid on quarters of a pixel, seen "
        "through a lens of σ 0.7 to 1.1 px; 0.6 of the luma's and 0.25 of each colour's own",
        _film,
    ),
    "coarse": Protocol(
        "the middle of the picture with white noise of σ 12 to 28, in light above all (colours correlate by 0.64), as "
        "8 bits, enlarged 2 to 2.8 times to the picture's size by Lanczos; the truth is enlarged alike without noise",
        _coarse,
    ),
    "jpeg": Protocol("white noise of σ 10 to 20, as 8 bits, then Pillow's JPEG of quality 45 to 60, 4:2:0", _jpeg),
    "bands": Protocol(
        "each row's own offset (Laplace, σ 6 to 14) and a rectified sine down the picture (6, period 9 to 40 px), both "
        "stronger or weaker by 30 % in each colour, each column's (Laplace, σ 3), white noise of σ 4 to 10",
        _bands,
    ),
}
ALIKE = (
    "ranges uniform per picture, on the 0-255 scale, NumPy RandomState of the CRC-32 of the picture's name, 8 bits; "
    "PSNR on RGB over the clamped float output, mean over pictures"
)
