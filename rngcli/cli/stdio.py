"""One picture through a pipe: `rng denoise - - < a.jpg > b.jpg`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..batch.inputs import expanded
from ..errors import Exit, NoInputError, UsageError
from ..images import FORMAT_OF_SUFFIX, Image, decode, encode, losses, read, write_bytes, write_new
from .operands import PIPE, Operands
from .reporter import Reporter
from .streams import picture_input, picture_output

if TYPE_CHECKING:
    from ..batch.batch_options import BatchOptions


def run_piped(operands: Operands, options: BatchOptions, tell: Reporter) -> Exit:
    """Denoise IN to OUT, at least one of them `-`; a picture that fails raises its error."""
    source, target = operands.inputs[0], operands.target
    if target != PIPE:
        _check_place(target, options.overwrite)
    picture = _read(source, options)
    format = options.format or picture.format if target == PIPE else FORMAT_OF_SUFFIX[target.suffix.lower()]
    for note in (*picture.notes, *losses(picture, format, options.files.write)):  # type: ignore[arg-type]
        tell.say(note)
    data = encode(_denoised(picture, options), format, options.files.write)  # type: ignore[arg-type]
    if target == PIPE:
        picture_output(data)
    elif options.overwrite:
        write_bytes(target, data)
    elif not write_new(target, data):
        raise UsageError(f"{target} has turned up since the run began", "use --overwrite to replace it")
    return Exit.OK


def _check_place(target: Path, overwrite: bool) -> None:
    if target.is_dir() or target.suffix.lower() not in FORMAT_OF_SUFFIX:
        raise UsageError(f"a picture from stdin has no name to carry into {target}", "name a file for OUT")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists", "use --overwrite to replace it")


def _read(source: Path, options: BatchOptions) -> Image:
    if source != PIPE:
        named = expanded(source)
        if len(named) > 1:
            raise UsageError(f"{source} names {len(named)} files", "a pipe holds one picture")
        return read(named[0], options.files.read)
    if sys.stdin.isatty():
        raise NoInputError("stdin is a terminal", "send a picture: rng denoise - - < a.jpg > b.jpg")
    return decode(picture_input().read(), options.files.read)


def _denoised(picture: Image, options: BatchOptions) -> Image:
    from ..batch.in_memory import denoised

    ((_, result),) = denoised([picture], options.pipeline(), options.request, options.files.strength)
    return result
