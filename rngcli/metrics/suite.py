"""The metrics of one evaluation, loaded once: which columns there are, by which protocol, and a picture's scores."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import ModelError, PictureError, UsageError
from .fidelity import SsimVariant, psnr, ssim
from .lpips import BACKBONES, LPIPS, download
from .niqe import NIQE

DEFAULT = ("psnr", "ssim", "lpips", "niqe")
NAMES = ("psnr", "ssim", "lpips", *(f"lpips-{backbone}" for backbone in BACKBONES), "niqe")
PREFERRED = ("alex", "squeeze", "vgg")  # the field's default first, then what is small


@dataclass(frozen=True)
class Metric:
    """A column: its key in the rows, its heading, which way is better, and by which protocol it was measured."""

    key: str
    label: str
    better: Literal["high", "low"]
    digits: int
    protocol: str


@dataclass(frozen=True)
class Options:
    """Which metrics (None: of the usual ones all that can be had) and where their files are."""

    names: tuple[str, ...] | None = None
    lpips_weights: Path | None = None
    lpips_download: bool = False
    niqe_model: Path | None = None
    device: str = "cpu"
    usual: tuple[str, ...] = DEFAULT


@dataclass
class Judge:
    """Scores outputs against truths. `notes` say which columns are missing, and how to get them."""

    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        """Raises ModelError where a metric that was named has no files; UsageError for unknown names."""
        names = self.options.names or self.options.usual
        unknown = [name for name in names if name not in NAMES]
        if unknown:
            raise UsageError(f"no metric is called {unknown[0]!r}", f"choose from {', '.join(NAMES)}")
        self.notes: list[str] = []
        self.lpips: dict[str, LPIPS] = {}
        self.niqe: NIQE | None = None
        columns = [column for name in names if (column := self._open(name))]
        self.metrics = tuple({column.key: column for column in columns}.values())

    @property
    def asked(self) -> bool:
        """Whether the metrics were named by the user, so that a score that cannot be had is a failure."""
        return self.options.names is not None

    def score(
        self, pixels: np.ndarray, truth: np.ndarray | None, variant: SsimVariant = "gaussian"
    ) -> tuple[dict[str, float | None], list[str]]:
        """Scores of (H, W, 3) pixels against their truth, and why those that are None could not be had.

        The PSNR of a picture that equals its truth is infinite.
        """
        image = _tensor(pixels, self.options.device)
        reference = None if truth is None else _tensor(truth, self.options.device)
        scores: dict[str, float | None] = {}
        reasons = []
        for metric in self.metrics:
            try:
                value = self._value(metric.key, image, reference, variant)
                scores[metric.key] = None if value is None or math.isnan(value) else value
            except PictureError as error:
                scores[metric.key] = None
                reasons.append(error.cause)
        return scores, reasons

    def _value(self, key: str, image: Tensor, truth: Tensor | None, variant: SsimVariant) -> float | None:
        if key == "niqe":
            assert self.niqe is not None
            return self.niqe(image.clamp(0, 1)).item()
        if truth is None:
            return None
        if key == "psnr":
            return psnr(image, truth, data_range=1).item()
        if key == "ssim":
            return ssim(image, truth, data_range=1, variant=variant).item()
        return self.lpips[key](image.clamp(0, 1), truth).item()

    def _open(self, name: str) -> Metric | None:
        if name == "psnr":
            return Metric("psnr", "PSNR", "high", 2, "dB, RGB together, floats, mean over pictures")
        if name == "ssim":
            return Metric("ssim", "SSIM", "high", 4, "11×11 Gaussian of σ = 1.5, channels by themselves, floats; on "
                          "SIDD as MATLAB's ssim of H×W×3 arrays")  # fmt: skip
        if name == "niqe":
            self.niqe = NIQE.load(self.options.niqe_model)
            return Metric("niqe", "NIQE", "low", 2, "Mittal et al. 2013, grey of rgb2gray, 96 px blocks, two scales; "
                          f"scene model: {self.niqe.model.source}")  # fmt: skip
        return self._open_lpips(name)

    def _open_lpips(self, name: str) -> Metric | None:
        wanted = PREFERRED if name == "lpips" else (name.removeprefix("lpips-"),)
        faults = []
        for backbone in wanted:
            try:
                if self.options.lpips_download:
                    download(backbone, self.options.lpips_weights)
                key = f"lpips-{backbone}"
                self.lpips[key] = LPIPS.load(backbone, self.options.lpips_weights, self.options.device)
                return Metric(key, f"LPIPS ({backbone})", "low", 4, "v0.1, RGB mapped to [-1, 1]")
            except ModelError as error:
                faults.append(error)
        if self.asked:
            raise faults[0]
        self.notes.append(f"LPIPS n/a: {faults[0]}")
        return None


def _tensor(pixels: np.ndarray, device: str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).unsqueeze(0).to(device)
