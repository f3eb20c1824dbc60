"""What `--preview` is told: how large a part of the picture, where, and which file to write."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..batch.ownership import check_place
from ..errors import UsageError

LEAST, MOST = 64, 2048  # [px]


@dataclass(frozen=True)
class Window:
    """A part of `size` × `size` px, its upper left corner at `at` (x, y) of the upright picture; None: to be found."""

    size: int
    at: tuple[int, int] | None = None

    @classmethod
    def parsed(cls, text: str) -> Window:
        """512 or 512@2000,1000; UsageError where it is neither."""
        found = re.fullmatch(r"(\d{1,6})(?:@(\d{1,6}),(\d{1,6}))?", text)
        if not found or not LEAST <= int(found[1]) <= MOST:
            raise UsageError(f"--preview {text!r} is no part of a picture", f"give {LEAST}..{MOST}, or 512@X,Y")
        return cls(int(found[1]), (int(found[2]), int(found[3])) if found[2] else None)


def check_preview(path: Path) -> None:
    """UsageError where the suffix names no form of preview, or where the file is somebody's own."""
    if path.suffix not in (".png", ".html"):
        raise UsageError(f"the preview {path} is neither .png nor .html", "rng denoise IN --preview 512 preview.png")
    check_place(path, "the preview")
