"""The command `rng`: parses, calls the library, prints; the one place where failures become messages and exit codes."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from ..errors import Exit, RngError


def main() -> NoReturn:
    """Run the command; every failure ends in one line on stderr and its exit code, with a traceback only on --debug."""
    debug = "--debug" in sys.argv
    try:
        from .commands import app  # within, so that what ends the command while it loads is told like all else

        app()
    except RngError as error:
        if debug:
            raise
        fail(str(error), error.code)
    except Exception as error:
        if debug:
            raise
        fail(f"unexpected {type(error).__name__}: {error}; run it again with --debug and report it", Exit.SOME_FAILED)
    sys.exit(Exit.OK)


def fail(message: str, code: Exit) -> NoReturn:
    """One line on stderr, then the exit code."""
    print(f"rng: {message}", file=sys.stderr)
    sys.exit(code)


def __getattr__(name: str) -> Any:
    if name == "app":
        from .commands import app

        return app
    raise AttributeError(name)
