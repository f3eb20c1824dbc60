"""`rng bench`: how fast it is here, where the time goes, and what one would have without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..defaults import DEFAULT_MODEL, MOST_STEPS
from .options import BatchSize, Debug, Device, MethodName, Model, Precision, Quiet
from .progress import duration

if TYPE_CHECKING:
    from rich.table import Table

    from ..evaluation.speed.measurement import Figures, Subject


def bench(
    pictures: Annotated[
        list[Path] | None, typer.Argument(metavar="[PICTURE]...", help="Real pictures; else synthetic ones are made.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
    precision: Precision = "auto",
    batch_size: BatchSize = 0,
    method: MethodName = None,
    detail: Annotated[float, typer.Option(metavar="SHARE", min=0, max=1, help="0: the reconstruction alone.")] = 1.0,
    steps: Annotated[
        int | None, typer.Option(metavar="N", min=0, max=MOST_STEPS, help="Evaluations everywhere; else as decided.")
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Synthetic pictures.")] = 2,
    megapixels: Annotated[
        float, typer.Option(metavar="MPX", min=0.01, max=400, help="Size of a synthetic picture.")
    ] = 1.0,
    loops: Annotated[bool, typer.Option("--loops/--no-loops", help="Beside plainer loops.")] = True,
    peers: Annotated[bool, typer.Option("--peers/--no-peers", help="Beside BM3D and NLM where installed.")] = True,
    json_out: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Mpx/s from disk to disk and by stage, cost by evaluation, slot occupancy, memory, share of the machine's roof.

    Beside them, in the same run: Algorithm 1 as it is printed, batches that wait for their slowest tile, and BM3D and
    non-local means. On a machine that does other things too, trust the ratios and not the absolutes.

    Example: rng bench photos/*.jpg --detail 0 --json
    """
    import tempfile

    from ..batch.inputs import expanded
    from ..device import heed_cpu_quota
    from ..evaluation.speed.measurement import Subject, measure
    from ..inference.pipeline import Pipeline
    from ..methods.contract import Request
    from ..models.bundle import load

    heed_cpu_quota()
    given = [path for picture in pictures or () for path in expanded(picture)]
    bundle = load(model)

    def opened(kind: type[Pipeline]) -> Pipeline:
        return kind(bundle, device, precision, batch_size or None, method)

    with tempfile.TemporaryDirectory(prefix="rng-bench-") as folder:
        paths = given or _synthetic(Path(folder), count, megapixels)
        subject: Subject = Subject(opened, Request(steps=steps, detail=detail), paths)
        figures = measure(subject, lambda what: None if quiet else typer.echo(f"{what} …", err=True),
                          loops=loops, peers=peers)  # fmt: skip
    if json_out:
        print(json.dumps(figures.as_json()))
    else:
        from rich.console import Console

        Console().print(_table(figures, model))


def _synthetic(folder: Path, count: int, megapixels: float) -> list[Path]:
    """Noisy pictures, half of each smooth and half textured, so that their tiles differ in what they need."""
    import numpy as np

    from .. import images

    height = max(1, round((megapixels * 1e6 / 1.5) ** 0.5))
    width = max(1, round(1.5 * height))
    paths = []
    for number in range(count):
        rng = np.random.default_rng(number)
        y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
        texture = 0.2 * np.sin(0.7 * width * x + 9 * y) * np.sin(0.9 * height * y) * (x > 0.5)
        plain = np.stack([0.3 + 0.4 * x, 0.6 - 0.3 * y, 0.3 + 0.2 * (x + y)], axis=-1) + texture[..., None]
        noisy = plain + rng.normal(0, rng.uniform(10, 40) / 255, plain.shape)
        paths.append(folder / f"{number}.png")
        images.write(paths[-1], images.Image(noisy.clip(0, 1).astype(np.float32)))
    return paths


def _table(figures: Figures, model: str) -> Table:
    from rich.table import Table

    table = Table("what", "measured", title=f"{model} on {figures.device}")
    for what, measured in _rows(figures):
        table.add_row(what, measured)
    return table


def _rows(f: Figures) -> list[tuple[str, str]]:
    tiles = "tile" if f.capacity == 1 else "tiles"
    rows = [
        ("pictures", f"{f.megapixels:.1f} Mpx, {f.tiles} tiles; {f.precision}, {f.capacity} {tiles} a batch"),
        ("from disk to disk", f"{f.end_to_end:.3f} Mpx/s; 24 Mpx take {duration(24 / f.end_to_end)}"),
        ("pixels to pixels", f"{f.engine:.3f} Mpx/s"),
        *((f"  {stage}", f"{1e3 * s / f.megapixels:.0f} ms/Mpx") for stage, s in f.seconds.items()),
        ("a start", f"{f.start_ms:.1f} ms/tile, {f.start_share:.0%} of the roof"),
    ]
    if f.step_ms is not None and f.step_share is not None:
        rows += [("a step", f"{f.step_ms:.1f} ms/tile, {f.step_share:.0%} of the roof")]
        rows += [("evaluations", f"{f.evaluations:.2f} a tile; slots {f.occupancy:.1%} occupied")]
    if f.budget_line:
        first, each, r2 = f.budget_line
        rows += [("cost by budget", f"{1e3 * first:.0f} + {1e3 * each:.0f} ms a tile and evaluation, R² {r2:.4f}")]
    rows += [("roof", f"{f.roof / 1e9:.0f} GFLOP/s, a product of matrices in {f.precision}")]
    if f.waits is not None:
        rows += [("waits of the host", f"{f.waits}")]
    on_device = f", {f.device_bytes / 2**30:.2f} GiB on the device" if f.device_bytes else ""
    rows += [("memory at most", f"{f.host_bytes / 2**30:.2f} GiB resident{on_device}")]
    if f.plain:
        rows += [("the plain loop", f"{f.plain:.3f} Mpx/s: ×{f.engine / f.plain:.2f} by the engine")]
    if f.fixed and f.fixed_occupancy is not None:
        ratio, share = f.engine / f.fixed, f.fixed_occupancy
        rows += [("batches that wait", f"{f.fixed:.3f} Mpx/s, {share:.0%} occupied: ×{ratio:.2f} by the engine")]
    for name, speed in f.peers.items():
        told = f"{speed:.3f} Mpx/s: ×{f.engine / speed:.1f} by the engine" if speed else "not installed"
        rows += [(name, told)]
    return rows
