"""A few pictures of a run kept for the eye, with their step maps, as data URIs for the report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..data import Benchmark, Pair
from ..inference.engine import Result
from ..inference.tiling import Axis
from ..pages.pictures import data_uri
from .report import Picture

LONGEST = 1024  # [px]; of larger pictures the centre is kept
ERROR_GAIN = 8  # times as bright


def absolute_error(pixels: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """(H, W, 3) ×2 in [0, 1] -> the same, ERROR_GAIN times the absolute difference."""
    return np.minimum(ERROR_GAIN * np.abs(pixels.clip(0, 1) - clean), 1)


class Examples:
    """Keeps `count` pictures of a benchmark, evenly spaced, in every method; `have` are (key, method) kept before."""

    def __init__(self, benchmark: Benchmark, count: int, have: set[tuple[str, str]]) -> None:
        self.case = benchmark.name
        chosen = np.linspace(0, len(benchmark.keys) - 1, min(count, len(benchmark.keys))).astype(int)
        self.keys = {benchmark.keys[i] for i in chosen}
        self.have = set(have)

    def of(self, pair: Pair, method: str, result: Result) -> Iterator[Picture]:
        """What is to be kept of one result: itself, and before the first the noisy picture and the truth."""
        if pair.key not in self.keys:
            return
        for name, pixels in (("noisy", pair.noisy), ("clean", pair.clean), (method, result.pixels)):
            if pixels is not None and name != "input" and (pair.key, name) not in self.have:
                self.have.add((pair.key, name))
                yield self._picture(pair, name, pixels, result if name == method else None)

    def _picture(self, pair: Pair, name: str, pixels: np.ndarray, result: Result | None) -> Picture:
        height, width = pixels.shape[:2]
        top, left = max(0, (height - LONGEST) // 2), max(0, (width - LONGEST) // 2)
        cut = np.s_[top : top + LONGEST, left : left + LONGEST]
        shown = pixels[cut].clip(0, 1)
        picture = Picture(self.case, pair.key, name, shown.shape[1], shown.shape[0], data_uri(shown))
        if result and pair.clean is not None and pair.clean.shape == pixels.shape:
            picture = replace(picture, error=data_uri(absolute_error(shown, pair.clean[cut]), "WEBP"))
        if result is None or result.grid is None or not result.starts.any():
            return picture
        grid = result.grid
        rows, used_rows = _borders(grid.y, top, shown.shape[0])
        columns, used_columns = _borders(grid.x, left, shown.shape[1])
        shares = result.starts[np.ix_(used_rows, used_columns)].astype(float).round(3).tolist()
        return replace(picture, columns=columns, rows=rows, starts=shares)


def _borders(axis: Axis, start: int, length: int) -> tuple[list[int], list[int]]:
    """Borders of the intervals that reach into [start, start + length), from its beginning [px], and which they are."""
    middle = axis.overlap // 2
    ends = [0, *(axis.start(k) + middle for k in range(1, axis.count)), axis.length]
    used = [k for k in range(axis.count) if ends[k] < start + length and ends[k + 1] > start]
    return [min(max(end - start, 0), length) for end in ends[used[0] : used[-1] + 2]], used
