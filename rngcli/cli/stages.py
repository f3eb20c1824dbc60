"""What `rng train` does once it is parsed: load the pictures, run a stage, put its network into the run's bundle."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..data.crops import Batches, Photographs
from ..data.degrade import DegradeSpec
from ..device import find_device
from ..diffusion.residual import ProcessSpec
from ..errors import Interrupted, UsageError
from ..methods.rng import RnGParts, rng_of, with_rng
from ..metrics.lpips import LPIPS
from ..models import bundle as checkpoint
from ..models.bundle import Bundle, kind_of
from ..nets.nafnet import NAFNet, without_attention
from ..training import schedule_search as search
from ..training.perceptual import Perceptual
from ..training.stage import Task
from ..training.stages import controller as stage3
from ..training.stages.generate import ERROR_ALONE, SIZES, WITH_LOOKS, Generate, Reconstruct
from ..training.trainer import Trainer, TrainSpec
from .deciding import Deciding
from .follower import Follower
from .launch import Frame, PartDone
from .sources import photographs_of, real_pairs_of


@dataclass
class Session:
    """One run folder: `bundle.safetensors`, and a folder with state and log for each stage.

    On several ranks, all train and rank 0 does the rest.
    """

    data: Path | None
    run: Path
    device: str
    size: str
    seed: int
    compile: bool
    accumulate: int = 1
    pairs: tuple[Path, Path] | None = None
    pairs_share: float = 0.5
    origin: str | None = None  # a trained model to begin with
    quiet: bool = False
    frame: Frame = field(default_factory=Frame)

    def __post_init__(self) -> None:
        self.device = self.frame.ranks.device_name(self.device)
        self.tell = Follower(self.quiet or not self.frame.ranks.first)

    @property
    def bundle_file(self) -> Path:
        return self.run / "bundle.safetensors"

    def reconstruct(self, spec: TrainSpec, batch: int, crop: int, loss: str) -> None:
        batches, origin = self._batches(crop, batch), self._origin
        torch.manual_seed(self.seed)
        nafnet = _without_attention(rng_of(origin).nafnet, batches) if origin else None
        task = Reconstruct(nafnet.spec if nafnet else self._specs()[0], batches, loss)
        if nafnet:
            task.net.load_state_dict(nafnet.state_dict())
        trainer = self._train("reconstruct", task, spec, batches)
        # A generator that is there already stays: a little more of stage 1 leaves nearly the same residuals.
        average: NAFNet = trainer.average  # type: ignore[assignment]
        bundle = checkpoint.load(self.bundle_file) if self.bundle_file.exists() else origin
        bundle = with_rng(bundle, nafnet=average) if bundle else RnGParts(average).bundle()
        facts = self._facts(trainer, batches) | {"loss": loss} | _history(origin, "reconstruct")
        checkpoint.save(bundle.with_provenance("reconstruct", facts), self.bundle_file)

    def generate(
        self, spec: TrainSpec, batch: int, crop: int, network: str, perceptual: float, lpips_weights: Path | None
    ) -> None:
        origin = self._origin
        if network not in ("fusion", "unet"):
            raise UsageError(f"unknown generator {network!r}", "use fusion or unet")
        trained = rng_of(origin).generator if origin else None
        if trained and network != kind_of(trained):
            raise UsageError(f"the generator of --from {self.origin} is no {network}", "leave out one of the two")
        looks = Perceptual(self._lpips(lpips_weights), perceptual) if perceptual else None
        batches = self._batches(crop, batch)
        bundle = origin if origin and not self.bundle_file.exists() else checkpoint.load(self.bundle_file)
        torch.manual_seed(self.seed)
        schedule, fullest = WITH_LOOKS if looks else ERROR_ALONE
        unet = self._specs()[1] if network == "unet" else None
        task = Generate(trained or unet, ProcessSpec(schedule=schedule), rng_of(bundle).nafnet, batches, looks)
        trainer = self._train("generate", task, spec, batches)
        process = task.process.spec
        budgets = stage3.ladder(fullest.start, fullest.evaluations, process.last)
        bundle = with_rng(bundle, generator=trainer.average, process=process, controller=None, budgets=budgets)
        facts = self._facts(trainer, batches) | {"perceptual": perceptual} | _history(origin, "generate")
        checkpoint.save(bundle.with_provenance("generate", facts), self.bundle_file)

    def controller(self, spec: TrainSpec, batch: int, sees: str, patches: int, lpips_weights: Path | None) -> None:
        torch.manual_seed(self.seed)
        net = stage3.controller_that_sees(sees)
        lpips = self._lpips(lpips_weights)
        batches, bundle = self._batches(stage3.PATCH, batch), checkpoint.load(self.bundle_file)
        deciding = Deciding(self.run, self.device, self.tell, self.frame)
        bundle = deciding.schedule(bundle, batches, lpips)
        sampler = search.Sampler(bundle, batches.device)
        labels = deciding.label(sampler, replace(batches, size=4), lpips, patches)
        self.tell.say(f"looking at {len(labels)} patches as the controller does")
        task = stage3.Control(net, labels, batches, sampler)
        trainer = self._train("controller", task, replace(spec, ema=0.99), batches)
        facts = self._facts(trainer, batches) | {"patches": len(labels)}
        bundle = deciding.gain(with_rng(bundle, controller=trainer.average), batches, lpips)
        checkpoint.save(bundle.with_provenance("controller", facts), self.bundle_file)

    # --- the parts ---------------------------------------------------------------------------------------------

    def _specs(self) -> tuple[Any, Any]:
        if self.size not in SIZES:
            raise UsageError(f"unknown size {self.size!r}", f"use one of {', '.join(SIZES)}")
        return SIZES[self.size]

    def _lpips(self, weights: Path | None) -> LPIPS:
        return LPIPS.load("squeeze", weights, find_device(self.device))

    @cached_property
    def _origin(self) -> Bundle | None:
        return checkpoint.load(self.origin) if self.origin else None

    def _batches(self, crop: int, size: int) -> Batches:
        device = find_device(self.device)
        pairs = self._told("pairs", real_pairs_of(*self.pairs, crop, device)) if self.pairs else None
        if self.data:
            photographs = self._told("pictures", photographs_of(self.data, crop, device))
            share = self.pairs_share
        elif pairs:
            photographs, share = pairs.clean, 1.0
        else:
            raise UsageError("there is nothing to learn from", "give --data DIR, or --pairs NOISY CLEAN")
        batches = Batches(photographs, size, DegradeSpec(), pairs, share)
        if pairs and 0 < share < 1 and batches.real in (0, size):
            raise UsageError(f"--pairs-share {share:g} of {size} crops is {batches.real}", "give a larger --batch")
        return batches

    def _told(self, what: str, loaded: Photographs) -> Photographs:
        self.tell.say(f"{len(loaded.train)} {what}, {loaded.train.megapixels:.0f} Mpx; {len(loaded.held_out)} held out")
        return loaded

    def _train(self, stage: str, task: Task, spec: TrainSpec, batches: Batches) -> Trainer:
        spec = replace(spec, seed=self._seed_of_crops(), compile=self.compile, accumulate=self.accumulate)
        trainer = Trainer(task, spec, self.run / stage, self.frame.ranks, self.frame.interruption)
        trainer.tell = self.tell.say
        if trainer.resume():
            self.tell.say(f"going on from step {trainer.step}, {trainer.minutes:.1f} minutes")
        try:
            self.tell.follow(trainer, self._crops(batches))
        except KeyboardInterrupt:
            after = f"interrupted after step {trainer.step}"
            raise Interrupted(after, "what is learned is saved; the same command goes on from there") from None
        self.frame.ranks.leave()
        if not self.frame.ranks.first:
            raise PartDone  # the network is the same everywhere: rank 0 alone puts it into the bundle
        return trainer

    def _seed_of_crops(self) -> int:
        """Of crops and noise: what begins with a trained model is not shown again what that has learned from."""
        origin = self._origin
        return self.seed + (int(origin.hash[:8], 16) if origin else 0)

    def _facts(self, trainer: Trainer, batches: Batches) -> dict[str, Any]:
        device = batches.device
        real = {"pairs": len(batches.pairs.train), "pairs_share": batches.pairs_share} if batches.pairs else {}
        return real | {
            "steps": trainer.step,
            "minutes": round(trainer.minutes, 1),
            "batch": self._crops(batches),
            "crop": batches.photographs.train.crop,
            "pictures": len(batches.photographs.train),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
            "torch": torch.__version__,
            "commit": _commit(),
            "scores": trainer.scores,
        }

    def _crops(self, batches: Batches) -> int:
        """Of one optimiser step, on all ranks together."""
        return batches.size * self.accumulate * self.frame.ranks.size


def _without_attention(net: NAFNet, batches: Batches) -> NAFNet:
    """A trained network as training goes on with it: what pools over a tile would let neighbouring tiles disagree."""
    _, examples = batches.draw(torch.Generator(batches.device).manual_seed(1))
    return without_attention(net, examples.to(net.ending.weight.device))


def _history(origin: Bundle | None, stage: str) -> dict[str, Any]:
    """What the network had behind it before this run."""
    return {"from": dict(origin.provenance.get(stage, {})) | {"model": origin.hash}} if origin else {}


def _commit() -> str:
    """The source's commit, where it is a checkout."""
    root = Path(__file__).parents[2]
    git = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
