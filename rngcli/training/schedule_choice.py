"""What stage 3 decides before and after the controller learns: the schedule and the gain, with no tile border seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import TypeVar

from torch import Tensor

from ..data.crops import CAMERA, SOFT, Batches, gaussian
from ..diffusion.residual import ProcessSpec
from ..diffusion.schedule import Budget
from ..methods.rng import rng_of, weights_hash, with_rng
from ..metrics.lpips import LPIPS
from ..models.bundle import Bundle
from .agreement import with_agreement
from .host import Listener
from .sampler import Sampler
from .schedule_search import MOST_TRIALS, Pairs, gains_of_choices, ranked, ranked_gains, search_schedule
from .stages.control import as_found

Choice = TypeVar("Choice")
CHECKED = 5  # of the best choices, for tile borders: each takes a minute


@dataclass
class ScheduleChoice:
    """Chooses on held-out patches by LPIPS, and sets aside what shows tile borders; `batches` has patches of PATCH."""

    batches: Batches
    lpips: LPIPS
    device: str
    listener: Listener
    _known: dict[tuple[ProcessSpec, tuple[Budget, ...]], tuple[float, bool]] = field(default_factory=dict)

    def schedule(self, bundle: Bundle) -> Bundle:
        """The grid search over schedules, unless it has been made for these very networks."""
        weights = weights_hash(bundle)
        if bundle.provenance.get("schedule", {}).get("weights") == weights:
            return bundle
        search = search_schedule(Sampler(bundle, self.batches.device), self.lpips, self._pairs(8))
        trials = []
        for trial in self.listener.track(search, "searching the schedule", MOST_TRIALS, "trials"):
            trials.append(trial)
            self.listener.say(str(trial))
        best, bundle = self.seamless(ranked(trials), lambda trial: as_found(bundle, trial))
        return bundle.with_provenance("schedule", asdict(best) | {"weights": weights})

    def gain(self, bundle: Bundle) -> Bundle:
        """The gain that is best for what the controller chooses."""
        pairs = self._pairs(12)
        told = self.listener.track(pairs, "trying gains as the controller chooses, for", len(pairs), "kinds of noise")
        found = gains_of_choices(Sampler(bundle, self.batches.device), bundle, self.lpips, told)
        for gain, (ratio, dpsnr) in found.items():
            self.listener.say(f"with the controller, gain {gain:g}: LPIPS ×{ratio:.3f}, PSNR {dpsnr:+.2f} dB")

        def with_gain(gain: float) -> Bundle:
            return with_rng(bundle, process=replace(rng_of(bundle).process, gain=gain))

        _, bundle = self.seamless(ranked_gains(found), with_gain)
        facts = {str(gain): {"lpips": round(ratio, 4), "dpsnr": round(db, 3)} for gain, (ratio, db) in found.items()}
        return bundle.with_provenance("gain", facts)

    def seamless(self, best_first: Iterable[Choice], bundle_of: Callable[[Choice], Bundle]) -> tuple[Choice, Bundle]:
        """The first choice whose tiles cannot be told apart, and its bundle; the very first where no such is near."""
        tried = []
        for choice in islice(best_first, CHECKED):
            bundle, seamless = self._with_agreement(bundle_of(choice))
            tried.append((choice, bundle))
            if seamless:
                return tried[-1]
            words = f"gain {choice:g}" if isinstance(choice, float) else str(choice)
            self.listener.say(f"set aside, since tile borders show: {words}")
        return tried[0]

    def _with_agreement(self, bundle: Bundle) -> tuple[Bundle, bool]:
        """As in `agreement`, which takes a minute, and once for each process: the controller has no part in it."""
        parts = rng_of(bundle)
        asked = replace(parts.process, agreement=1.0), parts.budgets
        if asked not in self._known:
            self.listener.say("looking for tile borders, which takes a minute or so")
            found, seamless = with_agreement(bundle, self.device)
            self._known[asked] = rng_of(found).process.agreement, seamless
        agreement, seamless = self._known[asked]
        return with_rng(bundle, process=replace(parts.process, agreement=agreement)), seamless

    def _pairs(self, n: int) -> Pairs:
        """n held-out patches for each kind of noise that a schedule has to serve."""
        kinds = (gaussian(25), gaussian(50), CAMERA, SOFT)
        pairs: list[tuple[Tensor, Tensor]] = [self.batches.held_out(n, noise) for noise in kinds]
        return pairs
