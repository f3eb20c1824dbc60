"""DiffPIR: whatever linear happened to a picture is undone by a denoiser and the measurement in turns.

The denoiser is the reconstruction, or a copy of it that was trained on (`with_prior`), on noise alone: no network knows
of blur, scale or holes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ..device import replica
from ..diffusion.hqs import HalfQuadraticSplitting, HQSSpec
from ..diffusion.operators import TAPER, Blur, Decimate, Identity, Mask, Operator, Seen
from ..models.bundle import Bundle, MethodSpec
from ..nets.contrast import denoise
from ..nets.folding import folded
from ..nets.nafnet import NAFNet
from .contract import STATE, Frame, Held, Plan, Request, Step

# Where the walk begins and ends, how far the denoiser is believed, and in how many evaluations (docs/DIFFPIR.md).
SETTINGS: dict[type, tuple[HQSSpec, int]] = {
    Identity: (HQSSpec(trust=7.0, zeta=0.0, start=3 / 255, last=3 / 255), 5),
    Mask: (HQSSpec(trust=1.0, zeta=1.0, start=100 / 255, last=3 / 255), 20),
    Blur: (HQSSpec(trust=0.39, zeta=1.0, start=100 / 255, last=4 / 255), 20),
    Decimate: (HQSSpec(trust=0.5, zeta=1.0, start=100 / 255, last=4 / 255), 20),
}
PRIOR = "prior"  # of the networks in a bundle: the one that has learned noise of any strength
# Tiles [px of the input] by scale, about 256 px of the output, and the steps in which their sides may differ: from one
# tile to the next it is a multiple of 16 px of the output, so that the network's strides lie alike in all.
_TILES = {1: (256, 32), 2: (128, 16), 3: (74, 16), 4: (64, 8)}


class DiffPIR:
    """The method on a device; the state is z = y + σ·ε, the base the operator's first picture.

    It needs σ_n of every picture: where `Seen.sigma` is NaN, a measurement without noise is assumed.
    """

    understands = frozenset({"max_steps", "steps", "seed", "sigma"})
    draws_first_noise, unit = True, 1.0

    def __init__(self, net: NAFNet, device: torch.device, dtype: torch.dtype, operator: Operator) -> None:
        self.net = replica(folded(net), device, dtype)
        self.operator = operator
        spec, self.evaluations = SETTINGS.get(type(operator), SETTINGS[Blur])
        self.process = HalfQuadraticSplitting(spec)
        self.end, self.stochastic = self.process.end, spec.zeta > 0
        self.frame = frame_of(operator)

    @property
    def holds(self) -> Mapping[str, tuple[int, ...]]:
        seen = self.frame.wide
        restored = (self.frame.scale * side for side in seen)
        return {"pixels": (3, *seen), "valid": (1, *seen), "sigma": (), STATE: (3, *restored)}

    @classmethod
    def open(cls, bundle: Bundle, name: str, device: torch.device, dtype: torch.dtype, operator: Operator) -> DiffPIR:
        roles = bundle.methods[name].networks
        net = bundle.networks[roles.get("prior") or roles["reconstruct"]]
        return cls(net, device, dtype, operator)  # type: ignore[arg-type]

    def require(self, request: Request) -> None:
        """Nothing: a bundle that names the method has all that it needs."""

    def start(self, seen: Seen, request: Request) -> tuple[Held, list[Plan]]:
        sigma = seen.sigma.nan_to_num(0.0)
        steps = request.most(self.evaluations)
        held = {"pixels": seen.pixels, "valid": seen.valid, "sigma": sigma}
        return held, [self._plan(noise, steps) for noise in sigma.tolist()]

    def _plan(self, sigma: float, steps: int) -> Plan:
        """From the noise of the measurement, if that is the stronger, down to the last level."""
        spec = replace(self.process.spec, start=max(sigma, self.process.spec.start))
        return HalfQuadraticSplitting(spec).levels(steps)

    def begin(self, held: Held, level: Tensor, noise: Tensor) -> Tensor:
        if isinstance(self.operator, Identity | Mask):  # the first picture has the measurement's noise already
            level = (level.square() - held["sigma"].square()).clamp(min=0).sqrt()
        return self.process.begin(level, noise, self.operator.first(_seen(held)))

    def step(self, held: Held, step: Step) -> Tensor:
        estimate = denoise(self.net, held[STATE], step.now)
        met = self.operator.meet(estimate, _seen(held), self.process.variance(step.now))
        # At the end the measurement is met only where it has less noise than the estimate: else its noise comes back.
        final = (step.after == self.end) & (held["sigma"] >= step.now)
        answer = torch.where(final[:, None, None, None], estimate, met)
        return self.process.step(held[STATE], answer, step.now, step.after, step.noise)

    def finish(self, held: Held) -> tuple[Tensor, Tensor]:
        """The first picture, and what has changed since."""
        first = self.operator.first(_seen(held))
        return first, held[STATE] - first

    def start_share(self, level: float) -> float:
        return min(level / SETTINGS[Blur][0].start, 1.0)


def with_prior(bundle: Bundle, prior: NAFNet, reconstruct: str) -> Bundle:
    """The bundle with DiffPIR as a method of its own, whose denoiser has grown out of the network `reconstruct`."""
    return replace(
        bundle,
        networks={**bundle.networks, PRIOR: prior},
        methods={**bundle.methods, "diffpir": MethodSpec("diffpir", {"prior": PRIOR})},
        grown={**bundle.grown, PRIOR: reconstruct},
    )


def frame_of(operator: Operator) -> Frame:
    """Tiles whose context exceeds what the operator reaches; the network sees a multiple of 16 px of the output."""
    scale, (tile, step) = operator.scale, _TILES[operator.scale]
    context = -(-16 // scale) if operator.margin == 0 else operator.margin + 2 * TAPER
    while scale * (tile + 2 * context) % 16:
        context += 1
    sides = tuple(range(tile - tile // 2 // step * step, 1024 // scale + 1, step))
    return Frame((tile, tile), context, scale, overlap=32 // scale, discard=12 // scale, sides=sides)


def _seen(held: Held) -> Seen:
    return Seen(held["pixels"], held["valid"], held["sigma"])
