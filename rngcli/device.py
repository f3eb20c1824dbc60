"""Devices and number formats: what this machine has, and which precision pays on it."""

from __future__ import annotations

import shutil
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

from .errors import EnvironmentFault, UsageError

Net = TypeVar("Net", bound=nn.Module)

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def find_device(name: str = "auto") -> torch.device:
    """`auto` (CUDA, then Apple's Metal, then the CPU) or an explicit cpu | cuda[:i] | mps that must be there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"unknown device {name!r}", "use auto, cpu, cuda, cuda:1 … or mps") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EnvironmentFault(f"no CUDA device {device.index or 0} here", "use --device auto or cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise EnvironmentFault("no Metal device here", "use --device auto or cpu")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"unsupported device {name!r}", "use auto, cpu, cuda, cuda:1 … or mps")
    return device


def bfloat16_pays(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is native, and so faster than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def find_precision(device: torch.device, name: str = "auto") -> torch.dtype:
    """`auto`: bfloat16 where it is native, else float32, never float16, whose range some pictures leave."""
    if name == "auto":
        return torch.bfloat16 if bfloat16_pays(device) else torch.float32
    if name not in PRECISIONS:
        raise UsageError(f"unknown precision {name!r}", f"use auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile has what it needs: on a CPU, a C++ compiler."""
    return device.type != "cpu" or shutil.which("g++") is not None


def placed(net: Net, device: torch.device, dtype: torch.dtype = torch.float32) -> Net:
    """`net` moved to a device and a number format, its weights laid out for channels-last pictures."""
    return net.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]


def replica(net: Net, device: torch.device, dtype: torch.dtype = torch.float32) -> Net:
    """A copy of `net`, `placed`; the original stays as it is, since it may serve elsewhere at another precision."""
    return placed(deepcopy(net), device, dtype)


def channels_last(x: Tensor) -> Tensor:
    """Pictures (N, C, H, W), the same to the eye, laid out as (N, H, W, C): what convolutions are fastest on."""
    return x.contiguous(memory_format=torch.channels_last)
