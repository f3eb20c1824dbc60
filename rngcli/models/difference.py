"""A network that has grown out of another, held as the difference from it: a byte a weight instead of two."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = "scale"  # what is added to the name of a weight, for the scales of its rows
_MOST = 127


def difference(weights: Mapping[str, Tensor], origin: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`weights` less `origin`, rounded to bytes, and a scale for each row of the first dimension.

    Both hold the same keys and shapes. The error is at most 1/254 of the row's largest difference, or a little more.
    """
    found = {}
    for key, value in weights.items():
        change = (value - origin[key]).float()
        scale = _rows(change).abs().amax(dim=1).div(_MOST).bfloat16()
        steps = change / _spread(scale, change).clamp(min=torch.finfo(torch.float32).tiny)
        found[key] = steps.round().clamp(-_MOST, _MOST).to(torch.int8).contiguous()
        found[f"{key}.{SCALE}"] = scale
    return found


def restored(held: Mapping[str, Tensor], origin: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `difference`, in float32."""
    return {
        key: value.float() + held[key].float() * _spread(held[f"{key}.{SCALE}"], held[key])
        for key, value in origin.items()
    }


def shapes_of(weights: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """What `difference` gives for such weights, by name."""
    shapes = {key: list(value.shape) for key, value in weights.items()}
    return shapes | {f"{key}.{SCALE}": [len(_rows(value))] for key, value in weights.items()}


def _rows(value: Tensor) -> Tensor:
    return value.reshape(len(value), -1) if value.dim() else value.reshape(1, 1)


def _spread(scale: Tensor, like: Tensor) -> Tensor:
    """A scale a row, in a shape that goes with the weights."""
    return scale.float().reshape(-1, *[1] * (like.dim() - 1)) if like.dim() else scale.float()[0]
