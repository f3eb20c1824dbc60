"""RDDM in one view: a walk along the residual, from what was seen towards what a reconstruction makes of it.

The residual I_in − I_0 of a noisy picture is its noise. Walked without noise of its own (β̄ = 0), I_t is the clean
picture under ᾱ times the camera's noise, and a blind reconstruction answers Î_0 from I_t alone: its weights are all
that it takes. Shown I_in as well, a network could compute I_0 = (I_t − ᾱ·I_in)/(1 − ᾱ) and would learn to copy.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..device import replica
from ..diffusion.operators import Identity, Operator, Seen
from ..diffusion.rddm import RDDMSpec, ResidualDenoisingDiffusion
from ..errors import UsageError
from ..models.bundle import Bundle
from ..nets.folding import folded
from ..nets.nafnet import NAFNet
from .contract import STATE, Frame, Held, Plan, Request, Step

STEPS = 4  # after the reconstruction, which is the walk's first evaluation


class RDDM:
    """The method on a device; the state is I_t, the base the reconstruction, what is generated the walk beyond it."""

    understands = frozenset({"max_steps", "steps", "detail", "seed"})
    frame = Frame()
    stochastic, unit = False, 1.0

    def __init__(self, net: NAFNet, device: torch.device, dtype: torch.dtype) -> None:
        self.net = replica(folded(net), device, dtype)
        self.process = ResidualDenoisingDiffusion(RDDMSpec())
        self.end = self.process.end
        pictures = (3, self.frame.wide, self.frame.wide)
        self.holds: Mapping[str, tuple[int, ...]] = {"x": pictures, "r": pictures, STATE: pictures}

    @classmethod
    def open(cls, bundle: Bundle, name: str, device: torch.device, dtype: torch.dtype, operator: Operator) -> RDDM:
        if not isinstance(operator, Identity):
            raise UsageError(f"the method {name} takes noise away, and nothing else", "choose another with --method")
        return cls(bundle.networks[bundle.methods[name].networks["reconstruct"]], device, dtype)  # type: ignore[arg-type]

    def require(self, request: Request) -> None:
        """Nothing: a bundle that names the method has all that it needs."""

    def start(self, seen: Seen, request: Request) -> tuple[Held, list[Plan]]:
        steps = min(STEPS if request.steps is None else request.steps, request.max_steps)
        plan = self.process.levels(steps + 1)[1:] if request.generates else ()
        return {"x": seen.pixels, "r": self.net(seen.pixels)}, [plan] * len(seen.pixels)

    def begin(self, held: Held, level: Tensor, noise: Tensor) -> Tensor:
        """After the first step, from I_in, to which the reconstruction is the answer."""
        x = held["x"]
        return self.process.step(x, x - held["r"], torch.ones_like(level), level, noise, x)

    def step(self, held: Held, step: Step) -> Tensor:
        x, state = held["x"], held[STATE]
        return self.process.step(state, x - self.net(state), step.now, step.after, step.noise, x)

    def finish(self, held: Held) -> tuple[Tensor, Tensor]:
        """r(x), and what the walk has that it lacks."""
        return held["r"], held[STATE] - held["r"]

    def start_share(self, level: float) -> float:
        return level
