"""Which way back from the noise is best: the grid search over schedules, by LPIPS on held-out patches (paper §3.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import Tensor

from ..device import replica
from ..diffusion.residual import ProcessSpec, ResidualDiffusion
from ..diffusion.schedule import Budget
from ..errors import ModelError
from ..methods.rng import USUAL_STEPS, rng_of
from ..metrics.fidelity import psnr
from ..metrics.lpips import LPIPS
from ..models.bundle import Bundle
from .perceptual import PERCEPTUAL_UP_TO
from .sampler import Sampler

Pairs = Sequence[tuple[Tensor, Tensor]]  # batches of (clean, noisy), one for each kind of noise


@dataclass(frozen=True)
class SamplerSetting:
    """From which level to which (σ in units of σ_d), in how many evaluations, how randomly."""

    start: float
    last: float
    evaluations: int
    eta: float = 0.0

    def __str__(self) -> str:
        count = "1 evaluation" if self.evaluations == 1 else f"{self.evaluations} evaluations"
        return f"from σ {self.start:g} to {self.last:g} in {count}" + f", η {self.eta:g}" * bool(self.eta)


@dataclass(frozen=True)
class Trial:
    """One setting with one gain, and how it did where it helps; elsewhere the controller will choose nothing."""

    setting: SamplerSetting
    gain: float
    lpips: float  # LPIPS over that of the reconstruction, mean over the kinds of noise: 0.75 is 25 % lower
    dpsnr: float  # mean change in PSNR [dB]
    share: float  # of the patches that it helps

    def __str__(self) -> str:
        found = f"LPIPS ×{self.lpips:.3f}, PSNR {self.dpsnr:+.2f} dB, helps {self.share:.0%} of the patches"
        return f"{self.setting}, gain {self.gain:g}: {found}"


@dataclass(frozen=True)
class _Known:
    """What does not change from trial to trial, for one kind of noise."""

    clean: Tensor
    noisy: Tensor
    r: Tensor
    truth: list[Tensor]
    lpips: Tensor
    psnr: Tensor

    @classmethod
    def of(cls, clean: Tensor, noisy: Tensor, sampler: Sampler, lpips: LPIPS) -> _Known:
        r = sampler.reconstruct(noisy)
        shown, truth = r.clamp(0, 1), lpips.features(clean)
        return cls(clean, noisy, r, truth, lpips.distance(lpips.features(shown), truth), psnr(shown, clean, 1.0))

    def after(self, d: Tensor, lpips: LPIPS) -> tuple[Tensor, Tensor]:
        """With d added: LPIPS, and the change in PSNR [dB]; (N,) each."""
        y = (self.r + d).clamp(0, 1)
        return lpips.distance(lpips.features(y), self.truth), psnr(y, self.clean, 1.0) - self.psnr


# Higher beginnings (1.2 and 2.2 were tried) gain little. A walk that begins with the picture's own noise pays from low
# levels on.
STARTS = (0.3, 0.45, 0.6, PERCEPTUAL_UP_TO)
LAST = 0.1
GRID = (
    *(SamplerSetting(start, LAST, 1) for start in STARTS),
    *(SamplerSetting(start, LAST, evaluations) for evaluations in (2, 4, 8) for start in (0.45, 0.6, PERCEPTUAL_UP_TO)),
)
ETAS = (0.5, 1.0)
GAINS = (0.7, 1.0, 1.4, 1.8)
MOST_TRIALS = (len(GRID) + len(ETAS)) * len(GAINS)
MOST_DB = 1.0  # what generated detail may cost of PSNR, in the mean
ALIKE = 1.003  # LPIPS within this factor of each other are the same, as far as some dozen patches can tell


def search_schedule(
    sampler: Sampler, lpips: LPIPS, pairs: Pairs, grid: Sequence[SamplerSetting] = GRID
) -> Iterator[Trial]:
    """Every setting of `grid`, then the best one with more randomness where it has several steps; each with every
    gain, which costs no sampling.
    """
    known = [_Known.of(clean, noisy, sampler, lpips) for clean, noisy in pairs]
    trials: list[Trial] = []
    for setting in grid:
        trials += _try(setting, sampler, lpips, known)
        yield from trials[-len(GAINS) :]
    best = best_of(trials).setting
    for eta in ETAS if best.evaluations > 1 else ():  # after a single one, nothing is left to be random
        yield from _try(replace(best, eta=eta), sampler, lpips, known)


def _try(setting: SamplerSetting, sampler: Sampler, lpips: LPIPS, known: Sequence[_Known]) -> list[Trial]:
    plan = Budget(setting.start, setting.evaluations).plan(setting.last, setting.evaluations)
    process = ResidualDiffusion(replace(sampler.process.spec, eta=setting.eta))
    residuals = [sampler.generate(k.noisy, k.r, plan, 0, process) for k in known]
    trials = []
    for gain in GAINS:
        rows = [_score(k, gain * d, lpips) for k, d in zip(known, residuals, strict=True)]
        trials.append(Trial(setting, gain, *(float(torch.stack(column).mean()) for column in zip(*rows, strict=True))))
    return trials


def _score(known: _Known, d: Tensor, lpips: LPIPS) -> tuple[Tensor, Tensor, Tensor]:
    """(LPIPS ratio, changes in PSNR, which patches it helps), as an ideal controller would use it."""
    after, change = known.after(d, lpips)
    helps = after < known.lpips
    change = torch.where(helps, change, 0.0)
    return torch.minimum(after, known.lpips).sum() / known.lpips.sum(), change.mean(), helps.double().mean()


def ranked(trials: Sequence[Trial], most_db: float = MOST_DB) -> Iterator[Trial]:
    """Every trial, the best first."""
    left = list(trials)
    while left:
        yield (best := best_of(left, most_db))
        left.remove(best)


def best_of(trials: Sequence[Trial], most_db: float = MOST_DB) -> Trial:
    """The lowest LPIPS among the trials that cost at most `most_db` of PSNR; the cheapest in PSNR where none does.

    Of those that are as good, the one of the fewest evaluations that starts highest: its ladder holds the others.
    """
    affordable = [trial for trial in trials if trial.dpsnr >= -most_db]
    if not affordable:
        return max(trials, key=lambda t: t.dpsnr)
    lowest = min(trial.lpips for trial in affordable)
    alike = [trial for trial in affordable if trial.lpips <= ALIKE * lowest]
    return min(alike, key=lambda t: (t.setting.evaluations, -t.setting.start, t.lpips))


def with_trial(process: ProcessSpec, best: Trial) -> ProcessSpec:
    """The process as a search's best trial asks for."""
    return replace(process, last=best.setting.last, eta=best.setting.eta, gain=best.gain)


def gains_of_choices(
    sampler: Sampler, bundle: Bundle, lpips: LPIPS, pairs: Iterable[tuple[Tensor, Tensor]]
) -> dict[float, tuple[float, float]]:
    """For each gain, LPIPS over the reconstruction's and the change in PSNR [dB], as the bundle's controller chooses.

    The search's gain is an ideal controller's, who never errs; one that errs should add less.
    """
    parts = rng_of(bundle)
    if parts.controller is None:
        raise ModelError("this model has no step controller yet", "run `rng train controller`")
    spec = sampler.process.spec
    controller = replica(parts.controller, sampler.device)
    gains = sorted({*GAINS, spec.gain})
    rows: dict[float, list[tuple[float, float]]] = {gain: [] for gain in gains}
    for clean, noisy in pairs:
        known = _Known.of(clean, noisy, sampler, lpips)
        chosen = [parts.budgets[i] for i in controller.budget(controller.condition(noisy, known.r)).tolist()]
        plans = [budget.plan(spec.last, USUAL_STEPS) for budget in chosen]
        tiles = zip(noisy.split(1), known.r.split(1), plans, strict=True)
        d = torch.cat([sampler.generate(x, r, plan, 0) if plan else 0 * r for x, r, plan in tiles])
        for gain in gains:
            after, change = known.after(gain * d, lpips)
            rows[gain].append((float(after.sum() / known.lpips.sum()), float(change.mean())))
    return {gain: (fmean(ratio for ratio, _ in found), fmean(db for _, db in found)) for gain, found in rows.items()}


def ranked_gains(found: Mapping[float, tuple[float, float]], most_db: float = MOST_DB) -> list[float]:
    """Every gain: first those of the lowest LPIPS, the smallest of those that are as good; then the others by LPIPS;
    last, those that cost more than `most_db`, the smallest first.
    """
    lowest = min((ratio for ratio, db in found.values() if db >= -most_db), default=0.0)

    def rank(gain: float) -> tuple[int, float]:
        ratio, db = found[gain]
        return (2, gain) if db < -most_db else (0, gain) if ratio <= ALIKE * lowest else (1, ratio)

    return sorted(found, key=rank)
