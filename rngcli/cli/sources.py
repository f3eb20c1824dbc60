"""What `rng train` and `rng ablate` learn from: a folder of photographs, or two of real pairs, loaded onto a device."""

from __future__ import annotations

from pathlib import Path

import torch

from ..data import matched
from ..data.crops import Photographs
from ..data.image_cache import is_held_out
from ..errors import NoInputError
from ..images import RAW_SUFFIXES
from ..images.walk import pictures_below


def photographs_of(folder: Path, crop: int, device: torch.device, limit: int | None = None) -> Photographs:
    """The developed pictures below `folder`; of the held-out ones and of the others, at most `limit` each.

    RAW files beside them are passed over: they bring noise of their own.
    """
    if not folder.is_dir():
        raise NoInputError(f"--data {folder} is no folder", "give a folder of clean photographs")
    paths = [path for path in pictures_below(folder) if path.suffix.lower() not in RAW_SUFFIXES]
    sides = ([p for p in paths if is_held_out(p)], [p for p in paths if not is_held_out(p)])
    # Evenly spread over the folder, since pictures of a kind often lie together.
    kept = [side[:: -(-len(side) // limit)] if limit else side for side in sides if side]
    return Photographs.load([path for side in kept for path in side], crop, device)


def real_pairs_of(noisy: Path, clean: Path, crop: int, device: torch.device) -> Photographs:
    """Pictures of `noisy` with their namesakes of `clean`. Raises NoInputError where one has no partner."""
    pairs, problems = matched(noisy, clean)
    if problems:
        more = f", nor have {len(problems) - 1} more" if problems[1:] else ""
        raise NoInputError(f"{problems[0]}{more}", "give each picture its partner, or leave it out")
    return Photographs.load(list(pairs.values()), crop, device)
