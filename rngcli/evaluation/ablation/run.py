"""Train each variant once, measure each row once, and remember both in the run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...data.crops import Batches, gaussian
from ...device import placed
from ...diffusion.residual import ResidualDiffusion
from ...diffusion.schedule import linear_plan
from ...errors import ModelError, UsageError
from ...methods.rng import RnGParts, rng_of, with_rng
from ...metrics.lpips import LPIPS
from ...models.bundle import Bundle, file_hash
from ...nets.controller import Controller, ControllerSpec
from ...training.perceptual import Perceptual
from ...training.schedule_search import Sampler
from ...training.stages.controller import Control, Labels, ladder
from ...training.stages.generate import SIZES, Generate, Reconstruct
from ...training.trainer import Task, Trainer, TrainSpec
from .joint import Grey, Joint
from .ledger import Ledger, Result
from .measuring import Case, LiteralStart, score
from .rows import (
    CONTROLLER_SHARE,
    FULL,
    LOOKS,
    LOOKS_WEIGHT,
    PARTS,
    PROCESS,
    RECONSTRUCT,
    SHARES,
    Linear,
    Part,
    Row,
    Variant,
)

LINEAR_STEPS = 100
SIGMAS = (25, 50)


@dataclass(frozen=True)
class Effort:
    """How much is trained, by steps a stage or by minutes in all, and on how many patches it is measured."""

    steps: int | None = None
    minutes: float | None = None
    size: str = "xs"
    seed: int = 0
    patches: int = 32
    labels: int = 200  # patches that the controller learns from
    compile: bool = False

    def training(self, shares: float) -> TrainSpec:
        """The spec of a training that has so many shares of the minutes."""
        minutes = None if self.steps or self.minutes is None else self.minutes * shares / SHARES
        return TrainSpec(self.steps, minutes, seed=self.seed, compile=self.compile)


@dataclass(frozen=True)
class Trained:
    """A variant's networks, the optimiser steps of its stages, and the minutes of them all."""

    bundle: Bundle
    steps: tuple[int, ...] = ()
    minutes: float = 0.0


class Ablation:
    """The rows of the tables in one run folder; `model` takes the place of the two-stage training for the starts."""

    def __init__(self, run: Path, batches: Batches, effort: Effort, lpips: LPIPS | None, model: Bundle | None = None):
        if effort.size not in SIZES:
            raise UsageError(f"unknown size {effort.size!r}", f"use one of {', '.join(SIZES)}")
        self.run, self.batches, self.effort, self.lpips, self.model = run, batches, effort, lpips, model
        self.tell: Callable[[str], None] = lambda line: None
        run.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(run / "ablation.json", self.settings)
        self.known: dict[Variant, Trained] = {}

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What every training of a run folder shares."""
        pool, effort = self.batches.photographs.train, asdict(self.effort)
        del effort["patches"], effort["compile"]  # what is learned does not depend on them
        return {**effort, "batch": self.batches.size, "crop": pool.crop, "pictures": len(pool), "Mpx": pool.megapixels}

    @cached_property
    def cases(self) -> list[Case]:
        return [Case(s, *self.batches.held_out(self.effort.patches, gaussian(s))) for s in SIGMAS]

    def results(self, keys: Sequence[str]) -> Iterator[tuple[Part, dict[str, Result]]]:
        """Each part that `keys` name, with its rows' results by their labels."""
        for part in (part for part in PARTS if part.key in keys):
            if part.needs_lpips and self.lpips is None:
                self.tell(f"{part.key}: left out, since it needs LPIPS's weights")
                continue
            yield part, {row.label: self.result(row) for row in part.rows}

    def result(self, row: Row) -> Result:
        """Measured now, unless these very networks have been measured in the same way before."""
        own = self.model if isinstance(row.walk, Linear) else None
        key = f"{own.hash} {row.walk}" if own else row.key
        known = self.ledger.results.get(key)
        if known and known.made_by == self._made_by(() if own else row.variant.stages):
            return known
        trained = Trained(own) if own else self.train(row.variant)
        sampler = Sampler(trained.bundle, self.batches.device)
        generate, evaluations = self._way(row, sampler)
        found = score(sampler, generate, self.cases, self.lpips)
        made_by = self._made_by(() if own else row.variant.stages)
        self.ledger.put(key, Result(found, evaluations, trained.steps, trained.minutes, made_by))
        self.tell(f"{row.label}: PSNR " + " / ".join(f"{sum(v) / len(v):.2f}" for v in found.psnr.values()))
        return self.ledger.results[key]

    def _made_by(self, stages: tuple[str, ...]) -> str:
        """How a result is had: the states of these trainings, the patches, the metric."""
        states = [self.run / stage / "state.pt" for stage in stages]
        hashes = [file_hash(state)[:16] for state in states if state.exists()]
        return " ".join([*hashes, str(self.effort.patches), self.lpips.backbone if self.lpips else "-"])

    # --- training ----------------------------------------------------------------------------------------------

    def train(self, variant: Variant) -> Trained:
        """The variant's networks, trained to the end of their share; what is done is only loaded."""
        if variant not in self.known:
            before = self.train(RECONSTRUCT) if variant.strategy == "generate" else None
            torch.manual_seed(self.effort.seed)
            task, bundle_of = self._task(variant, before)
            trainer = self._trained(task, self.effort.training(variant.shares), variant.name)
            steps = (*(before.steps if before else ()), trainer.step)
            minutes = trainer.minutes + (before.minutes if before else 0)
            self.known[variant] = Trained(bundle_of(trainer.average), steps, minutes)
        return self.known[variant]

    def _task(self, variant: Variant, before: Trained | None) -> tuple[Task, Callable[[Any], Bundle]]:
        """The task, and how its averaged network becomes a bundle."""
        nafnet, unet = SIZES[self.effort.size]
        schedule = LOOKS if variant.looks else PROCESS.schedule
        process = replace(PROCESS, prediction=variant.prediction, schedule=schedule)
        if variant.strategy == "reconstruct":
            return Reconstruct(nafnet, self.batches), lambda net: RnGParts(net).bundle()
        fusion = variant.condition == "fusion"
        unet = unet if fusion else replace(unet, condition=variant.condition)
        if variant.strategy in ("joint", "supervised"):
            joint = Joint((nafnet, unet), process, self.batches, variant.strategy == "supervised")
            return joint, joint.bundle
        base: Any = rng_of(before.bundle).nafnet if before else Grey()
        task = Generate(None if fusion else unet, process, base, self.batches, self._looks(variant))
        return task, lambda net: RnGParts(base, net, process=task.process.spec).bundle()

    def _looks(self, variant: Variant) -> Perceptual | None:
        return Perceptual(self._needed_lpips, LOOKS_WEIGHT) if variant.looks else None

    @property
    def _needed_lpips(self) -> LPIPS:
        if self.lpips is None:
            raise ModelError("LPIPS is learned here, and its weights are absent", "name them with --lpips-weights")
        return self.lpips

    def _trained(self, task: Task, spec: TrainSpec, name: str) -> Trainer:
        trainer = Trainer(task, spec, self.run / name)
        trainer.tell = self.tell
        trainer.resume()
        if spec.progress(trainer.step, trainer.minutes) < 1:
            for progress in trainer.run():
                scores = "  ".join(f"{key} {value:.4g}" for key, value in progress.scores.items())
                self.tell(f"{name}: step {progress.step}  {progress.minutes:.1f} min  {scores}")
        return trainer

    # --- ways back from the noise ------------------------------------------------------------------------------

    def _way(self, row: Row, sampler: Sampler) -> tuple[Callable[[Case, Tensor], Tensor], float]:
        """How a row generates its residuals, and the evaluations that a patch takes."""
        spec = sampler.process.spec
        if row.walk is None:
            return lambda case, r: torch.zeros_like(r), 0.0
        if isinstance(row.walk, str):
            return self._by_controller(row, sampler)
        process = sampler.process
        if isinstance(row.walk, Linear):
            process = (LiteralStart if row.walk.literal else ResidualDiffusion)(replace(spec, eta=0.0))
            plan = linear_plan(spec.schedule, LINEAR_STEPS, row.walk.budget)
        else:
            plan = row.walk.plan(spec.last, row.walk.evaluations)
        return lambda case, r: spec.gain * sampler.generate(case.noisy, r, plan, 0, process), float(len(plan))

    def _by_controller(self, row: Row, sampler: Sampler) -> tuple[Callable[[Case, Tensor], Tensor], float]:
        """Each patch by its own budget; or all by the one whose evaluations are nearest to those in the mean."""
        spec = sampler.process.spec
        budgets = ladder(FULL.start, FULL.evaluations, spec.last)
        controller = self._controller(with_rng(sampler.bundle, budgets=budgets))
        seen = {case.sigma: controller.condition(case.noisy, sampler.reconstruct(case.noisy)) for case in self.cases}
        chosen = {sigma: controller.budget(tiles).tolist() for sigma, tiles in seen.items()}
        spent = [budgets[k].evaluations for case in self.cases for k in chosen[case.sigma]]
        mean = sum(spent) / len(spent)
        if row.walk == "fixed":
            only = min(range(len(budgets)), key=lambda k: abs(budgets[k].evaluations - mean))
            chosen, mean = {sigma: [only] * len(ks) for sigma, ks in chosen.items()}, float(budgets[only].evaluations)

        def generate(case: Case, r: Tensor) -> Tensor:
            d = torch.zeros_like(r)
            for k in set(chosen[case.sigma]):
                plan = budgets[k].plan(spec.last, budgets[k].evaluations)
                rows = torch.tensor([other == k for other in chosen[case.sigma]], device=r.device)
                d[rows] = spec.gain * sampler.generate(case.noisy, r, plan, 0)[rows]
            return d

        return generate, mean

    def _controller(self, bundle: Bundle) -> Controller:
        """Stage 3 on top of `bundle`: labels by LPIPS, then the classifier (paper §3.2)."""
        folder = self.run / "controller"
        folder.mkdir(exist_ok=True)
        labels = Labels(folder / "labels.pt", bundle)
        sampler, few = Sampler(bundle, self.batches.device), replace(self.batches, size=4)
        while len(labels) < self.effort.labels:
            labels.extend(sampler, self._needed_lpips, few)
        torch.manual_seed(self.effort.seed)
        spec = replace(self.effort.training(CONTROLLER_SHARE), ema=0.99, compile=False)
        task = Control(Controller(ControllerSpec()), labels, self.batches, sampler)
        trainer = self._trained(task, spec, "controller")
        average: nn.Module = trainer.average
        return placed(average, self.batches.device)  # type: ignore[return-value]
