"""A camera's noise as its own photographs show it where they are flat: how strong by brightness, and how correlated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import NoInputError
from .degrade import to_8_bits
from .random_fields import gaussian_blur, normal

PATCH, STEP = 48, 16  # [px] side of a patch, and from one to the next
LEVELS = 16  # equal parts of [0, 1] by brightness; where a part has too few patches, its neighbours speak for it
FEWEST, MOST = 30, 400  # patches of one brightness that are looked at, and that are measured on
FLAT = 0.08  # of those of one brightness, by how little is left of them when they are smoothed …
QUIET = 0.5  # … and of these, by how little there is in all: fine texture is smoothed away, noise is everywhere
SMOOTHING = 4.0  # σ [px]: beyond the correlation of most noise
TEXTURED = 2.5  # times what smoothing leaves of noise: beyond, a patch is no noise but texture
CLIPPED = 0.01  # of a patch's pixels at most: what is clipped hides the noise that it had
ABOVE = 1.5  # times what the other photographs have at a brightness: beyond, it is texture
ENOUGH = 1_000_000  # [px] of photographs for a measurement of their own


@dataclass(frozen=True)
class CameraNoise:
    """Normal noise whose strength goes by the picture's brightness, correlated in space and between the colours.

    sigma: (3, LEVELS), standard deviation of each channel where the mean of the channels is in the middle of each of
    LEVELS equal parts of [0, 1]. kernel: (3, 3, PATCH, PATCH), what three channels of white noise are convolved with;
    the result has unit variance in each channel.
    """

    sigma: Tensor
    kernel: Tensor

    def add_to(self, clean: Tensor, rng: torch.Generator) -> Tensor:
        """What the camera might have made of sRGB (N, 3, H, W) in [0, 1]: with noise, clipped and in 8 bits."""
        return to_8_bits(clean + self.strength(clean) * self.field(clean.shape, rng))

    def strength(self, clean: Tensor) -> Tensor:
        """σ of every channel at every pixel, (N, 3, H, W), linear between the middles of the levels."""
        sigma = self.sigma.to(clean)
        place = (clean.mean(dim=1) * LEVELS - 0.5).clamp(0, LEVELS - 1)  # (N, H, W)
        below = place.floor().long().clamp(max=LEVELS - 2)
        return torch.lerp(sigma[:, below], sigma[:, below + 1], place - below).transpose(0, 1)

    def field(self, shape: Sequence[int], rng: torch.Generator) -> Tensor:
        """Noise of unit variance (N, 3, H, W); it goes on round the borders."""
        n, channels, *sides = shape
        height, width = (max(side, PATCH) for side in sides)
        kernel = F.pad(self.kernel.to(rng.device), (0, width - PATCH, 0, height - PATCH))
        kernel = torch.fft.rfft2(kernel.roll((-(PATCH // 2), -(PATCH // 2)), (2, 3)))
        white = torch.fft.rfft2(normal((n, channels, height, width), rng))
        noise = torch.fft.irfft2(torch.einsum("cdhw,ndhw->nchw", kernel, white), s=(height, width))
        return noise[..., : sides[0], : sides[1]]


def measure(photographs: Iterable[Tensor]) -> list[CameraNoise]:
    """The noise of each group of photographs (3, H, W), sRGB in [0, 1]: of each large one, of smaller ones together.

    So what was taken at another sensitivity is told apart. Where one is nowhere flat at some brightness, the others
    tell how its noise goes on there. Raises NoInputError where none is flat anywhere, or all are blown out or tiny.
    """
    measured = [found for group in _groups(photographs) if (found := _measured(group))]
    if not measured:
        cause = f"the camera's photographs have fewer than {FEWEST} patches of {PATCH} px at any brightness"
        raise NoInputError(cause, "give more of them, or larger ones")
    sigmas = [sigma for sigma, _ in measured]
    return [CameraNoise(_filled(_agreed(sigma, sigmas)), _kernel(spectrum)) for sigma, spectrum in measured]


def _groups(photographs: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    full: list[Tensor] = []
    group: list[Tensor] = []
    for picture in photographs:
        group.append(picture)
        if sum(member[0].numel() for member in group) >= ENOUGH:
            if full:
                yield full
            full, group = group, []
    if last := full + group:  # what is left over joins the last
        yield last


def _measured(photographs: Sequence[Tensor]) -> tuple[Tensor, Tensor] | None:
    """σ by channel and level, (3, LEVELS), NaN where it is not known; the cross-spectrum of the noise over its σ."""
    flat = _flat_patches(photographs)
    if not flat:
        return None
    sigma = torch.full((3, LEVELS), torch.nan)
    spectrum = torch.zeros(3, 3, PATCH, PATCH, dtype=torch.complex64)
    for level, patches in flat.items():
        sigma[:, level] = patches.square().mean(dim=(0, 2, 3)).sqrt().clamp(min=1e-4)
        spectrum += _cross_spectrum(patches / sigma[:, level, None, None])
    return sigma, spectrum / sum(map(len, flat.values()))


# --- where the photographs are flat ----------------------------------------------------------------------------


def _flat_patches(photographs: Sequence[Tensor]) -> dict[int, Tensor]:
    """Patches (n, 3, PATCH, PATCH) by the level of their brightness, each without the plane that fits it best.

    What smoothing leaves of noise is about the same share at every brightness; of texture it is more.
    """
    large = [picture for picture in photographs if min(picture.shape[1:]) >= PATCH]
    found = _flattest(large) if large else {}
    left = {level: _left_by_smoothing(patches) for level, patches in found.items()}
    most = TEXTURED * min((share.median() for share in left.values()), default=torch.zeros(()))
    return {
        level: _quietest(patches[left[level] <= most])
        for level, patches in found.items()
        if int((left[level] <= most).sum()) >= FEWEST // 4
    }


def _flattest(photographs: Sequence[Tensor]) -> dict[int, Tensor]:
    looked = [_looked_at(picture) for picture in photographs]
    which = torch.cat([torch.full((len(places),), i) for i, (places, _, _) in enumerate(looked)])
    places, brightness, uneven = (torch.cat(parts) for parts in zip(*looked, strict=True))
    found = {}
    for level in range(LEVELS):
        here = ((brightness * LEVELS).long() == level).nonzero().flatten()
        if len(here) >= FEWEST:
            flat = here[uneven[here].argsort()[: min(MOST, max(FEWEST // 2, round(FLAT * len(here))))]]
            found[level] = _without_plane(
                torch.stack([_patch(photographs[int(which[i])], places[i]) for i in flat.tolist()])
            )
    return found


def _looked_at(picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the patches that are hardly clipped: top left corners (n, 2), brightness, and how uneven they are, (n,)."""
    light = picture.mean(dim=0)[None, None]
    smooth = _smoothed(light)

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, PATCH, STEP)[0, 0]

    uneven = mean(smooth.square()) - mean(smooth).square()
    clipped = ((picture.amin(dim=0) <= 0) | (picture.amax(dim=0) >= 1)).float()
    rows, columns = (mean(clipped[None, None]) < CLIPPED).nonzero(as_tuple=True)
    return torch.stack([rows, columns], dim=1) * STEP, mean(light)[rows, columns], uneven[rows, columns]


def _smoothed(light: Tensor) -> Tensor:
    """(N, 1, H, W), blurred."""
    return gaussian_blur(light, torch.full((len(light), 1, 1, 1), SMOOTHING), round(3 * SMOOTHING))


def _left_by_smoothing(patches: Tensor) -> Tensor:
    """Share of the variance in light, (n,)."""
    light = patches.mean(dim=1, keepdim=True)
    return _smoothed(light).square().mean(dim=(1, 2, 3)) / light.square().mean(dim=(1, 2, 3)).clamp(min=1e-12)


def _quietest(patches: Tensor) -> Tensor:
    order = patches.square().mean(dim=(1, 2, 3)).argsort()
    return patches[order[: max(FEWEST // 4, round(QUIET * len(patches)))]]


def _patch(picture: Tensor, place: Tensor) -> Tensor:
    top, left = place.tolist()
    return picture[:, top : top + PATCH, left : left + PATCH]


def _without_plane(patches: Tensor) -> Tensor:
    """What is left of each channel of (n, 3, PATCH, PATCH) when light that changes evenly is taken away."""
    ramp = torch.linspace(-1, 1, PATCH)
    planes = torch.stack([torch.ones(PATCH, PATCH), ramp[:, None].expand(PATCH, PATCH), ramp.expand(PATCH, PATCH)])
    basis = torch.linalg.qr(planes.flatten(1).T).Q  # (PATCH², 3)
    flat = patches.flatten(2)
    return (flat - flat @ basis @ basis.T).view_as(patches)


def _agreed(sigma: Tensor, others: Sequence[Tensor]) -> Tensor:
    """(3, LEVELS): where it is not known, or far above what `others` have, theirs.

    That is the median of them, each scaled as it differs from this one where both are known.
    """
    scaled = []
    for other in others:
        both = ~(sigma[0] + other[0]).isnan()
        if both.any():
            scaled.append(other * (sigma[:, both].log() - other[:, both].log()).mean().exp())
    theirs = torch.stack(scaled).nanmedian(dim=0).values
    return torch.where(sigma.isnan() | (sigma > ABOVE * theirs), theirs, sigma)


# --- how it is correlated --------------------------------------------------------------------------------------


def _cross_spectrum(patches: Tensor) -> Tensor:
    """Sum over the patches of F·Fᴴ of their channels, (3, 3, PATCH, PATCH); a Hann window keeps their borders out."""
    window = torch.hann_window(PATCH, periodic=False)
    window = window[:, None] * window
    seen = torch.fft.fft2(patches * window / window.square().mean().sqrt()) / PATCH
    return torch.einsum("nchw,ndhw->cdhw", seen, seen.conj())


def _kernel(spectrum: Tensor) -> Tensor:
    """The symmetric root of the cross-spectrum in space, (3, 3, PATCH, PATCH), the middle at PATCH // 2."""
    values, vectors = torch.linalg.eigh(spectrum.permute(2, 3, 0, 1))
    root = (vectors * values.clamp(min=0).sqrt()[..., None, :]) @ vectors.mH
    kernel = torch.fft.fftshift(torch.fft.ifft2(root.permute(2, 3, 0, 1)).real, dim=(2, 3))
    fade = torch.hann_window(PATCH, periodic=True).sqrt()  # or a tail that is cut off would ring
    kernel = kernel * fade[:, None] * fade
    return kernel / kernel.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()


def _filled(sigma: Tensor) -> Tensor:
    """(3, LEVELS) with a line between the levels that were measured, and the outermost of them beyond."""
    known = (~sigma[0].isnan()).nonzero().flatten()
    levels = torch.arange(sigma.shape[1]).clamp(int(known[0]), int(known[-1]))
    right = torch.searchsorted(known, levels)
    left = (right - 1).clamp(min=0)
    left = torch.where(known[right] == levels, right, left)
    part = (levels - known[left]) / (known[right] - known[left]).clamp(min=1)
    return torch.lerp(sigma[:, known[left]], sigma[:, known[right]], part)
