"""The commands of `rng` put together, with the help of the whole."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from .ablate import ablate
from .bench import bench
from .denoise import denoise
from .eval import evaluate
from .models import models
from .presets import Configured
from .restore import restore
from .synth import synth
from .train import train
from .watch import watch

app = typer.Typer(
    name="rng",
    help="Denoise folders of photographs: reconstruct what is certain, generate only the residual detail.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done · 1 some failed · 2 usage · 3 model · 4 no input · 5 environment · 130 interrupted",
)
app.command(cls=Configured)(denoise)
app.command(cls=Configured)(watch)
app.command()(bench)
app.command(hidden=True)(ablate)
app.command()(synth)
app.add_typer(restore, name="restore")
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
