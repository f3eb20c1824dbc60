"""RDDM in one view: a walk along the residual, from what was seen towards what a reconstruction makes of it.

The residual I_in − I_0 of a noisy picture is its noise. Walked without noise of its own (β̄ = 0), I_t is the clean
picture under ᾱ times the camera's noise, and a blind reconstruction answers Î_0 from I_t alone: its weights are all
that it takes. Shown I_in as well, a network could compute I_0 = (I_t − ᾱ·I_in)/(1 − ᾱ) and would learn to copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from ..device import replica
from ..diffusion.operators import Identity, Operator, Seen
from ..diffusion.rddm import RDDMSpec, ResidualDenoisingDiffusion
from ..errors import UsageError
from ..models.bundle import Bundle, MethodSpec
from ..nets.folding import folded
from ..nets.nafnet import NAFNet
from .contract import SIDES, STATE, Frame, Held, Plan, Request, Step

WALKER = "walker"  # of the networks in a bundle: the one that has learned RDDM
STEPS = 4  # after the reconstruction, which is the walk's first evaluation


class RDDM:
    """The method on a device; the state is I_t, the base the reconstruction, what is generated the walk beyond it."""

    understands = frozenset({"max_steps", "steps", "detail", "seed"})
    frame = Frame(sides=SIDES)
    draws_first_noise = stochastic = False
    unit = 1.0

    def __init__(self, net: NAFNet, device: torch.device, dtype: torch.dtype, walker: NAFNet | None = None) -> None:
        """`walker`: what has learned to walk on from what `net` makes of the noisy picture; by default `net`, too."""
        self.net = replica(folded(net), device, dtype)
        self.walker = replica(folded(walker), device, dtype) if walker else self.net
        self.process = ResidualDenoisingDiffusion(RDDMSpec())
        self.end = self.process.end

    @property
    def holds(self) -> Mapping[str, tuple[int, ...]]:
        return dict.fromkeys(("x", "r", STATE), (3, *self.frame.wide))

    @classmethod
    def open(cls, bundle: Bundle, name: str, device: torch.device, dtype: torch.dtype, operator: Operator) -> RDDM:
        if not isinstance(operator, Identity):
            raise UsageError(f"the method {name} takes noise away, and nothing else", "choose another with --method")
        roles = {role: bundle.networks[net] for role, net in bundle.methods[name].networks.items()}
        return cls(roles["reconstruct"], device, dtype, roles.get("walk"))  # type: ignore[arg-type]

    def require(self, request: Request) -> None:
        """Nothing: a bundle that names the method has all that it needs."""

    def start(self, seen: Seen, request: Request) -> tuple[Held, list[Plan]]:
        plan = self.process.levels(request.most(STEPS) + 1)[1:] if request.generates else ()
        return {"x": seen.pixels, "r": self.net(seen.pixels)}, [plan] * len(seen.pixels)

    def begin(self, held: Held, level: Tensor, noise: Tensor) -> Tensor:
        """After the first step, from I_in, to which the reconstruction is the answer."""
        x = held["x"]
        return self.process.step(x, x - held["r"], torch.ones_like(level), level, noise, x)

    def step(self, held: Held, step: Step) -> Tensor:
        x, state = held["x"], held[STATE]
        return self.process.step(state, x - self.walker(state), step.now, step.after, step.noise, x)

    def finish(self, held: Held) -> tuple[Tensor, Tensor]:
        """r(x), and what the walk has that it lacks."""
        return held["r"], held[STATE] - held["r"]

    def start_share(self, level: float) -> float:
        return level


def walked(
    process: ResidualDenoisingDiffusion, net: Callable[[Tensor], Tensor], noisy: Tensor, r: Tensor, steps: int
) -> Tensor:
    """Where `steps` evaluations after the reconstruction r lead, (N, 3, H, W): the method's walk without its tiles."""
    state, level = before_the_last(process, net, noisy, r, steps)
    answer = net(state).float() if steps else r
    end = torch.full_like(level, process.end)
    return process.step(state, noisy - answer, level, end, torch.zeros_like(noisy), noisy)


def before_the_last(
    process: ResidualDenoisingDiffusion, net: Callable[[Tensor], Tensor], noisy: Tensor, r: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """The state (N, 3, H, W) that the last of `steps` evaluations is shown, and its level (N,)."""
    levels = [noisy.new_full((len(noisy),), level) for level in process.levels(steps + 1)]
    state, answer = noisy, r
    for i, (level, after) in enumerate(pairwise(levels)):
        answer = net(state).float() if i else answer
        state = process.step(state, noisy - answer, level, after, torch.zeros_like(noisy), noisy)
    return state, levels[-1]


def with_walker(bundle: Bundle, walker: NAFNet, reconstruct: str) -> Bundle:
    """The bundle with RDDM as a method of its own, which shares the network named `reconstruct` with the others."""
    roles = {"reconstruct": reconstruct, "walk": WALKER}
    return replace(
        bundle,
        networks={**bundle.networks, WALKER: walker},
        methods={**bundle.methods, "rddm": MethodSpec("rddm", roles)},
        grown={**bundle.grown, WALKER: reconstruct},
    )
