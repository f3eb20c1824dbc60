"""Blur kernels: (h, w) float64, sum 1, with the origin at (h // 2, w // 2); a pixel seen is Σ k(q)·y(p − q)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..errors import UsageError

FARTHEST = 60  # [px] from the origin: what a tile's context still holds
_KINDS = "gaussian:1.6 (its standard deviation in px), motion:15,30 (px, degrees) or a picture of the kernel"


def gaussian(sigma: float) -> Tensor:
    """Round, of standard deviation `sigma` px, cut at four of them."""
    reach = math.ceil(4 * sigma)
    along = torch.exp(-(torch.arange(-reach, reach + 1).double() ** 2) / (2 * sigma**2))
    return normalised(torch.outer(along, along))


def motion(length: float, degrees: float) -> Tensor:
    """A straight line of `length` px through the origin, turned against the clock from the horizontal."""
    reach, angle = math.ceil(length / 2) + 1, math.radians(degrees)
    # Many points on the line, each shared among the four pixels around it.
    at = length * ((np.arange(n := 64 * math.ceil(length)) + 0.5) / n - 0.5)
    y, x = reach - math.sin(angle) * at, reach + math.cos(angle) * at
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    for row, across in ((np.floor(y), 1 - y % 1), (np.floor(y) + 1, y % 1)):
        for col, along in ((np.floor(x), 1 - x % 1), (np.floor(x) + 1, x % 1)):
            np.add.at(kernel, (row.astype(int), col.astype(int)), across * along)
    return normalised(torch.from_numpy(kernel))


def from_picture(pixels: np.ndarray) -> Tensor:
    """A kernel drawn as a picture, (h, w) or (h, w, C), bright where light went; its middle pixel is the origin."""
    grey = pixels.astype(np.float64)
    return normalised(torch.from_numpy(grey if grey.ndim == 2 else grey.mean(axis=2)))


def named(text: str) -> Tensor:
    """The kernel that `gaussian:S` or `motion:LENGTH,DEGREES` names; UsageError where it names none."""
    kind, _, numbers = text.partition(":")
    try:
        values = [float(number) for number in numbers.split(",")]
    except ValueError:
        values = []
    if values and 0 < values[0] <= 2 * FARTHEST and math.isfinite(sum(values)):
        if kind == "gaussian" and len(values) == 1:
            return gaussian(*values)
        if kind == "motion" and len(values) == 2:
            return motion(*values)
    raise UsageError(f"{text!r} is no blur kernel", f"give {_KINDS}")


def normalised(kernel: Tensor) -> Tensor:
    """The kernel with sum 1; UsageError where it is empty, negative or reaches too far."""
    total = kernel.sum()
    if not (torch.isfinite(total) and total > 0 and kernel.min() >= 0):
        raise UsageError("this kernel is empty, or negative somewhere", f"give {_KINDS}")
    kernel = kernel / total
    if reach(kernel) > FARTHEST:
        raise UsageError(f"this kernel reaches {reach(kernel)} px", f"the farthest that is undone is {FARTHEST} px")
    return kernel


def reach(kernel: Tensor) -> int:
    """The farthest row or column from the origin that the kernel touches [px]."""
    rows, cols = kernel.nonzero().unbind(1)
    h, w = kernel.shape
    return int(max((rows - h // 2).abs().max(), (cols - w // 2).abs().max()))
