"""How long a run will take, in words: a few of its pictures are looked at, one tile is measured."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..errors import PictureError, RngError
from ..images import read, size_of
from ..inference.estimate import Pace, pace
from ..inference.pipeline import Pipeline
from ..methods.contract import Request
from .progress import counted, duration

SAMPLE = 20  # pictures whose sizes stand for all
LARGE = (4000, 6000)  # [px] 24 Mpx, as many cameras have


def forecast(sources: Sequence[Path], pipeline: Pipeline, request: Request, devices: int = 1) -> str:
    """For pictures that nobody has read yet; a reason, where there is none to be had. `devices`: that share them."""
    for source in sources:
        with suppress(PictureError):
            return told(sources, pace(pipeline, request, read(source).pixels), devices)
    return "how long it takes cannot be said: no picture can be read"


def told(sources: Sequence[Path], known: Pace, devices: int = 1) -> str:
    """about 7.1 s a picture of 2.4 Mpx here, 24 min for 200 pictures (24 Mpx: 70 s)."""
    sizes = []
    for i in np.unique(np.linspace(0, len(sources) - 1, SAMPLE).astype(int)):
        with suppress(RngError):
            sizes.append(size_of(sources[i]))
    seconds = float(np.mean([known.seconds(*size) for size in sizes]))
    megapixels = float(np.mean([height * width / 1e6 for height, width in sizes]))
    whole = len(sources) * seconds / min(devices, len(sources))
    many = f", {duration(whole)} for {counted(len(sources), 'pictures')}" if len(sources) > 1 else ""
    large = f"24 Mpx: {duration(known.seconds(*LARGE))}"
    return f"about {duration(seconds)} a picture of {_rounded(megapixels)} Mpx here{many} ({large})"


def _rounded(megapixels: float) -> str:
    return f"{megapixels:.2g}" if megapixels < 10 else f"{megapixels:.0f}"

