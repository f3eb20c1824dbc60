"""What stage 3 decides before and after the controller learns: the schedule, the labels, the gain."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from ..data.crops import CAMERA, SOFT, Batches, gaussian
from ..diffusion.residual import ProcessSpec
from ..diffusion.schedule import Budget
from ..methods.rng import rng_of, weights_hash, with_rng
from ..metrics.lpips import LPIPS
from ..models import bundle as checkpoint
from ..models.bundle import Bundle
from ..training import schedule_search as search
from ..training.agreement import with_agreement
from ..training.stages import controller as stage3
from .follower import Follower
from .launch import Frame, by_first

Choice = TypeVar("Choice")
CHECKED = 5  # of the best choices, for tile borders: each takes a minute


@dataclass
class Deciding:
    """A run folder's third stage; on several ranks, all label and rank 0 does the rest."""

    run: Path
    device: str
    tell: Follower
    frame: Frame
    _known: dict[tuple[ProcessSpec, tuple[Budget, ...]], tuple[float, bool]] = field(default_factory=dict)

    @by_first
    def schedule(self, bundle: Bundle, batches: Batches, lpips: LPIPS) -> Bundle:
        """The grid search over schedules, on held-out patches, unless it has been made for these very networks."""
        weights = weights_hash(bundle)
        if bundle.provenance.get("schedule", {}).get("weights") == weights:
            return bundle
        trials = []
        for trial in search.search_schedule(search.Sampler(bundle, batches.device), lpips, self._pairs(batches, 8)):
            trials.append(trial)
            self.tell.say(f"{trial.way}  gain {trial.gain}  LPIPS ×{trial.lpips:.3f}  PSNR {trial.dpsnr:+.2f} dB  "
                          f"helps {trial.share:.0%}")  # fmt: skip
        best, bundle = self._seamless(search.ranked(trials), lambda trial: stage3.as_found(bundle, trial))
        bundle = bundle.with_provenance("schedule", asdict(best) | {"weights": weights})
        checkpoint.save(bundle, self.run / "bundle.safetensors")
        return bundle

    def gain(self, bundle: Bundle, batches: Batches, lpips: LPIPS) -> Bundle:
        """The gain that is best for what the controller chooses, on held-out patches."""
        sampler = search.Sampler(bundle, batches.device)
        found = search.gains_of_choices(sampler, bundle, lpips, self._pairs(batches, 12))
        for gain, (ratio, dpsnr) in found.items():
            self.tell.say(f"gain {gain}  LPIPS ×{ratio:.3f}  PSNR {dpsnr:+.2f} dB")

        def with_gain(gain: float) -> Bundle:
            return with_rng(bundle, process=replace(rng_of(bundle).process, gain=gain))

        _, bundle = self._seamless(search.ranked_gains(found), with_gain)
        facts = {str(gain): {"lpips": round(ratio, 4), "dpsnr": round(db, 3)} for gain, (ratio, db) in found.items()}
        return bundle.with_provenance("gain", facts)

    def _seamless(
        self, best_first: Iterable[Choice], bundle_of: Callable[[Choice], Bundle]
    ) -> tuple[Choice, Bundle]:
        """The first choice whose tiles cannot be told apart, and its bundle; the very first where no such is near."""
        tried = []
        for choice in islice(best_first, CHECKED):
            bundle, seamless = self._with_agreement(bundle_of(choice))
            tried.append((choice, bundle))
            if seamless:
                return tried[-1]
            self.tell.say(f"set aside, since tile borders show: {choice}")
        return tried[0]

    def _with_agreement(self, bundle: Bundle) -> tuple[Bundle, bool]:
        """As in `seams`, which takes a minute, and once for each process: the controller has no part in it."""
        parts = rng_of(bundle)
        asked = replace(parts.process, agreement=1.0), parts.budgets
        if asked not in self._known:
            found, seamless = with_agreement(bundle, self.device)
            self._known[asked] = rng_of(found).process.agreement, seamless
        agreement, seamless = self._known[asked]
        return with_rng(bundle, process=replace(parts.process, agreement=agreement)), seamless

    def _pairs(self, batches: Batches, n: int) -> list[tuple[Tensor, Tensor]]:
        """n held-out patches for each kind of noise that a schedule has to serve."""
        return [batches.held_out(n, noise) for noise in (gaussian(25), gaussian(50), CAMERA, SOFT)]

    def label(self, sampler: search.Sampler, batches: Batches, lpips: LPIPS, patches: int) -> stage3.Labels:
        """At least so many patches labelled, those of before among them."""
        labels = self._labels_so_far(sampler.bundle, patches)
        while len(labels) < patches:
            labels.extend(sampler, lpips, batches, self.frame.ranks)
            if len(labels) % 40 == 0:
                self.tell.say(f"{len(labels)} of {patches} patches labelled")
        return labels

    @by_first
    def _labels_so_far(self, bundle: Bundle, patches: int) -> stage3.Labels:
        (self.run / "controller").mkdir(parents=True, exist_ok=True)
        labels = stage3.Labels(self.run / "controller" / "labels.pt", bundle)
        if len(labels) < patches:  # what was learned from fewer, or from others, is void
            (self.run / "controller" / "state.pt").unlink(missing_ok=True)
        return labels
