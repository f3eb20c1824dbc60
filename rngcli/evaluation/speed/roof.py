"""What this machine can compute at most, and which share of it a network reaches."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from ...nets.folding import plain_convolutions

SIDE = 2048  # of the matrices


def roof(device: torch.device, dtype: torch.dtype, repeats: int = 5) -> float:
    """The most floating-point operations a second of a product of large matrices, the best of some."""
    side = SIDE if device.type != "cpu" else SIDE // 2
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / min(seconds(lambda: a @ b, device) for _ in range(repeats))


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """One call, waited for: a GPU answers before it has finished."""
    wait(device)
    begun = time.perf_counter()
    call()
    wait(device)
    return time.perf_counter() - begun


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def operations(call: Callable[[], object]) -> int:
    """The floating-point operations of convolutions and matrix products in a call."""
    with plain_convolutions(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()
