"""What an evaluation leaves beside its report: SIDD's submission, and a scene model for NIQE."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..data import Benchmark, clean_folder, write_submission
from ..errors import PictureError, UsageError
from ..images import in_srgb, read
from ..inference.engine import Result
from ..metrics.niqe import fit
from .report import Report

SMALLEST = 96  # [px] NIQE's block: smaller pictures have none


class Submission:
    """Collects the denoised blocks of SIDD's benchmark, as bytes, for its server; call it with each output."""

    def __init__(self, benchmark: Benchmark) -> None:
        images, blocks = (max(int(key.split("-")[part]) for key in benchmark.keys) + 1 for part in (0, 1))
        self._shape = images, blocks
        self._blocks: np.ndarray | None = None
        self._method = ""

    def __call__(self, method: str, result: Result) -> None:
        if self._method and method != self._method:
            raise UsageError("a submission is of one method", "name one with --method")
        self._method = method
        if self._blocks is None:
            self._blocks = np.zeros((*self._shape, *result.pixels.shape), np.uint8)
        image, block = (int(part) for part in result.key.split("-"))
        self._blocks[image, block] = np.rint(result.pixels.clip(0, 1) * 255)

    def write(self, path: Path, report: Report) -> None:
        """The .mat file, with the seconds a megapixel that its table asks for."""
        if self._blocks is not None:
            seconds = sum(row.seconds for row in report.rows) / sum(row.megapixels for row in report.rows)
            write_submission(path, self._blocks, seconds, f"rng {__version__} {self._method}")


def fit_scene_model(folder: Path, out: Path) -> tuple[int, int, list[str]]:
    """Fit NIQE's scene model on the pictures below `folder`; (pictures used, of how many, problems with others)."""
    files = clean_folder(folder)
    used: list[Path] = []
    problems: list[str] = []

    def pictures() -> Iterator[Tensor]:
        for path in files:
            try:
                pixels = in_srgb(read(path))
            except PictureError as error:
                problems.append(f"{path}: {error}")
                continue
            if min(pixels.shape[:2]) >= SMALLEST:
                used.append(path)
                yield torch.from_numpy(pixels).permute(2, 0, 1)

    fit(pictures(), f"fitted on photographs of {folder.resolve().name}").save(out)
    return len(used), len(files), problems
