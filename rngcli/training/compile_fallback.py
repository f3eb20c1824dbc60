"""The forward pass that training takes: compiled where that can be done, and only as long as its numbers are finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..device import can_compile

ForwardPass = tuple[str, Callable[..., Any]]  # what a line to the user calls it, and the pass itself
NARROWER = 256  # bits of a CPU's vectors


class Forward(nn.Module):
    """A network's forward pass in the fastest of several ways, the last of which is the network itself.

    A module with the network's own parameters, so that DistributedDataParallel can wrap it once, whatever the way.
    """

    def __init__(self, net: nn.Module, device: torch.device, compile: bool) -> None:
        super().__init__()
        self.net = net
        # A tuple, not a ModuleList: each compiled network has the parameters of `net`, which must count once.
        fast = tuple(compiled(net, device)) if compile else ()
        self._ways: tuple[ForwardPass, ...] = (*fast, ("the network not compiled, which is slower", net))

    @property
    def compiles(self) -> bool:
        """Whether the first step takes a minute, since it compiles."""
        return len(self._ways) > 1

    def forward(self, *inputs: Any) -> Any:
        return self._ways[0][1](*inputs)

    def next_way(self) -> str | None:
        """Go over to the next way and say which it is; None where there is no other."""
        if not self.compiles:
            return None
        self._ways = self._ways[1:]
        return self._ways[0][0]


def compiled(net: nn.Module, device: torch.device) -> list[ForwardPass]:
    """`net` by torch.compile in the ways that are worth a try, the fastest first.

    On some CPUs with AVX-512, torch 2.13 makes of NAFNet code whose bfloat16 gradients are NaN; with narrower vectors
    they are finite.
    """
    if not can_compile(device):
        return []
    ways: list[ForwardPass] = [("the network compiled", torch.compile(net))]
    if device.type == "cpu":
        narrower = torch.compile(net, options={"cpp.simdlen": NARROWER})
        ways.append(("the network compiled for narrower vectors", narrower))
    return ways
