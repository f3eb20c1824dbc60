"""The third stage: which schedule is best, which budget each patch would choose, and the controller that learns it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoint import Bundle
from .degrade import degrade
from .device import find_precision, placed
from .diffusion.residual import ProcessSpec, ResidualDiffusion, sample
from .diffusion.schedule import Budget
from .errors import ModelError
from .metrics.fidelity import psnr
from .metrics.lpips import LPIPS
from .nets.controller import Controller, ControllerSpec
from .stages import Batches, channels_last

CLASSES = 11  # the paper's {0, 10, …, 100}
PATCH = 256


def ladder(start: float, evaluations: int, last: float, lowest: float = 0.12) -> tuple[Budget, ...]:
    """CLASSES budgets from nothing to (start, evaluations): starts evenly spaced in log σ, one density of steps.

    The starting level limits how much detail there can be, since a tile that starts at σ has the spread of σ
    instead of √(1 + σ²); so the ladder is one of detail, and the cheap rungs are cheap as well.
    """
    rungs = CLASSES - 1
    starts = [start * (lowest / start) ** (1 - (k + 1) / rungs) for k in range(rungs)]
    density = (evaluations - 1) / max(torch.tensor(start / last).log().item(), 1e-6)
    steps = [1 + max(0, round(density * torch.tensor(s / last).log().item())) for s in starts]
    return (Budget(starts[0], 0), *(Budget(round(s, 4), n) for s, n in zip(starts, steps, strict=True)))


class Sampler:
    """Reconstruction and generation of whole batches that share one plan, for searches over plans."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        if bundle.generator is None:
            raise ModelError("this model has no generator yet", "run `rng train generate` first")
        self.device, self.dtype = device, find_precision(device)
        self.nafnet = placed(deepcopy(bundle.nafnet), device, self.dtype)
        self.generator = placed(deepcopy(bundle.generator), device, self.dtype)
        self.process = ResidualDiffusion(bundle.process)

    @torch.inference_mode()
    def reconstruct(self, noisy: Tensor) -> Tensor:
        """r(x), float32."""
        return self.nafnet(noisy)

    @torch.inference_mode()
    def generate(self, noisy: Tensor, r: Tensor, plan: Sequence[float], seed: int) -> Tensor:
        """The generated residual σ_d·d̃_0, without the gain; the noise is the same for every plan."""
        condition = self.generator.condition(noisy, r)
        noise = torch.randn(r.shape, generator=torch.Generator(self.device).manual_seed(seed), device=self.device)

        def predict(d_t: Tensor, gamma: Tensor) -> Tensor:
            return self.generator(d_t, condition, gamma).float()

        return self.process.spec.sigma_d * sample(self.process, predict, plan, channels_last(noise))


@dataclass(frozen=True)
class Trial:
    """One schedule of the search and how it did where it helps; elsewhere the controller will choose nothing."""

    start: float
    last: float
    evaluations: int
    gain: float
    lpips: float  # LPIPS over that of the reconstruction, mean over the kinds of noise: 0.75 is 25 % lower
    dpsnr: float  # mean change in PSNR [dB]
    share: float  # of the patches that it helps


def search_schedule(
    sampler: Sampler, lpips: LPIPS, pairs: Sequence[tuple[Tensor, Tensor]], grid: Sequence[tuple[float, float, int]]
) -> Iterator[Trial]:
    """Try each (start, last, evaluations) of `grid` on (clean, noisy) batches; the paper's grid search (§3.1).

    Each with every gain of GAINS, which costs no further sampling.
    """
    known = []
    for clean, noisy in pairs:
        r = sampler.reconstruct(noisy).clamp(0, 1)
        truth = lpips.features(clean)
        known.append((clean, noisy, r, truth, lpips.distance(lpips.features(r), truth), psnr(r, clean, 1.0)))
    for start, last, evaluations in grid:
        plan = Budget(start, evaluations).plan(last, evaluations)
        residuals = [sampler.generate(noisy, r, plan, seed=0) for _, noisy, r, *_ in known]
        for gain in GAINS:
            ratios, changes, helped = [], [], []
            for (clean, _, r, truth, before, psnr_before), d in zip(known, residuals, strict=True):
                y = (r + gain * d).clamp(0, 1)
                after = lpips.distance(lpips.features(y), truth)
                helps = after < before
                ratios.append(torch.minimum(after, before).sum() / before.sum())
                changes.append(torch.where(helps, psnr(y, clean, 1.0) - psnr_before, 0.0))
                helped.append(helps.double())
            means = (float(torch.stack(column).mean()) for column in (ratios, changes, helped))
            yield Trial(start, last, evaluations, gain, *means)


GRID = tuple(product((0.7, 1.5, 3.0), (0.05, 0.2), (4, 8)))
GAINS = (1.0, 1.5, 2.2, 3.0)


def best_of(trials: Sequence[Trial], most_db: float = 1.0) -> Trial:
    """The lowest LPIPS among the trials that cost at most `most_db` of PSNR; the cheapest in PSNR where none does."""
    affordable = [trial for trial in trials if trial.dpsnr >= -most_db]
    return min(affordable, key=lambda t: t.lpips) if affordable else max(trials, key=lambda t: t.dpsnr)


# --- labels ----------------------------------------------------------------------------------------------------


class Labels:
    """LPIPS and PSNR of every budget on numbered random patches, (n, CLASSES) each; kept in one file, resumable.

    Patch i is drawn by a generator seeded with i, so the file holds figures only and can be continued at any time; by
    another model or other budgets (`bundle`) it is begun anew.
    """

    def __init__(self, file: Path, bundle: Bundle) -> None:
        self.file, self.budgets = file, bundle.budgets
        self.made_by = f"{bundle.hash} {bundle.process} {bundle.budgets}"
        self.lpips = self.psnr = torch.zeros(0, CLASSES)
        if file.exists() and (table := torch.load(file, weights_only=True)).get("made_by") == self.made_by:
            self.lpips, self.psnr = table["lpips"], table["psnr"]

    def __len__(self) -> int:
        return len(self.lpips)

    def extend(self, sampler: Sampler, lpips: LPIPS, batches: Batches) -> None:
        """Label the next `batches.size` patches and save."""
        clean, noisy = patches(range(len(self), len(self) + batches.size), batches)
        r = sampler.reconstruct(noisy).clamp(0, 1)
        truth = lpips.features(clean)
        distances, fidelities = [], []
        for budget in self.budgets:
            plan = budget.plan(sampler.process.spec.last, budget.evaluations)
            gain = sampler.process.spec.gain
            y = (r + gain * sampler.generate(noisy, r, plan, seed=len(self))).clamp(0, 1) if plan else r
            distances.append(lpips.distance(lpips.features(y), truth))
            fidelities.append(psnr(y, clean, 1.0))
        self.lpips = torch.cat([self.lpips, torch.stack(distances, dim=1).float()])
        self.psnr = torch.cat([self.psnr, torch.stack(fidelities, dim=1).float()])
        part = self.file.with_suffix(".part")
        torch.save({"made_by": self.made_by, "lpips": self.lpips, "psnr": self.psnr}, part)
        os.replace(part, self.file)


def patches(numbers: Sequence[int], batches: Batches) -> tuple[Tensor, Tensor]:
    """(clean, noisy) patches by their numbers, (n, 3, PATCH, PATCH); the kind of noise turns with the number."""
    pairs = []
    for i in numbers:
        rng = torch.Generator(batches.device).manual_seed(7_000_000 + i)
        clean = batches.photographs.train.sample(1, rng)
        share = 1.0 if i % 10 < 10 * batches.noise.gaussian_share else 0.0
        pairs.append((clean, degrade(clean, replace(batches.noise, gaussian_share=share), rng)))
    clean, noisy = (channels_last(torch.cat(side)) for side in zip(*pairs, strict=True))
    return clean, noisy


class Control:
    """Stage 3: the controller learns each patch's best budget by cross-entropy (paper §3.2).

    The targets are soft, softmax(−LPIPS/τ): neighbouring budgets often differ by less than chance, and a hard
    label would make the network learn the chance.
    """

    def __init__(self, spec: ControllerSpec, labels: Labels, batches: Batches, temperature: float = 0.02) -> None:
        self.labels, self.size = labels, batches.size
        self.net: nn.Module = placed(Controller(spec), batches.device)
        # Relative to the reconstruction's, so that noisy patches, whose distances are large, do not rule.
        cost = labels.lpips / labels.lpips[:, :1].clamp(min=1e-4)
        self.targets = torch.softmax(-cost / temperature, dim=1).to(batches.device)
        self.noisy = torch.cat([patches([i], batches)[1].half() for i in range(len(labels))])
        self.held_out = max(1, len(labels) // 10)

    def loss(self, forward: Callable[..., Any], rng: torch.Generator) -> Tensor:
        n = len(self.noisy) - self.held_out
        which = torch.randint(n, (self.size,), generator=rng, device=rng.device)
        noisy = self._turned(self.noisy[which].float(), rng)
        logits = forward(channels_last(noisy)).float()
        return nn.functional.cross_entropy(logits, self.targets[which])

    def _turned(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """The whole batch in one of its 8 symmetries."""
        turn, flip = torch.randint(4, (2,), generator=rng, device=rng.device).tolist()
        x = torch.rot90(x, turn, (2, 3))
        return x.flip(3) if flip % 2 else x

    @torch.no_grad()
    def validate(self, net: nn.Module) -> dict[str, float]:
        """On held-out patches: LPIPS and PSNR by the controller's choice, the best single budget, the oracle."""
        noisy = channels_last(self.noisy[-self.held_out :].float())
        choice = torch.cat([net(part).argmax(1) for part in noisy.split(16)]).cpu()
        lpips, fidelity = self.labels.lpips[-self.held_out :], self.labels.psnr[-self.held_out :]
        rows = torch.arange(len(lpips))
        single = int(lpips.mean(0).argmin())
        return {
            "lpips": float(lpips[rows, choice].mean()),
            "lpips_single": float(lpips[:, single].mean()),
            "lpips_oracle": float(lpips.min(1).values.mean()),
            "lpips_none": float(lpips[:, 0].mean()),
            "psnr": float(fidelity[rows, choice].mean()),
            "psnr_single": float(fidelity[:, single].mean()),
            "mean_class": float(choice.float().mean()),
        }


def with_schedule(process: ProcessSpec, best: Trial) -> tuple[ProcessSpec, tuple[Budget, ...]]:
    """The process and the budgets that a search's best trial asks for."""
    return replace(process, last=best.last, gain=best.gain), ladder(best.start, best.evaluations, best.last)
