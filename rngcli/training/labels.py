"""Labels for the controller: what every budget would do to numbered random patches, by LPIPS and PSNR (paper §3.2)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..atomic import whole
from ..data.crops import Batches
from ..data.degrade import degrade
from ..device import channels_last
from ..methods.rng import USUAL_STEPS, rng_of, weights_hash
from ..metrics.fidelity import psnr
from ..metrics.lpips import LPIPS
from ..models.bundle import Bundle
from .distributed import Ranks
from .sampler import Sampler

CLASSES = 11  # the paper's {0, 10, …, 100}
PATCH = 256


class Labels:
    """LPIPS and PSNR of every budget on numbered random patches, (n, CLASSES) each; kept in one file, resumable.

    Of every budget as it is spent where nobody asks for more: in USUAL_STEPS evaluations at most.

    Patch i is drawn by a generator seeded with i, so the file holds figures only and can be continued at any time; with
    other networks or other budgets (`bundle`), or from other patches (`source`, by `source_of`), it is begun anew.
    """

    def __init__(self, file: Path, bundle: Bundle, source: str) -> None:
        parts = rng_of(bundle)
        self.file, self.budgets = file, parts.budgets
        # The search's gain: the one in the process may be the controller's own, chosen after it had learned from these.
        self.gain = bundle.provenance.get("schedule", {}).get("gain", parts.process.gain)
        process = replace(parts.process, gain=self.gain, agreement=1.0)  # no label sees two tiles
        self.made_by = f"{weights_hash(bundle)} {process} {parts.budgets} {USUAL_STEPS} {source}"
        self.lpips = self.psnr = torch.zeros(0, CLASSES)
        if file.exists() and (table := torch.load(file, weights_only=True)).get("made_by") == self.made_by:
            self.lpips, self.psnr = table["lpips"], table["psnr"]

    def __len__(self) -> int:
        return len(self.lpips)

    def until(
        self, count: int, sampler: Sampler, lpips: LPIPS, batches: Batches, ranks: Ranks | None = None
    ) -> Iterator[int]:
        """Label until there are `count`, or a few more; yields each patch's number once its batch is saved."""
        while len(self) < count:
            before = len(self)
            self.extend(sampler, lpips, batches, ranks)
            yield from range(before, len(self))

    def extend(self, sampler: Sampler, lpips: LPIPS, batches: Batches, ranks: Ranks | None = None) -> None:
        """Label the next `batches.size` patches on each rank and save."""
        ranks = ranks or Ranks()
        first = len(self) + ranks.rank * batches.size
        rows = ranks.all_gather(torch.stack(self._measured(first, sampler, lpips, batches), dim=1)).cpu()
        self.lpips = torch.cat([self.lpips, rows[:, 0]])
        self.psnr = torch.cat([self.psnr, rows[:, 1]])
        if ranks.first:
            with whole(self.file) as part, part.open("wb") as file:
                torch.save({"made_by": self.made_by, "lpips": self.lpips, "psnr": self.psnr}, file)

    def _measured(self, first: int, sampler: Sampler, lpips: LPIPS, batches: Batches) -> tuple[Tensor, Tensor]:
        """LPIPS and PSNR of every budget on the patches from number `first`, (batches.size, CLASSES) each."""
        clean, noisy = patches(range(first, first + batches.size), batches)
        r = sampler.reconstruct(noisy)
        truth = lpips.features(clean)
        spec = sampler.process.spec
        distances, fidelities = [], []
        for budget in self.budgets:
            plan = budget.plan(spec.last, USUAL_STEPS)
            d = sampler.generate(noisy, r, plan, first) if plan else torch.zeros_like(r)
            y = (r + self.gain * d).clamp(0, 1)
            distances.append(lpips.distance(lpips.features(y), truth))
            fidelities.append(psnr(y, clean, 1.0))
        return torch.stack(distances, dim=1).float(), torch.stack(fidelities, dim=1).float()


def source_of(batches: Batches) -> str:
    """What patches are drawn from, in short: the noise, the photographs, and where random numbers come from."""
    pool = batches.photographs.train
    sharp = torch.cat([pool.sample(1, _numbered(i, batches)) for i in range(4)])
    content = hashlib.sha256((sharp * 255).round().byte().cpu().numpy().tobytes()).hexdigest()
    return f"{batches.noise} {len(pool)} {content[:16]} {batches.device.type}"


def patches(numbers: Sequence[int], batches: Batches) -> tuple[Tensor, Tensor]:
    """(clean, noisy) patches by their numbers, (n, 3, PATCH, PATCH); the kind of noise turns with the number."""
    pairs = []
    for i in numbers:
        rng = _numbered(i, batches)
        share = 1.0 if i % 10 < 10 * batches.noise.gaussian_share else 0.0
        sharp = batches.photographs.train.sample(1, rng)
        pairs.append(degrade(sharp, replace(batches.noise, gaussian_share=share), rng))
    clean, noisy = (channels_last(torch.cat(side)) for side in zip(*pairs, strict=True))
    return clean, noisy


def _numbered(i: int, batches: Batches) -> torch.Generator:
    return torch.Generator(batches.device).manual_seed(7_000_000 + i)
