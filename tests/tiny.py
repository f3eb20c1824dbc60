"""Networks and photographs small enough for tests: random, identity, or wrong on purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from rngcli.diffusion.residual import ProcessSpec
from rngcli.diffusion.schedule import Budget
from rngcli.methods.rng import RnGParts
from rngcli.metrics.lpips import LPIPS
from rngcli.models.bundle import Bundle
from rngcli.nets.controller import Controller, ControllerSpec
from rngcli.nets.nafnet import NAFNet, NAFNetSpec
from rngcli.nets.unet import UNet, UNetSpec

NAF = NAFNetSpec(4, (1,), 1, (1,))
WIDER = NAFNetSpec(16, (1,), 1, (1,))  # wide enough for Muon
GEN = UNetSpec(8, (1,), 1, (1,), embedding=16)
BUDGETS = (Budget(1.0, 0), *(Budget(0.2 * k, 1 + k // 3) for k in range(1, 11)))


def scramble(net: nn.Module, scale: float = 0.3) -> nn.Module:
    """Random weights everywhere, also where networks start at zero."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(scale * torch.randn_like(parameter) / max(parameter[0].numel(), 1) ** 0.5)
    return net.eval().requires_grad_(False)


class ByBrightness(Controller):
    """Gives bright tiles large budgets: decisions that a test can foresee."""

    def forward(self, x: Tensor) -> Tensor:
        chosen = (x.mean(dim=(1, 2, 3)) * self.spec.budgets).long().clamp(0, self.spec.budgets - 1)
        return nn.functional.one_hot(chosen, self.spec.budgets).float()


def random_bundle(seed: int = 0) -> Bundle:
    """A random reconstruction, a random generator, and a controller that goes by brightness."""
    torch.manual_seed(seed)
    controller = ByBrightness(ControllerSpec((4,) * 8)).eval().requires_grad_(False)
    parts = RnGParts(scramble(NAFNet(NAF)), scramble(UNet(GEN)), controller, ProcessSpec(sigma_d=0.05), BUDGETS)
    return parts.bundle()


def random_lpips() -> LPIPS:
    """A distance of a kind, without the weights: random features; heads of zero, as they begin, would make none."""
    torch.manual_seed(0)
    lpips = LPIPS("squeeze")
    for head in lpips.heads:
        nn.init.constant_(head, 0.1)
    return lpips


def identity_bundle() -> Bundle:
    """A NAFNet that returns its input exactly."""
    net = NAFNet(NAF)
    nn.init.zeros_(net.ending.weight)
    nn.init.zeros_(net.ending.bias)
    return RnGParts(net.eval().requires_grad_(False)).bundle()


def clouds(folder: Path, count: int, size: tuple[int, int], coarse: tuple[int, int] = (8, 10)) -> Path:
    """`count` photographs of a kind in `folder`, (width, height) px: smooth clouds with edges."""
    rng = np.random.default_rng(0)
    for i in range(count):
        picture = Image.fromarray(rng.integers(0, 256, (*coarse, 3), np.uint8))
        picture.resize(size, Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder
