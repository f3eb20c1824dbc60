"""Which files below a folder are pictures, by their names: the one walk of denoising, measuring and training."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rngcli.images.files import READABLE_SUFFIXES

_SYSTEM = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}


def is_hidden(name: str) -> bool:
    """Dot files, macOS's `._x` twins, and what file managers and network disks leave lying about."""
    return name.startswith(".") or name.lower() in _SYSTEM


def is_picture(name: str) -> bool:
    """Whether a file of this name is to be read."""
    return not is_hidden(name) and Path(name).suffix.lower() in READABLE_SUFFIXES


def pictures_below(folder: Path, leave_out: Path | None = None) -> Iterator[Path]:
    """Every file with a picture's suffix below `folder`, sorted; each real folder once, so that links cannot loop."""
    seen: set[tuple[int, int]] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        here = os.stat(root)
        if (here.st_dev, here.st_ino) in seen or (leave_out and leave_out.exists() and Path(root).samefile(leave_out)):
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield from (Path(root, name) for name in sorted(files) if is_picture(name))
