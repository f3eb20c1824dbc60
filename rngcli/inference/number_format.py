"""Whether a device's number format is wide enough for a method's networks."""

from __future__ import annotations

import torch
from torch import Tensor

from ..diffusion.operators import Seen
from ..errors import ModelError
from ..methods.contract import STATE, Held, Method, Plan, Request, Step
from .noise import gaussian_field


@torch.inference_mode()
def stays_finite(method: Method, device: torch.device) -> bool:
    """Whether a tile of every brightness and much noise stays within the range of the format that `method` runs in.

    Through its start, and through a step where it takes any.
    """
    wide = method.frame.wide
    ramp = torch.linspace(0, 1, wide[1]).expand(1, 3, *wide)
    pixels = (ramp + 0.3 * gaussian_field(0, 0, torch.zeros(1, 2, dtype=torch.int64), wide)).to(device)
    seen = Seen(pixels, torch.ones_like(pixels[:, :1]), torch.full((1,), 0.3, device=device))
    held, (plan, *_) = method.start(seen, _shortest(method))
    if plan:
        held[STATE] = _after_a_step(method, held, (*plan, method.end), device)
    return all(bool(value.isfinite().all()) for value in held.values())


def _shortest(method: Method) -> Request:
    """One evaluation beside the start, where the model has what it takes."""
    try:
        method.require(Request(steps=1))
    except ModelError:
        return Request(detail=0)
    return Request(steps=1)


def _after_a_step(method: Method, held: Held, levels: Plan, device: torch.device) -> Tensor:
    channels, height, width = method.holds[STATE]
    noise = gaussian_field(0, 1, torch.zeros(1, 2, dtype=torch.int64), (height, width), channels, device)
    now, after = (torch.full((1,), level, device=device) for level in levels[:2])
    begun = {**held, STATE: method.begin(held, now, noise)}
    return method.step(begun, Step(now, after, noise))
