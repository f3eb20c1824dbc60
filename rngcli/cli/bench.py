"""`rng bench`: what a tile costs here, by precision and batch size, as ratios within one run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import DEFAULT_MODEL, Debug, Device, Model

if TYPE_CHECKING:
    from ..inference.pipeline import Pipeline
    from ..models.bundle import Bundle


def bench(
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
    repeats: Annotated[int, typer.Option(metavar="N", min=1, help="Timed calls of each kind.")] = 5,
    json_out: Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")] = False,
    debug: Debug = False,
) -> None:
    """Milliseconds a tile for the reconstruction and for one evaluation of the generator, and the Mpx/s they allow.

    Kinds are timed in turn, so that a busy machine slows all of them alike: trust the ratios, not the absolutes.
    """
    from rich.console import Console
    from rich.table import Table

    from ..models.bundle import load

    rows = _measure(load(model), device, repeats)
    if json_out:
        for row in rows:
            print(json.dumps(row))
        return
    table = Table("precision", "tiles a batch", "r(x) [ms/tile]", "g [ms/tile]", "against the first", "0 steps [Mpx/s]",
                  "8 steps [Mpx/s]", title=f"{model} on {device}")  # fmt: skip
    for row in rows:
        ratio = (row["start"] + 8 * row["step"]) / (rows[0]["start"] + 8 * rows[0]["step"])
        costs = (f"{row['start']:.1f}", f"{row['step']:.1f}", f"×{ratio:.2f}")
        table.add_row(row["precision"], str(row["capacity"]), *costs, f"{row['mpx_0']:.2f}", f"{row['mpx_8']:.2f}")
    Console().print(table)


def _measure(bundle: Bundle, device: str, repeats: int) -> list[dict[str, Any]]:
    """Medians over `repeats` rounds; each round times every kind once."""
    from ..device import find_device
    from ..inference.pipeline import Pipeline

    capacities = (1, 4) if find_device(device).type == "cpu" else (16, 64)
    pipelines = [Pipeline(bundle, device, p, c) for p in ("fp32", "bf16") for c in capacities]
    kinds = [(pipeline, *_calls(pipeline)) for pipeline in pipelines]
    timed: list[list[tuple[float, float]]] = [[] for _ in kinds]
    for _ in range(repeats + 1):
        for kind, times in zip(kinds, timed, strict=True):
            times.append((_seconds(kind[1]), _seconds(kind[2])))
    rows = []
    for pipeline, times in zip(pipelines, timed, strict=True):
        # The first round warms up. A tile brings as many new pixels as its neighbours leave it.
        new = (pipeline.frame.tile - pipeline.frame.overlap) ** 2 / 1e6
        start, step = (sorted(column)[repeats // 2] / pipeline.capacity for column in zip(*times[1:], strict=True))
        mpx = [new / (start + n * step) for n in (0, 8)]
        rows.append({"precision": pipeline.precision, "capacity": pipeline.capacity, "start": 1e3 * start,
                     "step": 1e3 * step, "mpx_0": mpx[0], "mpx_8": mpx[1]})  # fmt: skip
    return rows


def _calls(pipeline: Pipeline) -> tuple[Callable[[], None], Callable[[], None]]:
    """A full start and a full step of `pipeline` on noise."""
    import numpy as np

    from ..inference.scheduler import TileState
    from ..methods.contract import Request

    shape = pipeline.frame.tile, pipeline.frame.tile, 3
    pictures = [pipeline.upload(np.random.default_rng(i).random(shape, np.float32)) for i in range(pipeline.capacity)]
    tiles = [TileState(i, 0, slot=i) for i in range(pipeline.capacity)]

    def start() -> None:
        pipeline.start(tiles, pictures, Request(steps=8))

    def step() -> None:
        pipeline.step(tiles, seed=0)

    return start, step


def _seconds(call: Callable[[], None]) -> float:
    """One call, waited for: a GPU answers before it has finished."""
    import torch

    begun = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun
