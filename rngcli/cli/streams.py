"""stdin, stdout and stderr as they may come: closed, full, left by their reader, or in an old encoding."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO

from ..errors import EnvironmentFault, NoInputError

_NAMES = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
_closed: set[str] = set()  # those that this process was started without


class Forgiving:
    """A stream for words to people: where nobody takes them any more they are lost, and the work goes on."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            self._give_up()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._give_up()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self) -> None:
        to_nowhere(self._stream)


@contextmanager
def prepared() -> Iterator[None]:
    """Within, all three are there, none is written to in an encoding that lacks a character, and stderr forgives."""
    before = [getattr(sys, name) for name, _ in _NAMES]
    for number, (name, mode) in enumerate(_NAMES):
        if getattr(sys, name) is None:
            _closed.add(name)
            _occupy(number)  # or the next file that is opened would be taken for this stream
            stream = os.fdopen(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)
            setattr(sys, name, stream)
        elif mode == "w" and hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")
    sys.stderr = Forgiving(sys.stderr)
    try:
        yield
    finally:
        for (name, _), stream in zip(_NAMES, before, strict=True):
            if stream is not None:
                setattr(sys, name, stream)


def _occupy(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)


def to_nowhere(stream: IO[str]) -> None:
    """Send what is left in the stream, and all that follows, to nowhere: or Python tries once more at its end."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()
    except (OSError, ValueError, AttributeError):
        pass


def picture_input() -> BinaryIO:
    """stdin, for a picture or a list of pictures."""
    if "stdin" in _closed:
        raise NoInputError("stdin is closed", "send a picture: rng denoise - - < a.jpg > b.jpg")
    return sys.stdin.buffer


def picture_output(data: bytes) -> None:
    """A picture to stdout; EnvironmentFault where that takes none."""
    if "stdout" in _closed:
        raise EnvironmentFault("stdout is closed", "send the picture to a file: … > clean.jpg")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        to_nowhere(sys.stdout)
        raise EnvironmentFault(f"stdout takes no more ({error.strerror})", "check who reads it") from None


def data_output(data: bytes) -> bool:
    """Data to stdout, in UTF-8 whatever the locale; False where its reader has gone, who has seen enough.

    EnvironmentFault where stdout takes no more, as on a full disk.
    """
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        to_nowhere(sys.stdout)
        if isinstance(error, BrokenPipeError):
            return False
        raise EnvironmentFault(f"stdout takes no more ({error.strerror})", "check where it goes") from None
    return True


def words_output(text: str) -> None:
    """A table to stdout, in its own encoding; a reader that has gone, or a stream that takes nothing, as above."""
    data_output(text.encode(sys.stdout.encoding or "utf-8", "backslashreplace"))
