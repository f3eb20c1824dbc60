"""Which way back from the noise is best: the grid search over schedules, by LPIPS on held-out patches (paper §3.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import fmean

import torch
from torch import Tensor

from ..device import channels_last, find_precision, replica
from ..diffusion.residual import ProcessSpec, ResidualDiffusion, sample
from ..diffusion.schedule import Budget
from ..errors import ModelError
from ..methods.rng import rng_of
from ..metrics.fidelity import psnr
from ..metrics.lpips import LPIPS
from ..models.bundle import Bundle
from .perceptual import LOOKS_UP_TO

Pairs = Sequence[tuple[Tensor, Tensor]]  # batches of (clean, noisy), one for each kind of noise


class Sampler:
    """A bundle's networks on a device, for whole batches of patches that share one plan."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle, self.device = bundle, device
        dtype, parts = find_precision(device), rng_of(bundle)
        self.nafnet = replica(parts.nafnet, device, dtype)
        self.generator = parts.generator and replica(parts.generator, device, dtype)
        self.process = ResidualDiffusion(parts.process)

    @torch.inference_mode()
    def reconstruct(self, noisy: Tensor) -> Tensor:
        """r(x), float32."""
        return self.nafnet(noisy)

    @torch.inference_mode()
    def generate(
        self, noisy: Tensor, r: Tensor, plan: Sequence[float], seed: int, process: ResidualDiffusion | None = None
    ) -> Tensor:
        """The generated residual σ_d·d̃_0, without the gain, by `process` or the bundle's own.

        The noise is the same for every plan and every network. Raises ModelError where there is no generator.
        """
        generator, process = self.generator, process or self.process
        if generator is None:
            raise ModelError("this model has no generator yet", "run `rng train generate` first")
        condition = generator.condition(noisy, r)
        rng = torch.Generator(self.device).manual_seed(seed)

        def predict(d_t: Tensor, gamma: Tensor) -> Tensor:
            return generator(d_t, condition, gamma).float()

        def draw() -> Tensor:
            return channels_last(torch.randn(r.shape, generator=rng, device=self.device))

        return process.spec.sigma_d * sample(process, predict, plan, draw)


@dataclass(frozen=True)
class Way:
    """From which level to which, in how many evaluations, how randomly."""

    start: float
    last: float
    evaluations: int
    eta: float = 0.0


@dataclass(frozen=True)
class Trial:
    """One way with one gain, and how it did where it helps; elsewhere the controller will choose nothing."""

    way: Way
    gain: float
    lpips: float  # LPIPS over that of the reconstruction, mean over the kinds of noise: 0.75 is 25 % lower
    dpsnr: float  # mean change in PSNR [dB]
    share: float  # of the patches that it helps


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
        r = sampler.reconstruct(noisy).clamp(0, 1)
        truth = lpips.features(clean)
        return cls(clean, noisy, r, truth, lpips.distance(lpips.features(r), truth), psnr(r, clean, 1.0))

    def after(self, d: Tensor, lpips: LPIPS) -> tuple[Tensor, Tensor]:
        """With d added: LPIPS, and the change in PSNR [dB]; (N,) each."""
        y = (self.r + d).clamp(0, 1)
        return lpips.distance(lpips.features(y), self.truth), psnr(y, self.clean, 1.0) - self.psnr


# Higher beginnings (1.2 and 2.2 were tried) gain little, and show tile borders. So do lower ones (0.3: 0.96 of the
# gradient elsewhere): where there is little noise to make texture of, it hangs on r(x), and tiles agree less on that.
STARTS = (0.6, 0.76, LOOKS_UP_TO)
GRID = (
    *(Way(start, 0.3, 1) for start in STARTS),
    *(Way(*way) for way in product((0.6, LOOKS_UP_TO), (0.15, 0.3), (2, 4))),
)
ETAS = (0.5, 1.0)
GAINS = (0.7, 1.0, 1.4, 1.8)
MOST_DB = 1.0  # what generated detail may cost of PSNR, in the mean
ALIKE = 1.003  # LPIPS within this factor of each other are the same, as far as some dozen patches can tell


def search_schedule(sampler: Sampler, lpips: LPIPS, pairs: Pairs, grid: Sequence[Way] = GRID) -> Iterator[Trial]:
    """Every way of `grid`, then the best one with more randomness where it has several steps; each with every gain,
    which costs no sampling.
    """
    known = [_Known.of(clean, noisy, sampler, lpips) for clean, noisy in pairs]
    trials: list[Trial] = []
    for way in grid:
        trials += _try(way, sampler, lpips, known)
        yield from trials[-len(GAINS) :]
    best = best_of(trials).way
    for eta in ETAS if best.evaluations > 1 else ():  # after a single one, nothing is left to be random
        yield from _try(replace(best, eta=eta), sampler, lpips, known)


def _try(way: Way, sampler: Sampler, lpips: LPIPS, known: Sequence[_Known]) -> list[Trial]:
    plan = Budget(way.start, way.evaluations).plan(way.last, way.evaluations)
    process = ResidualDiffusion(replace(sampler.process.spec, eta=way.eta))
    residuals = [sampler.generate(k.noisy, k.r, plan, 0, process) for k in known]
    trials = []
    for gain in GAINS:
        rows = [_score(k, gain * d, lpips) for k, d in zip(known, residuals, strict=True)]
        trials.append(Trial(way, gain, *(float(torch.stack(column).mean()) for column in zip(*rows, strict=True))))
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
    return min(alike, key=lambda t: (t.way.evaluations, -t.way.start, t.lpips))


def with_way(process: ProcessSpec, best: Trial) -> ProcessSpec:
    """The process as a search's best trial asks for."""
    return replace(process, last=best.way.last, eta=best.way.eta, gain=best.gain)


def gains_of_choices(
    sampler: Sampler, bundle: Bundle, lpips: LPIPS, pairs: Pairs
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
        plans = [budget.plan(spec.last, budget.evaluations) for budget in chosen]
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
