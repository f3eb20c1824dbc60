"""Many small kernels launched as one: a function of tensors, recorded as a CUDA graph where that is possible."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..device import is_out_of_memory

KEPT = 2  # recordings: each holds the memory of its intermediate results


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    output: Any

    def replay(self, inputs: tuple[Tensor, ...]) -> Any:
        for static, given in zip(self.inputs, inputs, strict=True):
            static.copy_(given)
        self.graph.replay()
        return self.output


class Recorded:
    """`function(*tensors, **constants)`, whose kernels a CUDA device gets in one launch from the second call on.

    The function must ask nothing of the device's results, and read and write, beside its inputs, only tensors that stay
    where they are. What it returns is overwritten by the next call. On other devices it is simply called.
    """

    def __init__(self, function: Callable[..., Any], device: torch.device) -> None:
        self._function, self._device = function, device
        self._called: set[Hashable] = set()
        self._recordings: dict[Hashable, _Recording] = {}

    def __call__(self, *inputs: Tensor, **constants: Hashable) -> Any:
        if not _can_record(self._device):
            return self._function(*inputs, **constants)
        kind = (tuple((x.shape, x.dtype, x.stride()) for x in inputs), tuple(sorted(constants.items())))
        if (
            kind not in self._called
        ):  # the first call lets the libraries choose their kernels, which must not be recorded
            self._called.add(kind)
            return self._function(*inputs, **constants)
        if kind not in self._recordings and not self._record(kind, inputs, constants):
            return self._function(*inputs, **constants)
        return self._recordings[kind].replay(inputs)

    def _record(self, kind: Hashable, inputs: tuple[Tensor, ...], constants: dict[str, Hashable]) -> bool:
        """Whether it could be: a function that asks something of the host after all is called as it is from now on."""
        while len(self._recordings) >= KEPT:
            del self._recordings[next(iter(self._recordings))]
        static = tuple(torch.empty_like(x).copy_(x) for x in inputs)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                output = self._function(*static, **constants)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self._device = torch.device("cpu")  # as on devices that have no graphs
            return False
        self._recordings[kind] = _Recording(graph, static, output)
        return True


def _can_record(device: torch.device) -> bool:
    return device.type == "cuda" and torch.version.cuda is not None and torch.cuda.is_initialized()
