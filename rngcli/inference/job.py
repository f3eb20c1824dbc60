"""What the engine is asked for, and what it answers: a picture to restore, and the restored one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..errors import PictureError
from .banding import UNKNOWN, Banding
from .tiling import Grid


class Rows(Protocol):
    """A picture that takes (n, W, 3) float32 rows at a time, in any order, as an array does; `shape` is (H, W, 3)."""

    shape: tuple[int, ...]

    def __setitem__(self, place: slice, rows: np.ndarray, /) -> None: ...


@dataclass(frozen=True)
class Job:
    """A picture to restore: `key` is the caller's; pixels (H, W, 3) float32 in [0, 1], or uint8 or uint16.

    Where some pixels are holes, valid (H, W) bool is false there. sigma: σ_n on the [0, 1] scale, NaN: to be estimated;
    banding: what rows and columns have in common, None: nothing, UNKNOWN: to be found.
    `rows` is asked anew whenever the picture is begun, and the Result's pixels are what it gave.
    """

    key: str
    pixels: np.ndarray
    valid: np.ndarray | None = None
    sigma: float = float("nan")
    banding: Banding | None = UNKNOWN
    rows: Callable[[], Rows] | None = None  # where finished rows go; None: into a new array


@dataclass(frozen=True)
class Result:
    """A picture restored: pixels (H, W, 3) float32 in [0, 1], at the method's scale.

    steps (rows, cols): the evaluations of each tile; starts (rows, cols) in [0, 1]: how far in the noise it started, as
    a share of the fullest start; `grid` says where these tiles lie, and is None where there were none. Where `error` is
    set, the picture failed and the pixels are the input's. `notes` are for whoever looks after the picture.
    """

    key: str
    pixels: np.ndarray
    steps: np.ndarray
    seconds: float  # from the picture's first tile to its last; pictures overlap
    error: PictureError | None = None
    starts: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    grid: Grid | None = None
    notes: tuple[str, ...] = ()
