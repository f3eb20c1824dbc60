"""What a command asks of a method beside its options: `rng denoise` nothing, `rng restore` to undo an operator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..diffusion.operators import Operator


@dataclass(frozen=True)
class Restoration:
    """What but noise a command is to undo, a text that changes with it, and the masks where pixels are missing."""

    operator: Operator | None = None
    recipe: str = ""
    masks: Path | None = None
