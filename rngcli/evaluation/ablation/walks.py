"""How a row of the tables comes back from the noise: by one plan for all patches, or by the controller's choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...diffusion.residual import ResidualDiffusion
from ...diffusion.schedule import Budget, linear_plan
from ...methods.rng import StepController, rng_of
from ...training.sampler import Sampler
from .patch_scores import LiteralStart, PatchSet
from .rows import Linear

LINEAR_STEPS = 100

Residuals = Callable[[PatchSet, Tensor], Tensor]  # patches and their r(x) -> what is added to r(x)


def without(patches: PatchSet, r: Tensor) -> Tensor:
    """Nothing: the reconstruction alone."""
    return torch.zeros_like(r)


def by_one_plan(sampler: Sampler, walk: Budget | Linear) -> tuple[Residuals, float]:
    """The residuals of `walk`, and its evaluations."""
    spec, process = sampler.process.spec, sampler.process
    if isinstance(walk, Linear):
        process = (LiteralStart if walk.literal else ResidualDiffusion)(replace(spec, eta=0.0))
        plan = linear_plan(spec.schedule, LINEAR_STEPS, walk.budget)
    else:
        plan = walk.plan(spec.last, walk.evaluations)
    return lambda patches, r: spec.gain * sampler.generate(patches.noisy, r, plan, 0, process), float(len(plan))


def by_controller(
    sampler: Sampler, controller: StepController, sets: Sequence[PatchSet], fixed: bool
) -> tuple[Residuals, float]:
    """Each patch by its own budget; `fixed`: all by the one whose evaluations are nearest to those in the mean."""
    spec, budgets = sampler.process.spec, rng_of(sampler.bundle).budgets
    seen = {patches.sigma: controller.condition(patches.noisy, sampler.reconstruct(patches.noisy)) for patches in sets}
    chosen = {sigma: controller.budget(tiles).tolist() for sigma, tiles in seen.items()}
    spent = [budgets[k].evaluations for patches in sets for k in chosen[patches.sigma]]
    mean = sum(spent) / len(spent)
    if fixed:
        only = min(range(len(budgets)), key=lambda k: abs(budgets[k].evaluations - mean))
        chosen, mean = {sigma: [only] * len(ks) for sigma, ks in chosen.items()}, float(budgets[only].evaluations)

    def generate(patches: PatchSet, r: Tensor) -> Tensor:
        d = torch.zeros_like(r)
        for k in set(chosen[patches.sigma]):
            plan = budgets[k].plan(spec.last, budgets[k].evaluations)
            rows = torch.tensor([other == k for other in chosen[patches.sigma]], device=r.device)
            d[rows] = spec.gain * sampler.generate(patches.noisy, r, plan, 0)[rows]
        return d

    return generate, mean
