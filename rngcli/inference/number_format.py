"""Whether a device's number format is wide enough for a method's networks."""

from __future__ import annotations

import torch

from ..diffusion.operators import Seen
from ..methods.contract import Method, Request
from .noise import gaussian_field


@torch.inference_mode()
def stays_finite(method: Method, device: torch.device) -> bool:
    """Whether a tile of every brightness and much noise stays within the range of the format that `method` runs in."""
    wide = method.frame.wide
    ramp = torch.linspace(0, 1, wide).expand(1, 3, wide, wide)
    pixels = (ramp + 0.3 * gaussian_field(0, 0, torch.zeros(1, 2, dtype=torch.int64), wide)).to(device)
    seen = Seen(pixels, torch.ones_like(pixels[:, :1]), torch.full((1,), 0.3, device=device))
    held, _ = method.start(seen, Request(detail=0) if "detail" in method.understands else Request())
    return all(bool(value.isfinite().all()) for value in held.values())
