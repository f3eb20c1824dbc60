"""The NAFNet authors' own files, and those of their followers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ModelError
from ..nets.nafnet import NAFNet, NAFNetSpec


def from_authors(path: Path) -> NAFNet:
    """A NAFNet from a `.pth` of its authors or their followers; the spec is read off the weights' shapes.

    Their files are {"params": weights}; some forks say "params_ema" or prefix the keys with "module.".
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no exception of its own
        raise ModelError(f"{path} is no PyTorch file of plain weights", "give the authors' NAFNet-*.pth") from error
    try:
        weights = content.get("params_ema", content.get("params", content))
        weights = {key.removeprefix("module."): value for key, value in weights.items()}
        net = NAFNet(_spec_of(weights))
        net.load_state_dict(weights, strict=True)
    except (KeyError, RuntimeError, AttributeError, IndexError, TypeError, ValueError) as error:
        raise ModelError(f"{path} holds no NAFNet ({str(error).splitlines()[0]})", "give NAFNet-*.pth") from error
    return net.eval().requires_grad_(False)


def _spec_of(weights: Mapping[str, Tensor]) -> NAFNetSpec:
    def blocks(prefix: str) -> int:
        return len({key[len(prefix) :].split(".")[0] for key in weights if key.startswith(prefix)})

    levels = range(blocks("downs."))
    return NAFNetSpec(
        width=weights["intro.weight"].shape[0],
        encoder=tuple(blocks(f"encoders.{level}.") for level in levels),
        middle=blocks("middle_blks."),
        decoder=tuple(blocks(f"decoders.{level}.") for level in levels),
    )
