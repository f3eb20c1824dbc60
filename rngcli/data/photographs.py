"""What is learned from: the photographs below a folder, or the real pairs of two, loaded onto a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import NoInputError
from ..images import RAW_SUFFIXES
from ..images.walk import pictures_below
from .folders import matched
from .image_cache import Pool, Source, Track, is_held_out, large_enough, untracked

THUMBNAILS = {"thumbs", "thumbnails"}  # folders whose pictures are small copies of others


@dataclass
class Photographs:
    """The training pictures, or pairs, and the held-out ones, on one device."""

    train: Pool
    held_out: Pool

    @classmethod
    def load(
        cls, sources: Sequence[Source], crop: int, device: torch.device | str = "cpu", track: Track = untracked
    ) -> Photographs:
        """Decode what is large enough; the held-out slice is chosen by name, and is the first where that is empty."""
        sources = list(large_enough(sources, crop))
        held_out = [source for source in sources if is_held_out(source)] or sources[:1]
        train = [source for source in sources if source not in set(held_out)] or sources
        return cls(Pool(train, crop, device, track), Pool(held_out, crop, device, track))

    @property
    def clean(self) -> Photographs:
        """Of pairs, the clean sides as photographs."""
        return Photographs(self.train.clean, self.held_out.clean)


def photographs_of(
    folder: Path, crop: int, device: torch.device, limit: int | None = None, track: Track = untracked
) -> Photographs:
    """The developed pictures below `folder`; of the held-out ones and of the others, at most `limit` each.

    RAW files beside them are passed over, since they bring noise of their own; so are thumbnails, and the sheets of
    samples that a training draws. Raises NoInputError.
    """
    if not folder.is_dir():
        raise NoInputError(f"--data {folder} is no folder", "give a folder of clean photographs")
    paths = developed_below(folder)
    sides = ([p for p in paths if is_held_out(p)], [p for p in paths if not is_held_out(p)])
    # Evenly spread over the folder, since pictures of a kind often lie together.
    kept = [side[:: -(-len(side) // limit)] if limit else side for side in sides if side]
    return Photographs.load([path for side in kept for path in side], crop, device, track)


def developed_below(folder: Path) -> list[Path]:
    """The pictures below `folder` that are nobody's thumbnails nor samples, and no RAW files."""
    return [path for path in pictures_below(folder) if _is_photograph(path, folder)]


def _is_photograph(path: Path, folder: Path) -> bool:
    below = {part.lower() for part in path.relative_to(folder).parts[:-1]}
    sample = path.parent.name == "samples" and (path.parent.parent / "state.pt").exists()
    return path.suffix.lower() not in RAW_SUFFIXES and not below & THUMBNAILS and not sample


def real_pairs_of(noisy: Path, clean: Path, crop: int, device: torch.device, track: Track = untracked) -> Photographs:
    """Pictures of `noisy` with their namesakes of `clean`. Raises NoInputError where one has no partner."""
    pairs, problems = matched(noisy, clean)
    if problems:
        more = f", nor have {len(problems) - 1} more" if problems[1:] else ""
        raise NoInputError(f"{problems[0]}{more}", "give each picture its partner, or leave it out")
    return Photographs.load(list(pairs.values()), crop, device, track)
