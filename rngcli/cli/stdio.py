"""One picture through a pipe: `rng denoise - - < a.jpg > b.jpg`."""

from __future__ import annotations

import sys
from pathlib import Path

from ..errors import EnvironmentFault, Exit, NoInputError, RngError, UsageError
from ..images import FORMAT_OF_SUFFIX, Format, Image, decode, encode, read, write_bytes
from .options import PIPE, Settings
from .reporter import Teller


def run_piped(settings: Settings, tell: Teller) -> Exit:
    """Denoise IN to OUT, at least one of them `-`; a picture that fails raises its error."""
    target = settings.target if settings.target == PIPE else _place(settings.inputs[0], settings)
    picture = _read(settings.inputs[0], settings)
    for note in picture.notes:
        tell.say(note)
    data = encode(_denoised(picture, settings), _format(picture, target, settings), settings.write)
    if target != PIPE:
        write_bytes(target, data)
        return Exit.OK
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise EnvironmentFault(f"stdout takes no more ({error.strerror})", "check who reads it") from None
    return Exit.OK


def _place(source: Path, settings: Settings) -> Path:
    if settings.target.is_dir() or settings.target.suffix.lower() not in FORMAT_OF_SUFFIX:
        raise UsageError(f"a picture from stdin has no name to carry into {settings.target}", "name a file for OUT")
    if settings.target.exists() and not settings.overwrite:
        raise UsageError(f"{settings.target} exists", "use --overwrite to replace it")
    return settings.target


def _read(source: Path, settings: Settings) -> Image:
    if source != PIPE:
        return read(source, settings.read)
    if sys.stdin.isatty():
        raise NoInputError("stdin is a terminal", "send a picture: rng denoise - - < a.jpg > b.jpg")
    return decode(sys.stdin.buffer.read(), settings.read)


def _format(picture: Image, target: Path, settings: Settings) -> Format:
    if target != PIPE:
        return FORMAT_OF_SUFFIX[target.suffix.lower()]
    return settings.format or picture.format  # type: ignore[return-value]


def _denoised(picture: Image, settings: Settings) -> Image:
    from ..batch.worker import denoise_within_memory
    from ..inference.engine import Job

    jobs = [Job("-", picture.pixels)]
    (result,) = denoise_within_memory(jobs, settings.pipeline, settings.request)
    if result.error:
        raise RngError(result.error.cause, result.error.remedy)
    return picture.with_pixels(result.pixels)
