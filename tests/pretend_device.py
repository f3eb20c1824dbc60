"""A CUDA device that is not there: its tensors' numbers lie in host memory, and it sees what a real one would punish.

Every operation on tensors of two devices raises, as on a GPU. Each time the host would wait for the device, each launch
and the bytes it moves are counted, by the line of rngcli that caused them. What is fetched without waiting is poison
until its event was waited for. CUDA graphs record and replay. Results are the CPU's, bit for bit.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.cpp_extension import include_paths

aten = torch.ops.aten
_INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
_COPYING = {aten._to_copy.default, aten.copy_.default}
_DATA_DEPENDENT = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default}


class There(torch.Tensor):
    """A tensor that says it is on the device; `inner` holds its numbers on the host."""

    inner: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor, device: torch.device) -> There:
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=device,
        )  # fmt: skip
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        assert PretendedDevice.current, "the pretended device is gone"
        return PretendedDevice.current.run(func, args, kwargs or {})

    def __repr__(self) -> str:
        return f"There({self.inner!r})"


def _host(tree: Any) -> Any:
    return tree_map_only(There, lambda t: t.inner, tree)


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _line() -> str:
    """Where in rngcli the innermost caller is."""
    frame = sys._getframe(1)
    while frame:
        name = frame.f_code.co_filename
        if "/rngcli/" in name:
            return f"{name.rpartition('/rngcli/')[2]}:{frame.f_lineno}"
        frame = frame.f_back
    return "a test"


class PretendedDevice(TorchDispatchMode):
    """What happened on the device so far: `waits`, `launches` and `moved` [B], each counted by line of rngcli."""

    current: PretendedDevice | None = None

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()
        self.moved: Counter[str] = Counter()
        self.fail: Callable[[str], None] = lambda line: None  # asked before each launch: may raise
        self._pinned: dict[int, torch.Tensor] = {}  # page-locked tensors, kept so that no other gets their memory
        self._fetching: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # (on the host, what will be in it), in order
        self.asked = 0  # fetches so far
        self.tape: list[tuple[Any, Any, Any, Any]] | None = None  # of the graph that is being recorded

    def __enter__(self) -> PretendedDevice:
        type(self).current = self
        return super().__enter__()

    def forget(self) -> None:
        """Count from zero."""
        for counter in (self.waits, self.launches, self.moved):
            counter.clear()

    def wait(self, what: str) -> None:
        """The host waits for the device."""
        if self.tape is not None:
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing ({what}, {_line()})")
        self.waits[f"{_line()} {what}"] += 1

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        if isinstance(tensor, There):
            raise RuntimeError("cannot pin a tensor that is on the device; only dense CPU tensors can be pinned")
        pinned = tensor.clone()
        self._pinned[pinned.data_ptr()] = pinned
        return pinned

    def arrive(self, asked: int) -> None:
        """The first so many fetches are on the host."""
        for number in [number for number in self._fetching if number < asked]:
            host, value = self._fetching.pop(number)
            host.copy_(value)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self.run(func, args, kwargs or {})

    def run(self, func, args, kwargs):
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        there = [t for t in _tensors((args, kwargs)) if isinstance(t, There)]
        asked = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
        if asked and asked.type == "cpu" and kwargs.get("pin_memory"):
            return self.pin(func(*_host(args), **{k: v for k, v in kwargs.items() if k != "pin_memory"}))
        if not there and (asked is None or asked.type == "cpu"):
            return func(*args, **kwargs)
        home = torch.device("cuda", 0) if asked is None or asked.type == "cuda" else asked
        if self._is_fetch(func, args, kwargs):
            return self._fetch(*args[:2])
        self._check(func, args, kwargs, home)
        return self._on_device(func, args, kwargs, home)

    def _is_fetch(self, func, args, kwargs) -> bool:
        if func is not aten.copy_.default or isinstance(args[0], There):
            return False
        return bool(args[2] if len(args) > 2 else kwargs.get("non_blocking")) and args[0].data_ptr() in self._pinned

    def _fetch(self, host: torch.Tensor, there: There) -> torch.Tensor:
        self._fetching[self.asked] = host, there.inner.clone()
        self.asked += 1
        return host.fill_(torch.nan if host.is_floating_point() else 1)  # poison

    def _check(self, func, args, kwargs, home: torch.device) -> None:
        """Raise where devices are mixed, count where the host waits."""
        hosts = [t for t in _tensors((args, kwargs)) if not isinstance(t, There) and (t.dim() or func in _COPYING)]
        if func in _COPYING:
            source = args[1] if func is aten.copy_.default else args[0]
            if not isinstance(source, There):
                blocking = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
                if blocking or source.data_ptr() not in self._pinned:
                    self.wait("to the device")
            elif home.type == "cpu" or hosts:
                self.wait("to the host")
        elif hosts and func in _INDEXING and all(any(h is i for i in tree_leaves(args[1])) for h in hosts):
            self.wait("indices to the device")
        elif hosts:
            seen = [(str(t.device), tuple(t.shape)) for t in _tensors((args, kwargs))]
            raise RuntimeError(f"Expected all tensors to be on the same device: {func} of {seen}")
        if func in _DATA_DEPENDENT or (func in _INDEXING and any(t.dtype == torch.bool for t in _tensors(args[1]))):
            self.wait("for a value")

    def _on_device(self, func, args, kwargs, home: torch.device):
        launches = not (func.is_view or func in (aten.detach.default, aten._local_scalar_dense.default))
        if launches:
            self.fail(_line())
        plain = {k: v for k, v in _host(kwargs).items() if k not in ("pin_memory", "non_blocking")}
        if "device" in plain:
            plain["device"] = "cpu"
        # What is being recorded is not done yet; only what is new has to have its shape.
        later = self.tape is not None and func._schema.is_mutable
        made = _host(args[0]) if later else func(*_host(args), **plain)
        if func is aten._local_scalar_dense.default or home.type == "cpu":
            return made
        if launches:
            line = _line()
            self.launches[line] += 1
            self.moved[line] += sum(t.nbytes for t in _tensors((_host(args), plain, made)))
        if self.tape is not None and launches:
            self.tape.append((func, _host(args), plain, made))
        wrapped = tree_map_only(torch.Tensor, lambda t: There(t, home), made)
        return return_and_correct_aliasing(func, args, kwargs, wrapped) if func._schema.is_mutable else wrapped


class _Event:
    """Whatever was asked for before it is on the host once it has been waited for."""

    def record(self, stream: object = None) -> None:
        assert PretendedDevice.current
        self.asked = PretendedDevice.current.asked

    def synchronize(self) -> None:
        assert PretendedDevice.current
        PretendedDevice.current.wait("for an event")
        PretendedDevice.current.arrive(self.asked)


class _Graph:
    """What was launched while it was recorded, launched again into the same tensors."""

    tape: list[tuple[Any, Any, Any, Any]]

    def replay(self) -> None:
        device = PretendedDevice.current
        assert device
        device.launches["a graph"] += 1
        for func, args, kwargs, made in self.tape:
            again = func(*args, **kwargs)
            for old, new in zip(_tensors(made), _tensors(again), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@contextmanager
def _recording(graph: _Graph) -> Iterator[None]:
    device = PretendedDevice.current
    assert device
    device.tape = graph.tape = []
    try:
        yield
    finally:
        device.tape = None


@cache
def _load_guard() -> None:
    """Let torch switch to CUDA devices; compiled once for each version of torch, and skipped where nothing compiles."""
    if torch.version.cuda:
        pytest.skip("torch has real CUDA devices here")
    if not (compiler := shutil.which("g++")):
        pytest.skip("no g++ here to compile a device guard with")
    source = Path(__file__).with_name("cuda_guard.cpp")
    key = hashlib.sha256(source.read_bytes() + torch.__version__.encode() + torch.__file__.encode()).hexdigest()[:12]
    library = Path(tempfile.gettempdir()) / f"rng-tests-{os.getuid()}-{key}.so"
    if not library.exists():
        made = library.with_suffix(f".{os.getpid()}")
        includes = [f"-I{path}" for path in include_paths()]
        libraries = [f"-L{Path(torch.__file__).parent / 'lib'}", "-lc10"]
        options = ["-O1", "-std=c++20", "-shared", "-fPIC"]
        subprocess.run([compiler, *options, *includes, source, "-o", made, *libraries], check=True)
        made.replace(library)
    ctypes.CDLL(str(library))


@contextmanager
def pretended_device(
    capability: tuple[int, int] = (9, 0), memory: tuple[int, int] = (80 * 2**30, 80 * 2**30), graphs: bool = False
) -> Iterator[PretendedDevice]:
    """One pretended CUDA device, of a compute capability and a memory (free, whole) [B], with graphs or without."""
    _load_guard()
    with ExitStack() as stack:
        lifts, overwrites = (
            torch._C._only_lift_cpu_tensors(),
            torch.__future__.get_overwrite_module_params_on_conversion(),
        )
        stack.callback(torch._C._set_only_lift_cpu_tensors, lifts)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrites)
        torch._C._set_only_lift_cpu_tensors(True)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        device = PretendedDevice()
        cuda = {
            "_lazy_init": lambda: None, "is_available": lambda: True, "device_count": lambda: 1,
            "get_device_capability": lambda d=None: capability, "get_device_name": lambda d=None: "a pretended GPU",
            "mem_get_info": lambda d=None: memory, "current_device": lambda: 0, "is_initialized": lambda: graphs,
            "synchronize": lambda d=None: device.wait("for everything"), "current_stream": lambda d=None: None,
            "empty_cache": lambda: None, "Event": _Event, "CUDAGraph": _Graph, "graph": _recording,
            "get_arch_list": lambda: [f"sm_{capability[0]}{capability[1]}"],
        }  # fmt: skip
        stack.enter_context(mock.patch.multiple(torch.cuda, **cuda))
        stack.enter_context(mock.patch.object(torch.version, "cuda", "13.0"))
        stack.enter_context(mock.patch.object(torch.Tensor, "pin_memory", lambda t: device.pin(t)))
        stack.enter_context(mock.patch.object(torch.Tensor, "tolist", _tolist))
        # Tensors of a subclass cannot be made in inference mode.
        stack.enter_context(mock.patch.multiple(torch.inference_mode, __enter__=_no_grad, __exit__=_grad_again))
        stack.enter_context(device)
        yield device


_tolist_on_host = torch.Tensor.tolist


def _tolist(self: torch.Tensor) -> Any:
    if not isinstance(self, There):
        return _tolist_on_host(self)
    assert PretendedDevice.current
    PretendedDevice.current.wait("for values")
    return self.inner.tolist()


def _no_grad(self) -> None:
    self.without = torch.no_grad()
    self.without.__enter__()


def _grad_again(self, *raised: object) -> None:
    self.without.__exit__(*raised)
