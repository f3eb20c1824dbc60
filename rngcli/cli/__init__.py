"""The command `rng`: parses, calls the library, prints; the one place where failures become messages and exit codes."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from .. import __version__
from ..errors import Exit, RngError
from .ablate import ablate
from .bench import bench
from .denoise import denoise
from .eval import evaluate
from .models import models
from .train import train

app = typer.Typer(
    name="rng",
    help="Denoise folders of photographs: reconstruct what is certain, generate only the residual detail.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done · 1 some failed · 2 usage · 3 model · 4 no input · 5 environment · 130 interrupted",
)
app.command()(denoise)
app.command()(bench)
app.command(hidden=True)(ablate)
app.add_typer(evaluate, name="eval")
app.add_typer(train, name="train")
app.add_typer(models, name="models")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rng {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Denoise folders of photographs: reconstruct what is certain, generate only the residual detail."""


def main() -> NoReturn:
    """Run the command; every failure ends in one line on stderr and its exit code, with a traceback only on --debug."""
    debug = "--debug" in sys.argv
    try:
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
