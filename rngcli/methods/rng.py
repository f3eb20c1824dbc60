"""RnG: a reconstruction, and by diffusion the residual detail that it lacks, as far as a controller allows (paper)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..device import replica
from ..diffusion.operators import Identity, Operator, Seen
from ..diffusion.residual import ProcessSpec, ResidualDiffusion
from ..diffusion.schedule import Budget, ScheduleSpec, sigma_of
from ..errors import ModelError, UsageError
from ..models.bundle import RNG_ROLES, Bundle, MethodSpec, kind_of, networks_hash
from ..nets.bands import BandController
from ..nets.controller import Controller
from ..nets.folding import folded
from ..nets.fusion import FusionNet, local_variance
from ..nets.nafnet import NAFNet
from ..nets.unet import UNet
from ..nets.windows import window_mean
from .contract import SIDES, STATE, Frame, Held, Plan, Request, Step

Generator = UNet | FusionNet
StepController = Controller | BandController
NAME = "rng"  # of the kind, and of the method in the bundles that are trained here
USUAL_STEPS = 2  # evaluations of the generator, at most, where nobody asks for more: the second gives most of the rest
CONTRAST_RADIUS = 16  # [px] of the mean around which `noise_scale` raises the contrast
_PARTS = {"reconstruct": "nafnet", "generate": "generator", "control": "controller"}  # of RnGParts, by role


@dataclass(frozen=True)
class RnGParts:
    """What RnG is made of, with its types; a stage not trained yet is None."""

    nafnet: NAFNet
    generator: Generator | None = None
    controller: StepController | None = None
    process: ProcessSpec = field(default_factory=ProcessSpec)
    budgets: tuple[Budget, ...] = ()

    def bundle(self) -> Bundle:
        """A bundle with these parts and nothing else."""
        return _put(Bundle({}), self)

    def networks(self) -> Iterator[tuple[str, nn.Module]]:
        """The networks that are there, by their roles."""
        for role, part in _PARTS.items():
            if (net := getattr(self, part)) is not None:
                yield role, net


def rng_of(bundle: Bundle, name: str = NAME) -> RnGParts:
    """The parts of a bundle's method; ModelError where it has none of that name and kind, or holds unknown settings."""
    spec = bundle.methods.get(name)
    if spec is None or spec.kind != NAME:
        raise ModelError(f"the model holds no method {name!r} of the kind {NAME!r}", "see `rng models show`")
    networks = {role: bundle.networks[net] for role, net in spec.networks.items()}
    try:
        for role, net in networks.items():
            if role != RNG_ROLES.get(kind_of(net), role):
                raise ValueError(f"a network of the kind {kind_of(net)} cannot {role}")
        parts = {_PARTS[role]: net for role, net in networks.items()}
        return RnGParts(**parts, **_typed(**spec.settings))  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the model's method {name!r} is damaged ({error})", "fetch or train it again") from error


def _typed(process: Mapping[str, Any], budgets: list[Mapping[str, Any]]) -> dict[str, Any]:
    schedule = ScheduleSpec(**process["schedule"])
    return {
        "process": ProcessSpec(**{**process, "schedule": schedule}),
        "budgets": tuple(Budget(**budget) for budget in budgets),
    }


def with_rng(bundle: Bundle, **changes: Any) -> Bundle:
    """The bundle with other parts of RnG: nafnet, generator, controller, process, budgets."""
    return _put(bundle, replace(rng_of(bundle), **changes))


def _put(bundle: Bundle, parts: RnGParts) -> Bundle:
    """The parts in the place of those that the bundle has, if any; networks that other methods use stay."""
    before = bundle.methods.get(NAME, MethodSpec(NAME))
    kept = {net for name, spec in bundle.methods.items() if name != NAME for net in spec.networks.values()}
    networks = {n: net for n, net in bundle.networks.items() if n in kept or n not in before.networks.values()}
    roles = {}
    for role, net in parts.networks():
        shared = (name for name, there in networks.items() if there is net)
        roles[role] = next(shared, _free(kind_of(net) or role, networks))
        networks[roles[role]] = net
    settings = {"process": asdict(parts.process), "budgets": [asdict(budget) for budget in parts.budgets]}
    return replace(bundle, networks=networks, methods={**bundle.methods, NAME: MethodSpec(NAME, roles, settings)})


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """`name`, or the first of name-2, name-3, … that is not taken."""
    number = 1
    while (free := name if number == 1 else f"{name}-{number}") in taken:
        number += 1
    return free


LEAST_OWN = 0.25  # own noise that is weaker than this [σ_d] is not raised to unit variance: it is a clean picture's


def first_noise(process: ProcessSpec, fresh: Tensor, noisy: Tensor, r: Tensor) -> Tensor:
    """What a tile's walk begins with, (N, 3, H, W): `fresh` noise, or the picture's own, x − r(x), at unit variance.

    Its own noise lies over the picture as grain does, and holds what the reconstruction lost of the truth beside it
    (x − r = d + n); and two tiles cannot disagree about it.
    """
    if process.begins == "fresh":
        return fresh
    removed = noisy - r
    return removed / (local_variance(removed) + (LEAST_OWN * process.sigma_d) ** 2).sqrt()


def weights_hash(bundle: Bundle) -> str:
    """A hash of the weights of the reconstruction and the generator: one that stays when only the header changes."""
    parts = rng_of(bundle)
    return networks_hash(net for net in (parts.nafnet, parts.generator) if net is not None)


class RnG:
    """The method on a device: networks in `dtype`, but for the controller."""

    understands = frozenset({"max_steps", "steps", "detail", "seed", "budget", "noise_scale"})

    def __init__(self, parts: RnGParts, device: torch.device, dtype: torch.dtype) -> None:
        if parts.controller and (most := parts.controller.spec.budgets) != (count := len(parts.budgets)):
            cause = f"the controller chooses among {most} budgets, {count} are there"
            raise ModelError(cause, "run `rng train controller` again")
        self.budgets = parts.budgets
        self.process = ResidualDiffusion(parts.process)
        self.nafnet = replica(folded(parts.nafnet), device, dtype)
        self.generator = parts.generator and replica(folded(parts.generator), device, dtype)
        # In float32 everywhere: it is small, and its roundings must not tip a tile into another budget.
        self.controller = parts.controller and replica(parts.controller, device)
        # Where attention pools over a tile, tiles differ wherever they begin: such bundles keep the grid that they had.
        align = 1 if parts.nafnet.spec.attention else parts.nafnet.spec.multiple
        self.frame = Frame(align=align, sides=SIDES, agreement=parts.process.agreement)
        self.end, self.stochastic = self.process.end, self.process.stochastic
        self.draws_first_noise = parts.process.begins == "fresh"
        self.unit = parts.process.gain * parts.process.sigma_d

    @property
    def holds(self) -> Mapping[str, tuple[int, ...]]:
        return dict.fromkeys(("x", "r", STATE), (3, *self.frame.wide))  # x, r(x), d̃_t

    @classmethod
    def open(cls, bundle: Bundle, name: str, device: torch.device, dtype: torch.dtype, operator: Operator) -> RnG:
        if not isinstance(operator, Identity):
            raise UsageError(f"the method {name} takes noise away, and nothing else", "choose another with --method")
        return cls(rng_of(bundle, name), device, dtype)

    def require(self, request: Request) -> None:
        if not request.generates:
            return
        if self.generator is None or not self.budgets:
            raise ModelError("this model has no generator yet", "use --detail 0, or `rng train generate`")
        if request.budget is not None and not 0 <= request.budget < len(self.budgets):
            raise UsageError(
                f"this model has no budget {request.budget}", f"its budgets are 0 to {len(self.budgets) - 1}"
            )
        if self.controller is None and request.steps is None and request.budget is None:
            raise ModelError("this model has no step controller yet", "give --steps N, or `rng train controller`")

    def start(self, seen: Seen, request: Request) -> tuple[Held, list[Plan]]:
        r = self._reconstruct(seen.pixels, request.noise_scale)
        budgets = self._budgets(self.frame.middle(seen.pixels), self.frame.middle(r), request)
        plans = [budget.plan(self.process.spec.last, self._most(request)) for budget in budgets]
        return {"x": seen.pixels, "r": r}, plans

    def _most(self, request: Request) -> int:
        """Evaluations of the generator: all of a budget's where it was asked for by its number."""
        asked = request.generates and request.budget is not None
        return request.most(self.budgets[request.budget or 0].evaluations if asked else USUAL_STEPS)

    def _reconstruct(self, noisy: Tensor, noise_scale: float) -> Tensor:
        """r(x), taking the noise for `noise_scale` times as strong as it looks: contrast around each place's mean is
        raised by that before the network and lowered after it, so that it removes what it removes of stronger noise.
        """
        if noise_scale == 1:
            return self.nafnet(noisy)
        mean = window_mean(noisy, CONTRAST_RADIUS)
        return mean + (self.nafnet(mean + noise_scale * (noisy - mean)) - mean) / noise_scale

    def _budgets(self, noisy: Tensor, r: Tensor, request: Request) -> list[Budget]:
        if not request.generates:
            return [Budget(1.0, 0)] * len(noisy)
        if request.steps is not None:
            return [replace(self.budgets[-1], evaluations=request.steps)] * len(noisy)
        if request.budget is not None:
            return [self.budgets[request.budget]] * len(noisy)
        assert self.controller is not None
        chosen = self.controller.budget(self.controller.condition(noisy, r))
        return [self.budgets[i] for i in chosen.tolist()]  # the one wait for the device

    def begin(self, held: Held, level: Tensor, noise: Tensor) -> Tensor:
        return self.process.begin(level, first_noise(self.process.spec, noise, held["x"], held["r"]))

    def step(self, held: Held, step: Step) -> Tensor:
        assert self.generator is not None
        condition = self.generator.condition(held["x"], held["r"])
        answer = self.generator(held[STATE], condition, step.now).float()
        return self.process.step(held[STATE], answer, step.now, step.after, step.noise)

    def finish(self, held: Held) -> tuple[Tensor, Tensor]:
        """r(x) and d̃_0: the picture is r + detail·gain·σ_d·d̃_0."""
        return held["r"], held[STATE]

    def start_share(self, level: float) -> float:
        return sigma_of(level) / self.budgets[-1].start
