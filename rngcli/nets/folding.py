"""A network as it is run, not as it is trained: what is only multiplied and added, folded into the convolutions."""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .nafnet import ChannelNorm, NAFBlock, simple_gate

Net = TypeVar("Net", bound=nn.Module)


class FoldedNAFBlock(nn.Module):
    """A NAFBlock whose norms' scales and shifts are in the convolutions after them, β and γ in those before them.

    The same function up to rounding, with a third of the passes over memory less.
    """

    def __init__(self, block: NAFBlock) -> None:
        super().__init__()
        self.eps = block.norm1.eps
        self.conv1, self.conv4 = _after(block.norm1, block.conv1), _after(block.norm2, block.conv4)
        self.conv3, self.conv5 = _before(block.conv3, block.beta), _before(block.conv5, block.gamma)
        self.conv2, self.sca = block.conv2, block.sca

    def forward(self, x: Tensor) -> Tensor:
        z = simple_gate(self.conv2(self.conv1(self._normal(x))))
        y = self.conv3(z if self.sca is None else z * self.sca(z)).add_(x)
        return self.conv5(simple_gate(self.conv4(self._normal(y)))).add_(y)

    def _normal(self, x: Tensor) -> Tensor:
        nhwc = x.permute(0, 2, 3, 1)
        return F.layer_norm(nhwc, nhwc.shape[-1:], eps=self.eps).permute(0, 3, 1, 2)


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
