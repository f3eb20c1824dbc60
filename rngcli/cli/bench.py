"""`rng bench`: what a tile costs here, by precision and batch size, as ratios within one run."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import DEFAULT_MODEL, Debug, Device, Model
from .progress import counted

if TYPE_CHECKING:
    import torch

    from ..inference.pipeline import Pipeline
    from ..models.bundle import Bundle


def bench(
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
    repeats: Annotated[int, typer.Option(metavar="N", min=1, help="Timed calls of each kind.")] = 5,
    json_out: Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")] = False,
    debug: Debug = False,
) -> None:
    """Milliseconds a tile for the reconstruction and for one evaluation of the generator, and what they allow.

    Mpx/s without generated detail, and with as many evaluations as the model gives a tile that needs most; and how long
    24 Mpx take so. Kinds are timed in turn, so that a busy machine slows all of them alike: trust the ratios, not the
    absolutes.
    """
    from rich.console import Console
    from rich.table import Table

    from ..models.bundle import load

    bundle = load(model)
    most = _most_evaluations(bundle)
    rows = _measure(bundle, device, repeats, most)
    if json_out:
        for row in rows:
            print(json.dumps(row))
        return
    steps = counted(most, "steps")
    table = Table("precision", "tiles a batch", "r(x) [ms/tile]", "g [ms/tile]", "against the first", "0 steps [Mpx/s]",
                  f"{steps} [Mpx/s]", "s for 24 Mpx", title=f"{Path(model).stem} on {rows[0]['device']}")  # fmt: skip
    for row in rows:
        ratio = rows[0]["mpx"] / row["mpx"]
        costs = (f"{row['start']:.1f}", f"{row['step']:.1f}", f"×{ratio:.2f}")
        speeds = (f"{row['mpx_0']:.2f}", f"{row['mpx']:.2f}", f"{24 / row['mpx']:.0f}")
        table.add_row(row["precision"], str(row["capacity"]), *costs, *speeds)
    Console().print(table)


def _most_evaluations(bundle: Bundle) -> int:
    """Of the generator, in the fullest of the model's budgets; 0 where it has no generator."""
    from ..methods.rng import rng_of

    budgets = rng_of(bundle).budgets if "rng" in bundle.methods else ()
    return max((budget.evaluations for budget in budgets), default=0)


def device_words(device: torch.device) -> str:
    """What a device is called: a GPU by its maker's name, a CPU by its own and the threads that are used of it."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "Apple Metal"
    found = platform.processor()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        found = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), found)
    return f"{found or platform.machine()}, {counted(torch.get_num_threads(), 'threads')}"


def _measure(bundle: Bundle, device: str, repeats: int, most: int) -> list[dict[str, Any]]:
    """Medians over `repeats` rounds; each round times every kind once."""
    from ..device import find_device
    from ..inference.pipeline import Pipeline

    capacities = (1, 4) if find_device(device).type == "cpu" else (16, 64)
    pipelines = [Pipeline(bundle, device, p, c) for p in ("fp32", "bf16") for c in capacities]
    kinds = [(pipeline, *_calls(pipeline, most)) for pipeline in pipelines]
    timed: list[list[tuple[float, float]]] = [[] for _ in kinds]
    for _ in range(repeats + 1):
        for kind, times in zip(kinds, timed, strict=True):
            times.append((_seconds(kind[1]), _seconds(kind[2])))
    rows = []
    for pipeline, times in zip(pipelines, timed, strict=True):
        # The first round warms up. A tile brings as many new pixels as its neighbours leave it.
        new = (pipeline.frame.tile - pipeline.frame.overlap) ** 2 / 1e6
        start, step = (sorted(column)[repeats // 2] / pipeline.capacity for column in zip(*times[1:], strict=True))
        mpx = [new / (start + n * step) for n in (0, most)]
        rows.append({"device": device_words(pipeline.device), "precision": pipeline.precision,
                     "capacity": pipeline.capacity, "start": 1e3 * start, "step": 1e3 * step, "evaluations": most,
                     "mpx_0": mpx[0], "mpx": mpx[1]})  # fmt: skip
    return rows


def _calls(pipeline: Pipeline, most: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """A full start and a full step of `pipeline` on noise; no step where there is no generator."""
    import numpy as np

    from ..inference.scheduler import TileState
    from ..methods.contract import Request

    shape = pipeline.frame.tile, pipeline.frame.tile, 3
    pictures = [pipeline.upload(np.random.default_rng(i).random(shape, np.float32)) for i in range(pipeline.capacity)]
    tiles = [TileState(i, 0, slot=i) for i in range(pipeline.capacity)]

    def start() -> None:
        pipeline.start(tiles, pictures, Request(steps=most))

    def step() -> None:
        if most:
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
