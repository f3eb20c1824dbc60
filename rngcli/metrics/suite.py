"""The metrics of one evaluation, loaded once: which columns there are, by which protocol, and a picture's scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import ModelError, PictureError, UsageError
from .detail_ratio import OCTAVES, flat_ratio, octave_ratio, placement
from .fidelity import SsimVariant, brightest_error, psnr, ssim
from .haarpsi import haarpsi
from .lpips import BACKBONES, LPIPS, download
from .niqe import NIQE

DEFAULT = ("psnr", "ssim", "lpips", "niqe")
OF_DETAIL = ("placement", "flat", "spectrum")
NAMES = (
    "psnr", "ssim", "haarpsi", "lpips", *(f"lpips-{backbone}" for backbone in BACKBONES), "niqe", *OF_DETAIL,
    "brightest",
)  # fmt: skip
PREFERRED = ("alex", "squeeze", "vgg")  # the field's default first, then what is small


@dataclass(frozen=True)
class Metric:
    """A column: its key in the rows, its heading, which way is better, and by which protocol it was measured.

    Of ratios the best is one, of signed errors zero.
    """

    key: str
    label: str
    better: Literal["high", "low", "one", "zero"]
    digits: int
    protocol: str

    @property
    def heading(self) -> str:
        return f"{self.label} {({'high': '↑', 'low': '↓', 'one': '→ 1', 'zero': '→ 0'})[self.better]}"

    def worth(self, value: float) -> float:
        """What is larger for the better of two values."""
        if self.better in ("high", "low"):
            return value if self.better == "high" else -value
        return -abs(value - (self.better == "one"))


_COLUMNS = {
    "psnr": (Metric("psnr", "PSNR", "high", 2, "dB, RGB together, floats, mean over pictures"),),
    "ssim": (
        Metric("ssim", "SSIM", "high", 4, "11×11 Gaussian of σ = 1.5, channels by themselves, floats; on SIDD as "
               "MATLAB's ssim of H×W×3 arrays"),
    ),
    "haarpsi": (Metric("haarpsi", "HaarPSI", "high", 4, "Reisenhofer et al. 2018, C = 30, α = 4.2, pictures halved"),),
    "placement": (
        Metric("placement", "placement", "high", 3, "correlation, over blocks of 16×16 px, of the log standard "
               "deviation of what was added to the reconstruction with that of what it lacks; fine detail, which a "
               "Gaussian of 2 px takes away; grain has 0"),
    ),
    "flat": (
        Metric("flat", "flat blocks", "one", 2, "standard deviation of fine detail in the flattest tenth of the "
               "truth's 16×16 px blocks, over the truth's own"),
    ),
    "spectrum": tuple(
        Metric(f"octave-{octave}", f"spectrum {octave} px", "one", 2, f"amplitude of the luma over the truth's, "
               f"wavelengths of {octave} px, Hann window")
        for octave in OCTAVES
    ),
    "brightest": (
        Metric("brightest", "brightest 1 %", "zero", 2, "mean signed error of the truth's brightest pixels, by the "
               "mean of RGB, on the 0-255 scale"),
    ),
}  # fmt: skip
_OF_TRUTH: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "psnr": partial(psnr, data_range=1),
    "haarpsi": partial(haarpsi, data_range=1),
    "flat": flat_ratio,
    "brightest": partial(brightest_error, data_range=1),
}


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
        columns = [column for name in names for column in self._open(name)]
        self.metrics = tuple({column.key: column for column in columns}.values())

    @property
    def asked(self) -> bool:
        """Whether the metrics were named by the user, so that a score that cannot be had is a failure."""
        return self.options.names is not None

    @property
    def needs_reconstruction(self) -> bool:
        """Whether a score tells what was added to the reconstruction from the rest of the picture."""
        return any(metric.key == "placement" for metric in self.metrics)

    def score(
        self,
        pixels: np.ndarray,
        truth: np.ndarray | None,
        variant: SsimVariant = "gaussian",
        reconstruction: np.ndarray | None = None,
    ) -> tuple[dict[str, float | None], list[str]]:
        """Scores of (H, W, 3) pixels against their truth, and why those that are None could not be had.

        The PSNR of a picture that equals its truth is infinite.
        """
        image = _tensor(pixels, self.options.device)
        reference, r = (
            None if side is None else _tensor(side, self.options.device) for side in (truth, reconstruction)
        )
        scores: dict[str, float | None] = {}
        reasons = []
        for metric in self.metrics:
            try:
                value = self._value(metric.key, variant, image, reference, r)
                scores[metric.key] = None if value is None or math.isnan(value) else value
            except PictureError as error:
                scores[metric.key] = None
                reasons.append(error.cause)
        return scores, reasons

    def _value(
        self, key: str, variant: SsimVariant, image: Tensor, truth: Tensor | None, reconstruction: Tensor | None
    ) -> float | None:
        if key == "niqe":
            assert self.niqe is not None
            return self.niqe(image.clamp(0, 1)).item()
        if truth is None:
            return None
        if key == "placement":
            return None if reconstruction is None else placement(image, truth, reconstruction).item()
        if key.startswith("octave-"):
            return octave_ratio(image, truth, key.removeprefix("octave-")).item()
        if key in self.lpips:
            return self.lpips[key](image.clamp(0, 1), truth).item()
        if key == "ssim":
            return ssim(image, truth, data_range=1, variant=variant).item()
        return _OF_TRUTH[key](image, truth).item()

    def _open(self, name: str) -> list[Metric]:
        """The columns of one name."""
        if name == "niqe":
            self.niqe = NIQE.load(self.options.niqe_model)
            return [Metric("niqe", "NIQE", "low", 2, "Mittal et al. 2013, grey of rgb2gray, 96 px blocks, two scales; "
                           f"scene model: {self.niqe.model.source}")]  # fmt: skip
        if name in _COLUMNS:
            return list(_COLUMNS[name])
        return [column] if (column := self._open_lpips(name)) else []

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
