"""The reconstructions of the set that is being measured: made once, for rivals and for measures of added detail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ..errors import EnvironmentFault
from ..inference.engine import Job, Result, denoise
from ..inference.pipeline import Pipeline
from ..methods.contract import Request


class Reconstructions:
    """r(x) of pictures by their keys, on disk while they may be asked for; `pipeline` is opened when one is made."""

    def __init__(self, pipeline: Callable[[], Pipeline]) -> None:
        self._pipeline = pipeline
        self._kept: dict[str, tuple[Path, Result]] = {}

    @cached_property
    def _folder(self) -> TemporaryDirectory[str]:
        return TemporaryDirectory(prefix="rng-eval-")

    def clear(self) -> None:
        """Another set begins: its keys may be the same."""
        for path, _ in self._kept.values():
            path.unlink(missing_ok=True)
        self._kept.clear()

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    def __getitem__(self, key: str) -> np.ndarray:
        """(H, W, 3) float32 in [0, 1]. Raises KeyError where it was not made, or failed."""
        pixels: np.ndarray = np.load(self._kept[key][0])
        return pixels

    def keep(self, results: Iterable[Result]) -> Iterator[Result]:
        """Pass results on, which are reconstructions, and keep them."""
        for result in results:
            if not result.error:
                path = self._saved(result.pixels)
                self._kept[result.key] = path, replace(result, pixels=result.pixels[:0])
            yield result

    def _saved(self, pixels: np.ndarray) -> Path:
        try:
            path = Path(self._folder.name) / f"{len(self._kept)}.npy"
            np.save(path, pixels)
        except OSError as error:
            cause = f"reconstructions cannot be kept for the while of a run ({error.strerror})"
            raise EnvironmentFault(cause, "make room there, or set TMPDIR to another folder") from None
        return path

    def make(self, jobs: Iterable[Job]) -> Iterator[Result]:
        """Reconstruct pictures, and keep them."""
        return self.keep(denoise(jobs, self._pipeline(), Request(detail=0)))

    def of(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Result]]:
        """Each picture with its reconstruction, which is made where it was not kept."""
        for job in jobs:
            if job.key in self:
                yield job, replace(self._kept[job.key][1], pixels=self[job.key])
            else:
                yield from ((job, result) for result in self.make([job]))
