"""How the pictures of a batch are read and written, what lies beside them, and whom a run tells of its progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .. import images
from ..inference.strength import Strength
from .inputs import Task
from .manifest_writer import Journal

# (denoised, clean), (H, W, 3) in [0, 1] each -> figures by name, and why those that are None could not be had
Score = Callable[[np.ndarray, np.ndarray], tuple[Mapping[str, float | None], Sequence[str]]]


@dataclass(frozen=True)
class FileOptions:
    """How pictures are read and written, and what is written or measured beside them."""

    read: images.ReadOptions = field(default_factory=images.ReadOptions)
    write: images.WriteOptions = field(default_factory=images.WriteOptions)
    journal: Journal | None = None  # told of every output, and asked what other runs have done meanwhile
    map_journal: Journal | None = None  # the same for step maps
    fail_fast: bool = False
    reference: Path | None = None  # clean pictures of the same names
    masks: Path | None = None  # a picture, or a folder of pictures of the same names: white where pixels are missing
    score: Score | None = None
    step_maps: Path | None = None
    strength: Strength = field(default_factory=Strength)


@dataclass(frozen=True)
class Watch:
    """Whom to tell: of each picture that is begun, and of the tiles that each network call has worked on.

    begun(task, megapixels, tiles), stepped(tiles)
    """

    begun: Callable[[Task, float, int], None] = lambda task, megapixels, tiles: None
    stepped: Callable[[int], None] = lambda tiles: None
