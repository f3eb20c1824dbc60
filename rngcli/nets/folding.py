"""A network as it is run, not as it is trained: what is only multiplied and added, folded into the convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .nafnet import ChannelNorm, NAFBlock, simple_gate

Net = TypeVar("Net", bound=nn.Module)


class FoldedNAFBlock(nn.Module):
    """A NAFBlock whose norms' scales and shifts are in the convolutions after them, β and γ in those before them.

    The same function up to rounding, with a third fewer passes over memory.
    """

    def __init__(self, block: NAFBlock) -> None:
        super().__init__()
        self.eps = block.norm1.eps
        self.conv1, self.conv4 = _after(block.norm1, block.conv1), _after(block.norm2, block.conv4)
        self.conv3, self.conv5 = _before(block.conv3, block.beta), _before(block.conv5, block.gamma)
        self.conv2, self.sca = block.conv2, block.sca
        self._packed: dict[tuple[torch.Size, torch.dtype], list[_Packed]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """The features after the block; x, which nothing else may need, is overwritten where that saves a copy."""
        if not _packs(x):
            y = self.conv3(self._gated(self.conv2(self.conv1(self._normal(x))))).add_(x)
            return self.conv5(simple_gate(self.conv4(self._normal(y)))).add_(y)
        conv1, conv2, conv3, conv4, conv5 = self._packed_for(x)
        y = conv3.added(x, self._gated(conv2(conv1(self._normal(x)))))
        return conv5.added(y, simple_gate(conv4(self._normal(y))))

    def _gated(self, x: Tensor) -> Tensor:
        z = simple_gate(x)
        return z if self.sca is None else z * self.sca(z)

    def _normal(self, x: Tensor) -> Tensor:
        nhwc = x.permute(0, 2, 3, 1)
        return F.layer_norm(nhwc, nhwc.shape[-1:], eps=self.eps).permute(0, 3, 1, 2)

    def _packed_for(self, x: Tensor) -> list[_Packed]:
        """The convolutions in the layout of pictures of x's size: those of the last one are kept."""
        kind = x.shape, x.dtype
        if kind not in self._packed:
            convolutions = self.conv1, self.conv2, self.conv3, self.conv4, self.conv5
            self._packed = {kind: [_Packed(conv, x.shape) for conv in convolutions]}
        return self._packed[kind]


class _Packed:
    """A convolution with oneDNN's own layout of its weights, which torch else makes anew at every call on a CPU."""

    def __init__(self, conv: nn.Conv2d, shape: torch.Size) -> None:
        self._shape = conv.padding, conv.stride, conv.dilation, conv.groups
        size = (shape[0], conv.in_channels, *shape[2:])
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(conv.weight, *self._shape, size)
        self._bias = conv.bias

    def __call__(self, x: Tensor) -> Tensor:
        packed = x, self._weight, self._bias, *self._shape
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(*packed, "none", [], None)
        return result

    def added(self, y: Tensor, x: Tensor) -> Tensor:
        """y, with the convolution of x added where y lies, before anything is rounded."""
        packed = y, x, self._weight, self._bias, *self._shape
        result: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(*packed, "add", 1.0, None, [], None)
        return result


_plain = False


@contextmanager
def plain_convolutions() -> Iterator[None]:
    """Within, the operators that every device has: for what counts them, or compares devices bit for bit."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def _packs(x: Tensor) -> bool:
    return not _plain and x.device.type == "cpu" and not torch.is_grad_enabled() and _onednn_has(x.dtype)


@cache
def _onednn_has(dtype: torch.dtype) -> bool:
    """Whether this torch has oneDNN's fused convolutions (torch.compile is built on them) in a number format."""
    operators = torch.ops.mkldnn
    if not (torch.backends.mkldnn.is_available() and hasattr(operators, "_convolution_pointwise_")):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and operators._is_mkldnn_bf16_supported())


def folded(net: Net) -> Net:
    """A copy of `net`, with its NAFBlocks folded."""
    copy = deepcopy(net)
    for module in list(copy.modules()):
        for name, child in module.named_children():
            if type(child) is NAFBlock:
                setattr(module, name, FoldedNAFBlock(child))
    return copy


@torch.no_grad()
def _after(norm: ChannelNorm, conv: nn.Conv2d) -> nn.Conv2d:
    """A 1×1 convolution of w·n + b: W(w·n + b) + c = (W·w)n + (W·b + c)."""
    assert conv.bias is not None
    conv.bias += conv.weight[:, :, 0, 0] @ norm.bias
    conv.weight *= norm.weight[None, :, None, None]
    return conv


@torch.no_grad()
def _before(conv: nn.Conv2d, scale: Tensor) -> nn.Conv2d:
    """A convolution whose result is multiplied by `scale`, (1, C, 1, 1)."""
    assert conv.bias is not None
    conv.weight *= scale.reshape(-1, 1, 1, 1)
    conv.bias *= scale.flatten()
    return conv
