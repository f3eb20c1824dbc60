"""What moves the weights: AdamW, or Muon, which makes a matrix's step orthogonal (Jordan et al. 2024).

Muon is written by hand, since torch.optim.Muon takes matrices only, and the weights that it is for are convolutions
here. Those of one shape are made orthogonal in one batch of matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..device import bfloat16_pays
from ..errors import UsageError

OPTIMISERS = ("muon", "adamw")
# Of the quintic a·x + b·x³ + c·x⁵, whose repetition drives every singular value towards one (Jordan et al. 2024).
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
# Scales an orthogonal matrix to the root-mean-square of AdamW's usual steps, so that both take the same learning rate
# (Liu et al. 2025, eq. 4).
ADAMW_RMS = 0.2
LEAST_SIDE = 16  # of a matrix that is worth it: the first and the last layer, and depthwise kernels, are none


def optimisers(net: nn.Module, name: str, lr: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """`adamw` for all weights of `net`; or `muon` for its matrices, and AdamW for the rest. Raises UsageError."""
    if name not in OPTIMISERS:
        raise UsageError(f"unknown optimiser {name!r}", f"use {' or '.join(OPTIMISERS)}")
    matrices = [w for w in net.parameters() if name == "muon" and is_matrix(w)]
    theirs = {id(w) for w in matrices}
    rest = [w for w in net.parameters() if id(w) not in theirs]
    found: list[torch.optim.Optimizer] = []
    if rest:
        found.append(torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True))
    if matrices:
        found.append(Muon(matrices, lr, weight_decay))
    return found


def is_matrix(weight: Tensor) -> bool:
    """Whether `weight` mixes enough channels for its step to be made orthogonal."""
    return weight.ndim in (2, 4) and min(weight.shape[:2]) >= LEAST_SIDE


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrices, singular values about 0.7 to 1.2, of (N, rows, columns), same shape."""
    a, b, c = NEWTON_SCHULZ
    dtype = torch.bfloat16 if bfloat16_pays(matrices.device) else torch.float32
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).to(dtype, memory_format=torch.contiguous_format)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov's momentum, made orthogonal, for weights that are matrices.

    A convolution's weight counts as the matrix (outputs, inputs · kernel). Its momentum is dominated by few directions;
    orthogonal, all of them move alike.
    """

    def __init__(self, weights: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step for all weights that have a gradient; those of one shape go together."""
        if closure is not None:
            raise ValueError("Muon takes no closure")
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[nn.Parameter]] = {}  # by (outputs, inputs · kernel)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike.setdefault((len(weight), weight[0].numel()), []).append(weight)
            for shape, weights in alike.items():
                self._step(shape, weights, group)

    def _step(self, shape: tuple[int, int], weights: list[nn.Parameter], group: dict[str, Any]) -> None:
        lr, mu = group["lr"], group["momentum"]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        momenta = [self._momentum(weight) for weight in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - mu)
        ahead = torch._foreach_lerp(gradients, momenta, mu)
        steps = orthogonal(torch.stack([step.reshape(shape) for step in ahead]))
        size = lr * ADAMW_RMS * max(shape) ** 0.5
        for weight, step in zip(weights, steps, strict=True):
            weight.mul_(1 - lr * group["weight_decay"]).sub_(step.reshape(weight.shape), alpha=size)

    def _momentum(self, weight: nn.Parameter) -> Tensor:
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        return state["momentum"]
