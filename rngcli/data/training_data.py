"""What a stage of training is given to learn from, as the command names it, and what is refused of that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..errors import UsageError
from .crops import Batches
from .degrade import DegradeSpec
from .image_cache import Track, untracked
from .photographs import Photographs, photographs_of, real_pairs_of

MOST_CROPS, MOST_SIDE = 4096, 2048  # of a batch, and of a crop [px]: more is a slip of the finger
STRIDE = 32  # [px] crops are multiples of it


@dataclass(frozen=True)
class TrainingData:
    """Where a stage's crops come from: clean photographs, to be degraded, and real pairs; `size` crops of `crop` px."""

    folder: Path | None
    crop: int
    size: int
    pairs: tuple[Path, Path] | None = None  # folders of the noisy and of the clean sides
    pairs_share: float = 0.5  # of each batch, where there are both
    noise: DegradeSpec = field(default_factory=DegradeSpec)
    limit: int | None = None  # at most so many photographs to learn from, and as many held out

    def __post_init__(self) -> None:
        if self.crop % STRIDE or not STRIDE <= self.crop <= MOST_SIDE:
            raise UsageError(f"--crop {self.crop} is not possible", f"give a multiple of {STRIDE} up to {MOST_SIDE}")
        if not 1 <= self.size <= MOST_CROPS:
            raise UsageError(f"--batch {self.size} is not possible", f"give 1 to {MOST_CROPS} crops")
        if not 0 <= self.pairs_share <= 1:
            raise UsageError(f"--pairs-share {self.pairs_share:g} is no share", "give a number from 0 to 1")

    def load(self, device: torch.device, track: Track = untracked, say: Callable[[str], None] | None = None) -> Batches:
        """Decode all of it onto the device; `say` hears how much there is."""
        pairs = real_pairs_of(*self.pairs, self.crop, device, track) if self.pairs else None
        if self.folder:
            photographs = photographs_of(self.folder, self.crop, device, self.limit, track)
            share = self.pairs_share
        elif pairs:
            photographs, share = pairs.clean, 1.0
        else:
            raise UsageError("there is nothing to learn from", "give --data DIR, or --pairs NOISY CLEAN")
        for what, loaded in (("pairs", pairs), ("pictures", photographs if self.folder else None)):
            if loaded and say:
                say(_sizes(loaded, what))
        batches = Batches(photographs, self.size, self.noise, pairs, share)
        if pairs and 0 < share < 1 and batches.real in (0, self.size):
            cause = f"--pairs-share {share:g} of {self.size} crops is {batches.real}"
            raise UsageError(cause, "give a larger --batch")
        return batches


def _sizes(loaded: Photographs, what: str) -> str:
    return f"{len(loaded.train)} {what}, {loaded.train.megapixels:.0f} Mpx; {len(loaded.held_out)} held out"
