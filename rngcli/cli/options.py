"""Options that several commands share, each written once: denoise, eval, bench and models take them from here."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from . import completion

# Panels of the help, in which options of a kind stand together.
PROCESS, MODEL, OUTPUT, REPORT = "How far it goes", "Model and machine", "Input and output", "What it tells"


def finite(value: float | None) -> float | None:
    """As a callback: nan passes every comparison, so no range refuses it."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no number")
    return value


ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE", help="A shipped model's name, or a bundle's path.", autocompletion=completion.models
    ),
]
Model = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE", help="See `rng models list`.", autocompletion=completion.models, rich_help_panel=MODEL
    ),
]
MethodName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="One of the model's methods; else its first: `rng models show`.",
        autocompletion=completion.methods,
        rich_help_panel=MODEL,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda[:i]|mps",
        help="Where to compute.",
        autocompletion=completion.devices,
        rich_help_panel=MODEL,
    ),
]
Devices = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda[:i]|mps|all|A,B…",
        help="Where to compute; several, or all cards, share the pictures: cuda:0,cuda:1.",
        autocompletion=completion.device_lists,
        rich_help_panel=MODEL,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="auto|fp32|bf16|fp16",
        help="auto: fp16 on a GPU, bf16 on a CPU that has it.",
        autocompletion=completion.precisions,
        rich_help_panel=MODEL,
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        metavar="TILES", min=0, max=4096, help="Tiles in a batch; 0: what suits the device.", rich_help_panel=MODEL
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", help="Random seed of the generated detail.", rich_help_panel=PROCESS)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only failures.", rich_help_panel=REPORT)]
Debug = Annotated[bool, typer.Option("--debug", help="Tracebacks.", rich_help_panel=REPORT)]
