"""The trainings of the ablations, by the recipe's own means: each variant once, in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ...data.crops import Batches
from ...device import placed
from ...errors import ModelError, UsageError
from ...methods.rng import RnGParts, StepController, rng_of
from ...metrics.lpips import LPIPS
from ...models.bundle import Bundle
from ...nets.controller import Controller, ControllerSpec
from ...training.host import Host
from ...training.labels import Labels, source_of
from ...training.perceptual import Perceptual
from ...training.recipe import SIZES, label
from ...training.sampler import Sampler
from ...training.spec import TrainSpec
from ...training.stage import Stage
from ...training.stages.control import Control
from ...training.stages.generate import Generate
from ...training.stages.reconstruct import Reconstruct
from ...training.trainer import Trainer
from .joint import Grey, Joint
from .rows import CONTROLLER_SHARE, PERCEPTUAL, PERCEPTUAL_WEIGHT, PROCESS, RECONSTRUCT, SHARES, Variant


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

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise UsageError(f"unknown size {self.size!r}", f"use one of {', '.join(SIZES)}")
        if self.steps or self.minutes is not None:
            self.training(SHARES)  # refuses what is no number of minutes

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


@dataclass
class Trainings:
    """Every training of one run folder; what is done is only loaded."""

    run: Path
    batches: Batches
    effort: Effort
    lpips: LPIPS | None
    host: Host
    _known: dict[Variant, Trained] = field(default_factory=dict)

    def of(self, variant: Variant) -> Trained:
        """The variant's networks, trained to the end of their share."""
        if variant not in self._known:
            before = self.of(RECONSTRUCT) if variant.strategy == "generate" else None
            torch.manual_seed(self.effort.seed)
            stage, bundle_of = self._stage(variant, before)
            trainer = self._train(stage, self.effort.training(variant.shares), variant.name)
            steps = (*(before.steps if before else ()), trainer.step)
            minutes = trainer.minutes + (before.minutes if before else 0)
            self._known[variant] = Trained(bundle_of(trainer.average), steps, minutes)
        return self._known[variant]

    def controller(self, bundle: Bundle) -> StepController:
        """Stage 3 on top of `bundle`: labels by LPIPS, then the paper's classifier (§3.2)."""
        labels = Labels(self.run / "controller" / "labels.pt", bundle, source_of(self.batches))
        sampler = Sampler(bundle, self.batches.device)
        label(labels, self.effort.labels, sampler, self.batches, self._needed_lpips, self.host)
        torch.manual_seed(self.effort.seed)
        spec = replace(self.effort.training(CONTROLLER_SHARE), ema=0.99, compile=False)
        stage = Control(Controller(ControllerSpec()), labels, self.batches, sampler, self.host.listener.track)
        average: Any = self._train(stage, spec, "controller").average
        return placed(average, self.batches.device)

    def _stage(self, variant: Variant, before: Trained | None) -> tuple[Stage, Callable[[Any], Bundle]]:
        """The stage, and how its averaged network becomes a bundle."""
        nafnet, unet = SIZES[self.effort.size]
        schedule = PERCEPTUAL if variant.perceptual else PROCESS.schedule
        process = replace(PROCESS, prediction=variant.prediction, schedule=schedule)
        if variant.strategy == "reconstruct":
            return Reconstruct(nafnet, self.batches), lambda net: RnGParts(net).bundle()
        fusion = variant.condition == "fusion"
        unet = unet if fusion else replace(unet, condition=variant.condition)
        if variant.strategy in ("joint", "supervised"):
            joint = Joint((nafnet, unet), process, self.batches, variant.strategy == "supervised")
            return joint, joint.bundle
        base: Any = rng_of(before.bundle).nafnet if before else Grey()
        perceptual = Perceptual(self._needed_lpips, PERCEPTUAL_WEIGHT) if variant.perceptual else None
        stage = Generate(None if fusion else unet, process, base, self.batches, perceptual)
        return stage, lambda net: RnGParts(base, net, process=stage.process.spec).bundle()

    @property
    def _needed_lpips(self) -> LPIPS:
        if self.lpips is None:
            raise ModelError("LPIPS is learned here, and its weights are absent", "name them with --lpips-weights")
        return self.lpips

    def _train(self, stage: Stage, spec: TrainSpec, name: str) -> Trainer:
        trainer = self.host.trainer(stage, spec, self.run / name)
        if spec.progress(trainer.step, trainer.minutes) < 1:
            self.host.listener.say(f"training {name}")
            self.host.train(trainer, self.batches.size)
        return trainer
