"""How a model is made (paper §3.3): three stages, one after the other, in one run folder."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..data.crops import Batches
from ..data.training_data import TrainingData
from ..device import find_device
from ..diffusion.residual import ProcessSpec
from ..errors import ModelError, UsageError
from ..methods.diffpir import PRIOR, with_prior
from ..methods.rddm import WALKER, with_walker
from ..methods.rng import NAME, RnGParts, rng_of, weights_hash, with_rng
from ..metrics.lpips import LPIPS
from ..models import bundle as checkpoint
from ..models.bundle import Bundle, kind_of
from ..nets.nafnet import NAFNet, NAFNetSpec, without_attention
from ..nets.unet import UNetSpec
from .host import Host
from .labels import Labels, source_of
from .perceptual import Perceptual
from .sampler import Sampler
from .schedule_choice import ScheduleChoice
from .spec import TrainSpec
from .stage import Stage
from .stages.control import Control, controller_that_sees, ladder
from .stages.generate import ERROR_ALONE, WITH_PERCEPTUAL, Generate
from .stages.prior import Prior
from .stages.rddm import Walk
from .stages.reconstruct import Reconstruct
from .trainer import Trainer

# The networks of each model size: what `--size` chooses from.
SIZES: dict[str, tuple[NAFNetSpec, UNetSpec]] = {
    "xs": (NAFNetSpec(8, (1, 1), 1, (1, 1)), UNetSpec(16, (1, 1), 1, (1, 1), embedding=32)),  # for trying things out
    # the shipped one
    "s": (NAFNetSpec(32, (1, 2, 2, 4), 1, (2, 1, 1, 1), attention=False), UNetSpec(64, (1, 1, 2), 1, (1, 1, 1))),
    "m": (NAFNetSpec(), UNetSpec(96, (2, 2, 4), 2, (2, 2, 2))),  # NAFNet as its authors trained it on SIDD
}


@dataclass
class Recipe:
    """The three stages of one run folder: its `bundle.safetensors`, and a folder with state and log for each stage.

    On several ranks, all train and label, and rank 0 does the rest.
    """

    run: Path
    device: str = "auto"
    size: str = "s"
    seed: int = 0
    origin: str | None = None  # a trained model to begin with
    host: Host = field(default_factory=Host)

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise UsageError(f"unknown size {self.size!r}", f"use one of {', '.join(SIZES)}")
        self.device = self.host.ranks.device_name(self.device)
        self._on = find_device(self.device)

    @property
    def bundle_file(self) -> Path:
        return self.run / "bundle.safetensors"

    def reconstruct(self, data: TrainingData, spec: TrainSpec, loss: str = "l1") -> None:
        """Stage 1. A generator that is there already stays: a little more training leaves nearly the same residuals."""
        origin, batches = self._origin, self._loaded(data)
        torch.manual_seed(self.seed)
        nafnet = _without_attention(rng_of(origin).nafnet, batches) if origin else None
        stage = Reconstruct(nafnet.spec if nafnet else SIZES[self.size][0], batches, loss)
        if nafnet:
            stage.net.load_state_dict(nafnet.state_dict())

        def into_bundle(average: Any) -> Bundle:
            before = checkpoint.load(self.bundle_file) if self.bundle_file.exists() else origin
            return with_rng(before, nafnet=average) if before else RnGParts(average).bundle()

        self._train("reconstruct", stage, spec, batches, into_bundle, {"loss": loss})

    def generate(
        self,
        data: TrainingData,
        spec: TrainSpec,
        network: str | None = None,
        perceptual: float = 0.0,
        lpips: Path | None = None,
    ) -> None:
        """Stage 2: a "fusion" or a "unet", on the residuals of the run's own reconstruction; by default as the origin.

        `perceptual`: the weight of LPIPS, whose files lie in the folder `lpips`.
        """
        origin = self._origin
        trained = rng_of(origin).generator if origin else None
        network = network or (kind_of(trained) if trained else "fusion")
        if network not in ("fusion", "unet"):
            raise UsageError(f"unknown generator {network!r}", "use fusion or unet")
        if trained and network != kind_of(trained):
            raise UsageError(f"the generator of --from {self.origin} is no {network}", "leave out one of the two")
        loss = Perceptual(self._lpips(lpips), perceptual) if perceptual else None
        batches = self._loaded(data)
        before = origin if origin and not self.bundle_file.exists() else checkpoint.load(self.bundle_file)
        torch.manual_seed(self.seed)
        schedule, fullest = WITH_PERCEPTUAL if loss else ERROR_ALONE
        unet = SIZES[self.size][1] if network == "unet" else None
        process = ProcessSpec(schedule=schedule, begins="own" if loss else "fresh")
        stage = Generate(trained or unet, process, rng_of(before).nafnet, batches, loss)

        def into_bundle(average: Any) -> Bundle:
            process = stage.process.spec
            budgets = ladder(fullest.start, fullest.evaluations, process.last)
            made = with_rng(before, generator=average, process=process, controller=None, budgets=budgets)
            # Where nothing was left to learn, the schedule and the controller that stage 3 has found stay.
            return before if weights_hash(made) == weights_hash(before) else made

        self._train("generate", stage, spec, batches, into_bundle, {"perceptual": perceptual})

    def walk(self, data: TrainingData, spec: TrainSpec, perceptual: float = 0.0, lpips: Path | None = None) -> None:
        """Stage 2 of RDDM: a copy of the run's reconstruction learns to walk; one that has walked goes on from there.

        A file holds it as the difference from the reconstruction, and the method `rddm` beside the others.
        """
        origin, batches = self._origin, self._loaded(data)
        loss = Perceptual(self._lpips(lpips), perceptual) if perceptual else None
        before = origin if origin and not self.bundle_file.exists() else checkpoint.load(self.bundle_file)
        stage = Walk(rng_of(before).nafnet, _grown(before, WALKER), batches, loss)

        def into_bundle(average: Any) -> Bundle:
            return with_walker(before, average, before.methods[NAME].networks["reconstruct"])

        self._train("rddm", stage, spec, batches, into_bundle, {"perceptual": perceptual})

    def prior(self, data: TrainingData, spec: TrainSpec) -> None:
        """DiffPIR's denoiser: a copy of the run's reconstruction learns white noise of any strength.

        A file holds it as the difference from the reconstruction, and the method `diffpir` beside the others.
        """
        origin, batches = self._origin, self._loaded(data)
        before = origin if origin and not self.bundle_file.exists() else checkpoint.load(self.bundle_file)

        def into_bundle(average: Any) -> Bundle:
            return with_prior(before, average, before.methods[NAME].networks["reconstruct"])

        self._train("prior", Prior(_grown(before, PRIOR), batches), spec, batches, into_bundle, {})

    def controller(self, data: TrainingData, spec: TrainSpec, sees: str, patches: int, lpips: Path | None) -> None:
        """Stage 3: search the schedule, label `patches` by what each budget does to them, learn to choose it."""
        torch.manual_seed(self.seed)
        net = controller_that_sees(sees)
        judge = self._lpips(lpips)
        batches, before = self._loaded(data), checkpoint.load(self.bundle_file)
        choice = ScheduleChoice(batches, judge, self.device, self.host.listener)
        scheduled = self.host.ranks.on_rank0(lambda: self._scheduled(choice, before))
        source = source_of(batches)
        labels = self.host.ranks.on_rank0(lambda: self.labels_so_far(scheduled, patches, source))
        sampler = Sampler(scheduled, self._on)
        label(labels, patches, sampler, batches, judge, self.host)
        stage = Control(net, labels, batches, sampler, self.host.listener.track)

        def into_bundle(average: Any) -> Bundle:
            return choice.gain(with_rng(scheduled, controller=average))

        self._train("controller", stage, replace(spec, ema=0.99), batches, into_bundle, {"patches": len(labels)})

    def labels_so_far(self, bundle: Bundle, patches: int, source: str) -> Labels:
        """The labels of before; what was learned from fewer than `patches`, or from others, is void and removed."""
        labels = Labels(self.run / "controller" / "labels.pt", bundle, source)
        if len(labels) < patches:
            (self.run / "controller" / "state.pt").unlink(missing_ok=True)
        return labels

    # --- the parts ---------------------------------------------------------------------------------------------

    @cached_property
    def _origin(self) -> Bundle | None:
        return checkpoint.load(self.origin) if self.origin else None

    def _loaded(self, data: TrainingData) -> Batches:
        return data.load(self._on, self.host.listener.track, self.host.listener.say)

    def _lpips(self, weights: Path | None) -> LPIPS:
        return LPIPS.load("squeeze", weights, self._on)

    def _scheduled(self, choice: ScheduleChoice, bundle: Bundle) -> Bundle:
        """The bundle with its schedule, saved before the labels are made with that."""
        found = choice.schedule(bundle)
        if found is not bundle:
            checkpoint.save(found, self.bundle_file)
        return found

    def _train(
        self,
        name: str,
        stage: Stage,
        spec: TrainSpec,
        batches: Batches,
        into_bundle: Callable[[Any], Bundle],
        facts: dict[str, Any],
    ) -> None:
        """Train a stage to its end; its averaged network goes into the run's bundle, with how that came to be."""
        crops = batches.size * spec.accumulate * self.host.ranks.size
        trainer = self.host.trainer(stage, replace(spec, seed=self._seed_of_crops()), self.run / name)
        self.host.train(trainer, crops)
        self.host.ranks.leave()
        if not self.host.ranks.first:
            return  # the network is the same everywhere: rank 0 alone puts it into the bundle
        facts = _facts(trainer, batches, crops) | facts | self._history(name)
        checkpoint.save(into_bundle(trainer.average).with_provenance(name, facts), self.bundle_file)

    def _seed_of_crops(self) -> int:
        """Of crops and noise: what begins with a trained model is not shown again what that has learned from."""
        origin = self._origin
        return self.seed + (int(origin.hash[:8], 16) if origin else 0)

    def _history(self, stage: str) -> dict[str, Any]:
        """What the network had behind it before this run."""
        origin = self._origin
        return {"from": dict(origin.provenance.get(stage, {})) | {"model": origin.hash}} if origin else {}


def label(labels: Labels, count: int, sampler: Sampler, batches: Batches, lpips: LPIPS, host: Host) -> None:
    """Label patches until there are `count`, four at a time on each rank."""
    work = labels.until(count, sampler, lpips, replace(batches, size=4), host.ranks)
    for _ in host.listener.track(work, "labelling", max(0, count - len(labels)), "patches"):
        pass


def _grown(bundle: Bundle, name: str) -> NAFNet:
    """The network of that name, which has grown out of the reconstruction; the reconstruction, where it has not yet."""
    found = bundle.networks.get(name, rng_of(bundle).nafnet)
    if not isinstance(found, NAFNet):
        raise ModelError(f"the network {name!r} of the model is a {kind_of(found)}", "begin with another model")
    return found


def _without_attention(net: NAFNet, batches: Batches) -> NAFNet:
    """A trained network as training goes on with it: what pools over a tile would let neighbouring tiles disagree."""
    _, examples = batches.draw(torch.Generator(batches.device).manual_seed(1))
    return without_attention(net, examples.to(net.ending.weight.device))


def _facts(trainer: Trainer, batches: Batches, crops: int) -> dict[str, Any]:
    """For a bundle's header: how a stage was trained."""
    device = batches.device
    real = {"pairs": len(batches.pairs.train), "pairs_share": batches.pairs_share} if batches.pairs else {}
    noise = {"awgn": batches.noise.gaussian_share, "others": dict(batches.noise.others)}
    return real | {
        "noise": noise,
        "steps": trainer.step,
        "minutes": round(trainer.minutes, 1),
        "batch": crops,
        "crop": batches.photographs.train.crop,
        "pictures": len(batches.photographs.train),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "torch": torch.__version__,
        "commit": _commit(),
        "scores": trainer.scores,
    }


def _commit() -> str:
    """The source's commit, where it is a checkout."""
    root = Path(__file__).parents[2]
    git = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
