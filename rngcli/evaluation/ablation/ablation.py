"""Measure each row of the tables once, on networks that are trained once, and remember both in the run folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from ...data.crops import Batches, gaussian
from ...methods.rng import with_rng
from ...metrics.lpips import LPIPS
from ...models.bundle import Bundle, file_hash
from ...training.host import Host
from ...training.sampler import Sampler
from ...training.stages.control import ladder
from .ledger import Ledger, RowResult
from .patch_scores import PatchSet, score
from .rows import FULL, PARTS, Linear, Part, TableRow
from .trainings import Effort, Trained, Trainings
from .walks import Residuals, by_controller, by_one_plan, without

SIGMAS = (25, 50)


class Ablation:
    """The rows of the tables in one run folder; `model` takes the place of the two-stage training for the starts."""

    def __init__(
        self,
        run: Path,
        batches: Batches,
        effort: Effort,
        lpips: LPIPS | None,
        model: Bundle | None = None,
        host: Host | None = None,
    ) -> None:
        self.run, self.batches, self.effort, self.lpips, self.model = run, batches, effort, lpips, model
        self.host = host or Host()
        self.trainings = Trainings(run, batches, effort, lpips, self.host)
        self.ledger = Ledger(run / "ablation.json", self.settings)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What every training of a run folder shares."""
        pool, effort = self.batches.photographs.train, asdict(self.effort)
        del effort["patches"], effort["compile"]  # what is learned does not depend on them
        return {**effort, "batch": self.batches.size, "crop": pool.crop, "pictures": len(pool), "Mpx": pool.megapixels}

    @cached_property
    def patches(self) -> list[PatchSet]:
        """What every row is measured on."""
        return [PatchSet(s, *self.batches.held_out(self.effort.patches, gaussian(s))) for s in SIGMAS]

    def results(self, keys: Sequence[str]) -> Iterator[tuple[Part, dict[str, RowResult]]]:
        """Each part that `keys` name, with its rows' results by their labels."""
        for part in (part for part in PARTS if part.key in keys):
            if part.needs_lpips and self.lpips is None:
                self.host.listener.say(f"{part.key}: left out, since it needs LPIPS's weights")
                continue
            yield part, {row.label: self.result(row) for row in part.rows}

    def result(self, row: TableRow) -> RowResult:
        """Measured now, unless these very networks have been measured in the same way before."""
        own = self.model if isinstance(row.walk, Linear) else None
        key = f"{own.hash} {row.walk}" if own else row.key
        known = self.ledger.results.get(key)
        if known and known.made_by == self._made_by(() if own else row.variant.stages):
            return known
        trained = Trained(own) if own else self.trainings.of(row.variant)
        sampler = Sampler(trained.bundle, self.batches.device)
        generate, evaluations = self._residuals(row, sampler)
        found = score(sampler, generate, self.patches, self.lpips)
        made_by = self._made_by(() if own else row.variant.stages)
        self.ledger.put(key, RowResult(found, evaluations, trained.steps, trained.minutes, made_by))
        means = " / ".join(f"{sum(v) / len(v):.2f}" for v in found.psnr.values())
        self.host.listener.say(f"{row.label}: PSNR {means} dB")
        return self.ledger.results[key]

    def _made_by(self, stages: tuple[str, ...]) -> str:
        """How a result is had: the states of these trainings, the patches, the metric."""
        states = [self.run / stage / "state.pt" for stage in stages]
        hashes = [file_hash(state)[:16] for state in states if state.exists()]
        return " ".join([*hashes, str(self.effort.patches), self.lpips.backbone if self.lpips else "-"])

    def _residuals(self, row: TableRow, sampler: Sampler) -> tuple[Residuals, float]:
        """How a row generates its residuals, and the evaluations that a patch takes."""
        if row.walk is None:
            return without, 0.0
        if not isinstance(row.walk, str):
            return by_one_plan(sampler, row.walk)
        budgets = ladder(FULL.start, FULL.evaluations, sampler.process.spec.last)
        sampler = Sampler(with_rng(sampler.bundle, budgets=budgets), self.batches.device)
        return by_controller(sampler, self.trainings.controller(sampler.bundle), self.patches, row.walk == "fixed")
