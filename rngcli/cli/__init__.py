"""The command `rng`: parses, calls the library, prints; the one place where failures become messages and exit codes."""

from __future__ import annotations

import errno
import os
import sys
from types import FrameType
from typing import Any, NoReturn

from ..errors import EnvironmentFault, Exit, RngError
from ..signals import interruptible
from .streams import prepared

_REMEDIES = {
    errno.EACCES: "check its rights", errno.EPERM: "check its rights", errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "it is a link to itself", errno.ENOENT: "check the name", errno.ENOSPC: "make room",
    errno.EDQUOT: "make room", errno.EFBIG: "make room",
}  # fmt: skip


def main() -> NoReturn:
    """Run the command; every failure ends in one line on stderr and its exit code, with a traceback only on --debug."""
    try:
        with interruptible(_leave), prepared():
            _run()
    except KeyboardInterrupt:  # in the moment before signals are heard, or after
        _leave()
    sys.exit(Exit.OK)


def _run() -> None:
    try:
        from .commands import app  # within, so that what ends the command while it loads is told like all else

        app()
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        told = _told(error)
        fail(str(told), told.code)


def _leave(number: int = 0, frame: FrameType | None = None) -> None:
    """An interrupt where no command has begun, or after its work: there is nothing to finish."""
    os.write(2, b"rng: interrupted\n")
    os._exit(Exit.INTERRUPTED)


def _told(error: Exception) -> RngError:
    """What a person is told of a failure that no command has foreseen."""
    if isinstance(error, RngError):
        return error
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return EnvironmentFault(f"{where}{error.strerror}", _REMEDIES.get(error.errno or 0, ""))
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return EnvironmentFault("there is not enough memory", "take fewer at once, or close other programs")
    return RngError(f"unexpected {type(error).__name__}: {error}", "run it again with --debug and report it")


def fail(message: str, code: Exit) -> NoReturn:
    """One line on stderr, then the exit code."""
    print(f"rng: {message}", file=sys.stderr)
    sys.exit(code)


def __getattr__(name: str) -> Any:
    if name == "app":
        from .commands import app

        return app
    raise AttributeError(name)
