"""How clean photographs are made noisy for training: every kind of noise by name, and the shares of a batch; blind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate

import torch
from torch import Tensor

from ..errors import UsageError
from .grain import (  # fmt: skip
    BandsSpec,
    CoarseSpec,
    FilmSpec,
    JpegSpec,
    add_bands,
    add_coarse_noise,
    add_film_grain,
    compress,
)
from .jpeg_sim import ycc
from .random_fields import chosen, gaussian_blur, normal, uniform
from .sensors import CameraSpec, SensorSpec, add_camera_noise, expose

# Parts of a batch beside white noise; together 60 of 100.
OTHERS = {"camera": 18, "sensor": 3, "night": 5, "film": 14, "coarse": 4, "jpeg": 9, "bands": 3, "none": 4}


@dataclass(frozen=True)
class DegradeSpec:
    """How a batch of clean crops is made noisy."""

    gaussian_share: float = 0.40  # of the batch: white Gaussian noise …
    others: Mapping[str, float] = field(default_factory=lambda: dict(OTHERS))  # … and how the rest is divided
    sigma: tuple[float, float] = (0.0, 75.0)  # of the white noise, on the 0–255 scale
    clipped_share: float = 0.75  # of the pictures with white noise: clipped and rounded to 8 bits, as files hold them
    eight_bit_share: float = 0.85  # of the others'; the rest: 16 bits
    blur_share: tuple[float, float] = (0.2, 0.6)  # of the pictures with white, and with other noise
    blur: tuple[float, float] = (0.4, 1.6)  # σ [px]
    grey_share: float = 0.07  # of all pictures: black and white, with noise that is the same in all colours
    levels_share: float = 0.2  # of all pictures: contrast spread until highlights blow out, and shadows drown
    gain: tuple[float, float] = (0.0, 1.5)  # [EV] at a gamma of 2.2
    black: tuple[float, float] = (-0.1, 0.12)  # what becomes black; below 0: nothing does
    camera: CameraSpec = field(default_factory=CameraSpec)
    sensor: SensorSpec = field(default_factory=SensorSpec)
    night: SensorSpec = field(default_factory=lambda: SensorSpec(exposure=(0.03, 0.25), photons=(15.0, 500.0)))
    film: FilmSpec = field(default_factory=FilmSpec)
    coarse: CoarseSpec = field(default_factory=CoarseSpec)
    jpeg: JpegSpec = field(default_factory=JpegSpec)
    bands: BandsSpec = field(default_factory=BandsSpec)


SHARP = (0.0, 0.0)  # a blur_share that leaves the pictures as they are

Pairs = tuple[Tensor, Tensor]  # (clean, noisy), (N, 3, H, W) in [0, 1] each

# Each kind alone: a clean batch to (clean, noisy). The truth differs from what came in where the kind says so: a scene
# that stays dark, a picture that was enlarged or sharpened.
KINDS: dict[str, Callable[[Tensor, DegradeSpec, torch.Generator], Pairs]] = {
    "awgn": lambda y, spec, rng: (y, add_gaussian(y, spec.sigma, rng)),
    "camera": lambda y, spec, rng: (y, add_camera_noise(y, spec.camera, rng)),
    "sensor": lambda y, spec, rng: expose(y, spec.sensor, rng),
    "night": lambda y, spec, rng: expose(y, spec.night, rng),
    "film": lambda y, spec, rng: (y, add_film_grain(y, spec.film, rng)),
    "coarse": lambda y, spec, rng: add_coarse_noise(y, spec.coarse, rng),
    "jpeg": lambda y, spec, rng: compress(y, spec.jpeg, rng),
    "bands": lambda y, spec, rng: (y, add_bands(y, spec.bands, rng)),
    "none": lambda y, spec, rng: (y, y),
}
AT_ONCE = 4  # pictures that share what a kind draws once: a demosaicing, a tone curve, a factor of enlargement


def degrade(clean: Tensor, spec: DegradeSpec, rng: torch.Generator) -> Pairs:
    """Sharp sRGB (N, 3, H, W) in [0, 1] -> (clean, noisy) of the same shape; H and W multiples of 16.

    Gaussian noise is clipped and rounded to 8 bits in most pictures, as in a file, and neither in the rest, as
    in the field's protocol; all other noise is clipped.
    """
    parts = []
    for kind, pictures in _dealt(clean, spec, rng):
        for some in pictures.split(AT_ONCE):
            white = kind == "awgn"
            y = _blur(some, spec.blur_share[not white], spec.blur, rng)
            y, noisy = KINDS[kind](_spread_levels(y, spec, rng), spec, rng)
            y, noisy = _in_grey(y, noisy, spec.grey_share, rng, white)
            parts.append((y, _as_files(noisy, spec.clipped_share if white else spec.eight_bit_share, rng)))
    clean, noisy = (torch.cat(side) for side in zip(*parts, strict=True))
    return clean, noisy


def only(kind: str, **changes: object) -> DegradeSpec:
    """One kind of noise on sharp pictures as they are."""
    others = {} if kind == "awgn" else {kind: 1.0}
    alone = DegradeSpec(
        gaussian_share=float(kind == "awgn"), others=others, blur_share=SHARP, levels_share=0, grey_share=0
    )
    return replace(alone, **changes)  # type: ignore[arg-type]


def mixture(text: str | None) -> DegradeSpec:
    """Kinds of noise and their parts of a batch, such as "awgn=6,film=4"; None: the usual ones.

    UsageError where the text is none such.
    """
    if text is None:
        return DegradeSpec()
    parts = {}
    for word in text.split(","):
        kind, _, number = word.strip().partition("=")
        try:
            parts[kind] = float(number)
        except ValueError:
            parts[kind] = math.nan
        if kind not in KINDS or not 0 <= parts[kind] < math.inf:
            cause = f"--noise {word.strip()!r} is no part of a batch"
            raise UsageError(cause, f"use KIND=PARTS; kinds are {', '.join(KINDS)}")
    total = sum(parts.values())
    if not total:
        raise UsageError(f"--noise {text} has no parts", "give at least one kind more than 0")
    white = parts.pop("awgn", 0.0)
    return DegradeSpec(gaussian_share=white / total, others=parts)


def _dealt(clean: Tensor, spec: DegradeSpec, rng: torch.Generator) -> list[tuple[str, Tensor]]:
    """The batch divided among the kinds by their shares; what falls between two pictures is dealt by chance."""
    n, rest = len(clean), sum(spec.others.values()) or 1.0
    shares = {"awgn": spec.gaussian_share}
    shares |= {kind: (1 - spec.gaussian_share) * weight / rest for kind, weight in spec.others.items()}
    first = float(torch.rand(1, generator=rng, device=rng.device))
    # Systematic sampling: points (first + i)/n, each picture the kind in whose part of [0, 1) its point lies.
    ends = [min(n, max(0, math.ceil(n * end - first - 1e-6))) for end in accumulate(shares.values())]
    counts = [end - start for start, end in zip([0, *ends[:-1]], [*ends[:-1], n], strict=True)]
    return [(kind, part) for kind, part in zip(shares, clean.split(counts), strict=True) if len(part)]


def _blur(sharp: Tensor, share: float, sigma: tuple[float, float], rng: torch.Generator) -> Tensor:
    """A share of the pictures as soft as lens, antialiasing filter and demosaic leave them at a sensor's own pixels.

    Photographs that were downsampled are far sharper, and a generator that knows no others makes up their detail.
    """
    if not share:
        return sharp
    n = len(sharp)
    soft = gaussian_blur(sharp, uniform(n, *sigma, rng), math.ceil(3 * sigma[1]))
    return torch.where(chosen(n, share, rng), soft, sharp)


def _spread_levels(clean: Tensor, spec: DegradeSpec, rng: torch.Generator) -> Tensor:
    """A share of the pictures with blown highlights and drowned shadows, where noise is clipped as well.

    What a network learns there: that noise whose mean lies below white means white.
    """
    if not spec.levels_share:
        return clean
    n = len(clean)
    black = uniform(n, *spec.black, rng).clamp(min=0)
    spread = (clean - black) / (1 - black) * 2 ** (uniform(n, *spec.gain, rng) / 2.2)
    return torch.where(chosen(n, spec.levels_share, rng), spread.clamp(0, 1), clean)


def _in_grey(clean: Tensor, noisy: Tensor, share: float, rng: torch.Generator, white: bool) -> Pairs:
    """A share of the pictures in black and white, their noise with them; that of `white` noise keeps its σ.

    A network that knows only noise of its own in each colour takes what all three have in common for the picture.
    """
    if not share:
        return clean, noisy
    grey = chosen(len(clean), share, rng)
    light = ycc(1, clean.device)[0, :1, :, None, None]  # (1, 3, 1, 1)
    in_light, noisy_light = ((x * light).sum(dim=1, keepdim=True) for x in (clean, noisy))
    if white:  # each colour's own: their mean by luma's weights is weaker than any of them
        noisy_light = in_light + (noisy_light - in_light) / light.norm()
    return torch.where(grey, in_light, clean), torch.where(grey, noisy_light, noisy)


def add_gaussian(clean: Tensor, sigma: tuple[float, float], rng: torch.Generator) -> Tensor:
    """White Gaussian noise, σ drawn per picture from `sigma` (0–255 scale)."""
    return clean + uniform(len(clean), *sigma, rng) / 255 * normal(clean.shape, rng)


def to_8_bits(x: Tensor) -> Tensor:
    """What an 8-bit file keeps of x: clipped to [0, 1] and rounded to 255ths."""
    return (x.clamp(0, 1) * 255).round() / 255


def _as_files(noisy: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """A share of the pictures as 8-bit files hold them; draws nothing where the share is 0 or 1."""
    if share in (0, 1):
        return to_8_bits(noisy) if share else noisy
    return torch.where(chosen(len(noisy), share, rng), to_8_bits(noisy), noisy)
