"""`rng watch IN OUT`: a folder that fills up, whose pictures are denoised as they come."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import Exit
from . import progress
from .like_denoise import like_denoise

# What is about one run over what is there now.
DECIDED = {"paths": None, "out": None, "files_from": None, "null": False, "dry_run": False, "preview": None,
           "overwrite": False, "fail_fast": False, "reference": None, "ray": None, "workers": None}  # fmt: skip


@like_denoise(DECIDED)
def watch(
    folder: Annotated[Path, typer.Argument(metavar="IN", help="The folder that is watched, with all below it.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The folder that mirrors it.")],
    **given: Any,
) -> Any:
    """Denoise the pictures of a folder, and every one that turns up in it from then on, until Ctrl-C.

    Example: rng watch incoming/ clean/ --detail 0.5

    A picture is begun when its file has stopped growing. One that fails is tried again when its file changes.
    With the extra rng[watch] changes are seen at once, else by looking every two seconds.
    """
    with progress.waiting("loading …", given["quiet"]):
        from .watching import watch_folder
    return watch_folder(folder, target, given) or Exit.OK
