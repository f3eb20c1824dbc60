"""NIQE (Mittal et al. 2013): how far a picture's local statistics are from those of clean photographs; low is good.

Variant: the authors' release. Grey of rgb2gray rounded to 8 bits, 96 px blocks, two scales, every block counted. The
scene model is not theirs but `niqe_model.npz` beside this file, fitted with `fit` on clean photographs (its `source`
says which), so scores compare with one another and not with published tables; give the published .mat to `NIQE.load`
for those.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import EnvironmentFault, ModelError, NoInputError, PictureError

BLOCK = 96  # [px]
SHARP = 0.75  # a block is fitted on only where its mean local contrast exceeds this part of the picture's best
OWN_MODEL = Path(__file__).with_name("niqe_model.npz")


@dataclass(frozen=True)
class SceneModel:
    """A multivariate Gaussian over the 36 features of clean blocks: mean (36,), covariance (36, 36), and its origin."""

    mean: Tensor
    covariance: Tensor
    source: str

    def save(self, path: str | Path) -> None:
        """Write as .npz, which `NIQE.load` reads."""
        np.savez_compressed(path, mean=self.mean.numpy(), covariance=self.covariance.numpy(), source=self.source)


class NIQE:
    """Scores RGB pictures (N, 3, H, W) in [0, 1] -> (N,) against one scene model."""

    def __init__(self, model: SceneModel) -> None:
        self.model = model

    @classmethod
    def load(cls, path: str | Path | None = None) -> NIQE:
        """With our own model, or one from `path`: .npz of ours, or the authors' .mat. Raises ModelError."""
        return cls(_read_model(Path(path) if path else OWN_MODEL))

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Raises PictureError for pictures without one whole block; a picture wholly flat scores NaN."""
        return torch.stack([self._score(blocks_of(image)[0]) for image in images])

    def _score(self, features: Tensor) -> Tensor:
        """Mahalanobis-like distance of the picture's Gaussian from the model's (eq. 10)."""
        mean, covariance = _gaussian(features)
        between = (covariance + self.model.covariance) / 2
        apart = mean - self.model.mean
        if not torch.isfinite(apart).all():
            return torch.tensor(float("nan"), dtype=torch.float64)
        return (apart @ torch.linalg.pinv(between) @ apart).clamp_min(0).sqrt()


def fit(pictures: Iterable[Tensor], source: str) -> SceneModel:
    """The scene model of clean RGB pictures (3, H, W) in [0, 1]; only their sharp blocks count (section II-C)."""
    kept = []
    for picture in pictures:
        features, contrast = blocks_of(picture)
        kept.append(features[contrast > SHARP * contrast.max()])
    if sum(map(len, kept)) < 2:
        raise NoInputError("no sharp blocks to fit NIQE's scene model on", "give clean photographs of 96 px and more")
    mean, covariance = _gaussian(torch.cat(kept))
    return SceneModel(mean, covariance, source)


def blocks_of(image: Tensor) -> tuple[Tensor, Tensor]:
    """RGB (3, H, W) in [0, 1] -> features (blocks, 36) and mean local contrast at full scale (blocks,)."""
    rows, columns = image.shape[-2] // BLOCK, image.shape[-1] // BLOCK
    if not rows or not columns:
        size = f"{image.shape[-1]}×{image.shape[-2]}"
        raise PictureError(f"a picture of {size} px is too small for NIQE", f"it needs {BLOCK} px on each side")
    grey = _grey(image)[: rows * BLOCK, : columns * BLOCK]
    normal, contrast = _normalised(grey)
    half, _ = _normalised(_halved(grey))
    features = torch.cat([_features(_cut(normal, BLOCK)), _features(_cut(half, BLOCK // 2))], dim=1)
    return features, _cut(contrast, BLOCK).mean(dim=(1, 2))


def _grey(image: Tensor) -> Tensor:
    weights = image.new_tensor([0.298936, 0.587043, 0.114021], dtype=torch.float64)
    levels = (image.double().clamp(0, 1) * 255).round()
    return torch.einsum("chw,c->hw", levels, weights).round()


def _normalised(grey: Tensor) -> tuple[Tensor, Tensor]:
    """Mean-subtracted, contrast-normalised coefficients and the local contrast (eq. 1-3); 7×7, σ = 7/6."""
    offsets = torch.arange(-3, 4, dtype=grey.dtype, device=grey.device)
    taps = torch.exp(-0.5 * (offsets * 6 / 7).square())
    taps = taps / taps.sum()

    def smooth(plane: Tensor) -> Tensor:
        padded = F.pad(plane[None, None], [3] * 4, mode="replicate")
        return F.conv2d(F.conv2d(padded, taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1))[0, 0]

    mean = smooth(grey)
    contrast = (smooth(grey.square()) - mean.square()).abs().sqrt()
    return (grey - mean) / (contrast + 1), contrast


def _halved(grey: Tensor) -> Tensor:
    """Half size as MATLAB's imresize: bicubic (a = -0.5), stretched against aliasing, edges mirrored."""
    distance = (torch.arange(8, dtype=grey.dtype, device=grey.device) - 3.5).abs() / 2
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    taps = torch.where(distance <= 1, near, far)
    taps = taps / taps.sum()
    for axis in (0, 1):
        moved = grey.movedim(axis, -1)
        mirrored = torch.cat([moved[:, :3].flip(-1), moved, moved[:, -3:].flip(-1)], dim=-1)
        grey = (mirrored.unfold(-1, 8, 2) @ taps).movedim(-1, axis)
    return grey


def _cut(plane: Tensor, side: int) -> Tensor:
    """(rows·side, columns·side) -> (blocks, side, side)."""
    return plane.unfold(0, side, side).unfold(1, side, side).flatten(0, 1)


def _features(blocks: Tensor) -> Tensor:
    """18 features a block: the fit of the coefficients, and of their products with four neighbours (eq. 4-8)."""
    alpha, left, right = _asymmetric_fit(blocks)
    columns = [alpha, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        alpha, left, right = _asymmetric_fit(blocks * blocks.roll(shift, dims=(1, 2)))
        mean = (right - left) * torch.exp(torch.lgamma(2 / alpha) - torch.lgamma(1 / alpha))
        columns += [alpha, mean, left, right]
    return torch.stack(columns, dim=1)


def _asymmetric_fit(blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shape and left and right scale of an asymmetric generalised Gaussian by moment matching (Lasmar et al. 2009)."""
    x = blocks.flatten(1)
    left = (x.clamp(max=0).square().sum(1) / (x < 0).sum(1)).sqrt()
    right = (x.clamp(min=0).square().sum(1) / (x > 0).sum(1)).sqrt()
    ratio = left / right
    peaked = x.abs().mean(1).square() / x.square().mean(1)
    wanted = peaked * (ratio**3 + 1) * (ratio + 1) / (ratio.square() + 1).square()
    shapes, moments = _shape_table()
    shapes, moments = shapes.to(x.device), moments.to(x.device)
    alpha = shapes[(moments[None] - wanted[:, None]).abs().argmin(1)]
    scale = torch.exp((torch.lgamma(1 / alpha) - torch.lgamma(3 / alpha)) / 2)
    return torch.where(wanted.isfinite(), alpha, torch.nan), left * scale, right * scale


@cache
def _shape_table() -> tuple[Tensor, Tensor]:
    shapes = torch.arange(200, 10001, dtype=torch.float64) / 1000
    moments = 2 * torch.lgamma(2 / shapes) - torch.lgamma(1 / shapes) - torch.lgamma(3 / shapes)
    return shapes, moments.exp()


def _gaussian(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance over blocks; blocks with a feature that is not a number (flat ones) do not count."""
    whole = features[features.isfinite().all(1)].cpu()
    covariance = torch.cov(whole.T) if len(whole) > 1 else whole.new_zeros(features.shape[1], features.shape[1])
    return whole.mean(0), covariance


def _read_model(path: Path) -> SceneModel:
    try:
        stored = _read_mat(path) if path.suffix == ".mat" else dict(np.load(path))
        # The authors' file calls them mu_prisparam and cov_prisparam; copies of it as .npz keep those names.
        mean = stored["mean"] if "mean" in stored else stored["mu_prisparam"]
        covariance = stored["covariance"] if "covariance" in stored else stored["cov_prisparam"]
        mean, covariance = np.asarray(mean, np.float64).reshape(36), np.asarray(covariance, np.float64).reshape(36, 36)
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise ModelError(f"{path} holds no NIQE scene model ({error})", "fit one with `rng eval fit-niqe`") from error
    source = str(stored["source"]) if "source" in stored else path.name
    return SceneModel(torch.from_numpy(mean), torch.from_numpy(covariance), source)


def _read_mat(path: Path) -> dict[str, np.ndarray]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise EnvironmentFault("reading .mat files needs scipy", "pip install 'rngcli[eval]'") from error
    return loadmat(path)
