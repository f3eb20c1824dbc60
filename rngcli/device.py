"""Devices and number formats: what this machine has, and which precision pays on it."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .errors import EnvironmentFault, UsageError

CGROUPS = Path("/sys/fs/cgroup")
Net = TypeVar("Net", bound=nn.Module)

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def find_device(name: str = "auto") -> torch.device:
    """`auto` (CUDA, then Apple's Metal, then the CPU) or an explicit cpu | cuda[:i] | mps that must be there.

    A CUDA device that torch sees but has no kernels for is passed over by `auto`, and named; asked for, it is a fault.
    """
    if name == "auto":
        return _best_device()
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
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        if why := cannot_run(device):
            raise EnvironmentFault(why, "use --device cpu, or a torch that was built for this device")
    return device


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
        if not (why := cannot_run(device)):
            return device
        _tell(f"{why}: computing elsewhere")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@cache
def _tell(warning: str) -> None:
    """Once, on stderr."""
    logging.getLogger(__name__).warning(warning)


@cache
def cannot_run(device: torch.device) -> str | None:
    """Why a CUDA device cannot compute, found by its first kernel; None where it can.

    `torch.cuda.is_available` is true of any device, also of one older than all that torch was built for.
    """
    try:
        torch.zeros(1, device=device).add_(1).cpu()
    except RuntimeError as error:
        if is_out_of_memory(error):
            return None
        first = str(error).partition("\n")[0]
        return f"{torch.cuda.get_device_name(device)} ({device}) cannot run this torch ({first})"
    return None


def bfloat16_pays(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is native, and so faster than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def find_precision(device: torch.device, name: str = "auto") -> torch.dtype:
    """`auto`: float16 on CUDA devices with tensor cores, bfloat16 where a CPU has it natively, else float32.

    Ten bits of mantissa are worth more to pictures than bfloat16's range, which trained networks hardly leave; a tile
    that does is computed again (`Pipeline.again`).
    """
    if name == "auto":
        if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0):
            return torch.float16
        return torch.bfloat16 if bfloat16_pays(device) else torch.float32
    if name not in PRECISIONS:
        raise UsageError(f"unknown precision {name!r}", f"use auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


@contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """IEEE arithmetic where float32 is said: by default torch computes convolutions in TF32's ten bits on CUDA."""
    if device.type != "cuda":
        yield
        return
    switches: tuple[Any, ...] = torch.backends.cudnn.conv, torch.backends.cuda.matmul  # type: ignore[attr-defined]
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = "ieee"
        yield
    finally:
        for switch, precision in zip(switches, before, strict=True):
            switch.fp32_precision = precision


TILE_BYTES = 512 * 2**20  # what a tile takes in a batch, its networks' intermediate results included: a generous guess
CAPACITIES = (128, 64, 32, 16, 8, 4, 2)


def usual_capacity(device: torch.device) -> int:
    """Tiles in flight: on a CPU one, where more bring memory traffic and nothing else; on a GPU as its memory allows.

    By its whole memory, in steps, so that a card computes the same bits every time; fewer where others use it.
    """
    if device.type != "cuda":
        return 1 if device.type == "cpu" else 4
    free, total = torch.cuda.mem_get_info(device)
    fitting = (n for n in CAPACITIES if n * TILE_BYTES <= min(total / 4, 0.8 * free))
    return next(fitting, 1)


def placed_bytes(device: torch.device) -> int | None:
    """The most that one picture may take on the device, its canvas included [B]; None: any picture is there anyway."""
    if device.type != "cuda":
        return None
    return torch.cuda.mem_get_info(device)[1] // 8


_SHORT = (
    "allocate memory",  # the CPU's allocator
    "out of memory",  # Metal, CUDA's driver
    "ALLOC_FAILED",  # cuDNN, cuBLAS
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether a failure, or what it came from, is for want of memory; many of torch's have no class of their own."""
    while error is not None:
        words = str(error) if isinstance(error, RuntimeError) else ""
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(told in words for told in _SHORT):
            return True
        error = error.__cause__ or error.__context__
    return False


def heed_cpu_quota() -> None:
    """As many threads as the container's share of CPU time is worth: with more, each waits while others are held back.

    Nothing changes where no share is set, nor where OMP_NUM_THREADS says how many.
    """
    quota = cpu_quota()
    if quota and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, min(torch.get_num_threads(), round(quota))))


def cpu_quota(membership: Path = Path("/proc/self/cgroup"), groups: Path = CGROUPS) -> float | None:
    """The CPUs that this process's control group may use, as `docker --cpus` sets them; None: no limit."""
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except (OSError, ValueError):
        return None
    shares = []
    for _, kinds, path in lines:
        if kinds and "cpu" not in kinds.split(","):
            continue
        place = groups / (kinds and "cpu") / path.lstrip("/")
        shares += [share for folder in (place, *place.parents) if folder.is_relative_to(groups)
                   if (share := _share(folder))]  # fmt: skip
    return min(shares, default=None)


def _share(folder: Path) -> float | None:
    """Quota by period, of control groups version 2 or 1."""
    with suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    return None


@cache
def _mallopt() -> Callable[[int, int], int]:
    with suppress(OSError, AttributeError):  # other C libraries have no such switch
        return ctypes.CDLL(None).mallopt
    return lambda option, value: 0


def keep_freed_memory() -> None:
    """Let glibc keep what the networks' intermediate results leave free, instead of asking the kernel for it again.

    By default each large tensor's pages are given back and faulted in anew: a fifth of a network's time on a CPU.
    """
    _mallopt()(-3, 32 * 2**20)  # M_MMAP_THRESHOLD, the most that is allowed
    _mallopt()(-1, 2**30)  # M_TRIM_THRESHOLD


@contextmanager
def tensors_kept() -> Iterator[None]:
    """While networks run, the same for tensors beyond 32 MiB, which are else mapped one by one.

    Not always: what a large picture takes goes back as soon as it is free, and leaves no holes.
    """
    mallopt = _mallopt()
    mallopt(-4, 0)  # M_MMAP_MAX
    try:
        yield
    finally:
        mallopt(-4, 65536)  # glibc's own


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


def describe(device: torch.device) -> str:
    """A device by its own name, with what there is of it."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {torch.cuda.mem_get_info(device)[1] / 2**30:.0f} GiB"
    threads = torch.get_num_threads()
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {threads} thread{'s' if threads > 1 else ''}" if device.type == "cpu" else f"{device} of {name}"
