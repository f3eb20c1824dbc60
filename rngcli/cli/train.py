"""`rng train reconstruct|generate|controller`: three stages, one after the other, in one run folder; and `prior`."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from . import completion

if TYPE_CHECKING:
    from ..training.host import Host

train = typer.Typer(
    help="Train a model on your own photographs: reconstruct, then generate, then controller.", no_args_is_help=True
)

Data = Annotated[Path, typer.Option(metavar="DIR", help="A folder of clean photographs.")]
OptionalData = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="A folder of clean photographs.")]
Pairs = Annotated[
    tuple[Path, Path] | None,
    typer.Option(
        metavar="NOISY CLEAN",
        help="Folders of real pairs, matched by name, beside --data or instead; one folder twice, as SIDD has them.",
    ),
]
PairsShare = Annotated[
    float, typer.Option(metavar="0..1", min=0, max=1, help="Of each batch: real pairs, the rest of --data degraded.")
]
RunFolder = Annotated[
    Path,
    typer.Option(
        "--run", "--run-dir", metavar="DIR",
        help="Where the run lives: its state, its log, its bundle. Under torchrun say --run-dir: --run is its own.",
    ),
]  # fmt: skip
Steps = Annotated[int | None, typer.Option(metavar="N", min=1, help="Stop after N optimiser steps in all.")]
Minutes = Annotated[
    float | None,
    typer.Option(
        metavar="MIN",
        help="Stop after so many minutes of training in all; reading the pictures, and checkpoints, which take a tenth "
        "at most, come on top.",
    ),
]
Batch = Annotated[int, typer.Option(metavar="CROPS", min=1, help="Crops a batch.")]
Crop = Annotated[int, typer.Option(metavar="PX", min=32, help="Side of a crop, a multiple of 32.")]
Noise = Annotated[
    str | None,
    typer.Option(
        metavar="KIND=PARTS,…",
        help="What --data is degraded by, if not by the usual mixture: awgn=6,film=4. Kinds: awgn, camera, sensor, "
        "night, film, coarse, jpeg, bands, none.",
    ),
]
Accumulate = Annotated[int, typer.Option(metavar="N", min=1, help="Batches a step: as one of N times the crops.")]
Rate = Annotated[float, typer.Option("--lr", metavar="RATE", help="Peak learning rate; it falls to zero at the end.")]
Optimiser = Annotated[
    str,
    typer.Option(
        metavar="muon|adamw",
        help="muon gains more a minute; adamw is for comparison.",
        autocompletion=completion.words("muon", "adamw"),
    ),
]
Loss = Annotated[
    str,
    typer.Option(
        metavar="l1|rms",
        help="l1 learns faster; rms, at the end, gains a little PSNR.",
        autocompletion=completion.words("l1", "rms"),
    ),
]
Network = Annotated[
    str | None,
    typer.Option(
        "--generator",
        metavar="fusion|unet",
        help="A copy of the reconstruction, or a U-Net from nothing; by default what --from has, else fusion.",
        autocompletion=completion.words("fusion", "unet"),
    ),
]
Process = Annotated[
    str,
    typer.Option(
        metavar="rng|rddm",
        help="What is learned: RnG's generator; or RDDM's walk, by a copy of the reconstruction (--generator is void).",
        autocompletion=completion.words("rng", "rddm"),
    ),
]
Sees = Annotated[
    str,
    typer.Option(
        "--sees", metavar="bands|parts|noisy",
        help="What the controller goes by: statistics of what was removed and of what is left, these two themselves, "
        "or the noisy tile; the last two by the paper's network, which wants a --lr of 0.003.",
        autocompletion=completion.words("bands", "parts", "noisy"),
    ),
]  # fmt: skip
Origin = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="NAME|FILE",
        help="Begin a run with a trained model's networks: fine-tune it.",
        autocompletion=completion.models,
    ),
]
Weight = Annotated[
    float,
    typer.Option(
        metavar="WEIGHT", min=0, help="Of LPIPS beside the squared error, 25 in the shipped model: detail, less PSNR."
    ),
]
Size = Annotated[
    str,
    typer.Option(
        metavar="xs|s|m", help="Size of the networks.", autocompletion=completion.words("xs", "s", "m")
    ),
]
Device = Annotated[
    str,
    typer.Option(metavar="auto|cpu|cuda[:i]", help="Where to train.", autocompletion=completion.devices),
]
Seed = Annotated[int, typer.Option(metavar="N", help="Of weights, crops and noise.")]
Compile = Annotated[bool, typer.Option("--compile/--no-compile", help="torch.compile: twice the speed after a minute.")]
Patches = Annotated[int, typer.Option(metavar="N", min=10, help="Patches to label, in all.")]
Lpips = Annotated[Path | None, typer.Option("--lpips-weights", metavar="DIR", help="Where LPIPS's weights lie.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only failures.")]
Debug = Annotated[bool, typer.Option("--debug", help="Tracebacks.")]


@train.command()
def reconstruct(
    run: RunFolder,
    data: OptionalData = None,
    pairs: Pairs = None,
    pairs_share: PairsShare = 0.5,
    steps: Steps = None,
    minutes: Minutes = None,
    noise: Noise = None,
    batch: Batch = 16,
    accumulate: Accumulate = 1,
    crop: Crop = 128,
    lr: Rate = 1e-3,
    optimiser: Optimiser = "muon",
    loss: Loss = "l1",
    origin: Origin = None,
    size: Size = "s",
    device: Device = "auto",
    seed: Seed = 0,
    compile: Compile = True,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Stage 1: NAFNet learns to remove noise. Run again with more --minutes or --steps to go on."""
    with _hosted(quiet) as host:
        from ..data.degrade import mixture
        from ..data.training_data import TrainingData
        from ..training.recipe import Recipe
        from ..training.spec import TrainSpec

        spec = TrainSpec(steps, minutes, lr, accumulate=accumulate, optimiser=optimiser, compile=compile)
        source = TrainingData(data, crop, batch, pairs, pairs_share, mixture(noise))
        Recipe(run, device, size, seed, origin, host).reconstruct(source, spec, loss)


@train.command()
def generate(
    run: RunFolder,
    data: OptionalData = None,
    pairs: Pairs = None,
    pairs_share: PairsShare = 0.5,
    steps: Steps = None,
    minutes: Minutes = None,
    noise: Noise = None,
    batch: Batch = 16,
    accumulate: Accumulate = 1,
    crop: Crop = 128,
    lr: Rate = 1e-3,
    optimiser: Optimiser = "muon",
    process: Process = "rng",
    generator: Network = None,
    perceptual: Weight = 0.0,
    lpips_weights: Lpips = None,
    origin: Origin = None,
    size: Size = "s",
    device: Device = "auto",
    seed: Seed = 0,
    compile: Compile = True,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Stage 2: with the reconstruction frozen, the diffusion model learns the residual."""
    if process not in ("rng", "rddm"):
        raise UsageError(f"unknown --process {process!r}", "use rng or rddm")
    with _hosted(quiet) as host:
        from ..data.degrade import mixture
        from ..data.training_data import TrainingData
        from ..training.recipe import Recipe
        from ..training.spec import TrainSpec

        spec = TrainSpec(steps, minutes, lr, accumulate=accumulate, optimiser=optimiser, compile=compile)
        source = TrainingData(data, crop, batch, pairs, pairs_share, mixture(noise))
        recipe = Recipe(run, device, size, seed, origin, host)
        if process == "rddm":
            recipe.walk(source, spec, perceptual, lpips_weights)
        else:
            recipe.generate(source, spec, generator, perceptual, lpips_weights)


@train.command()
def prior(
    data: Data,
    run: RunFolder,
    steps: Steps = None,
    minutes: Minutes = None,
    batch: Batch = 16,
    accumulate: Accumulate = 1,
    crop: Crop = 128,
    lr: Rate = 1e-3,
    optimiser: Optimiser = "muon",
    origin: Origin = None,
    device: Device = "auto",
    seed: Seed = 0,
    compile: Compile = True,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """For DiffPIR: a copy of the reconstruction learns white noise of any strength, σ 2 to 510 of 255."""
    with _hosted(quiet) as host:
        from ..data.training_data import TrainingData
        from ..training.recipe import Recipe
        from ..training.spec import TrainSpec

        spec = TrainSpec(steps, minutes, lr, accumulate=accumulate, optimiser=optimiser, compile=compile)
        Recipe(run, device, seed=seed, origin=origin, host=host).prior(TrainingData(data, crop, batch), spec)


@train.command()
def controller(
    data: Data,
    run: RunFolder,
    patches: Patches = 1000,
    steps: Steps = None,
    minutes: Minutes = None,
    batch: Batch = 64,
    lr: Rate = 1e-2,
    sees: Sees = "bands",
    lpips_weights: Lpips = None,
    device: Device = "auto",
    seed: Seed = 0,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Stage 3: search the schedule by LPIPS, label patches with their best budget, learn to choose it."""
    with _hosted(quiet) as host:
        from ..data.training_data import TrainingData
        from ..training.labels import PATCH
        from ..training.recipe import Recipe
        from ..training.spec import TrainSpec

        spec, source = TrainSpec(steps, minutes, lr), TrainingData(data, PATCH, batch)
        Recipe(run, device, seed=seed, host=host).controller(source, spec, sees, patches, lpips_weights)


def _hosted(quiet: bool) -> AbstractContextManager[Host]:
    """What is refused within is said once, by the first of several ranks."""
    from .progress import Narrator, waiting

    first = os.environ.get("RANK", "0") == "0"  # as torchrun counts
    with waiting("loading …", quiet or not first, lasting="torch" not in sys.modules):
        from ..device import heed_cpu_quota
        from ..training.host import hosted  # torch, which takes seconds
    heed_cpu_quota()
    return hosted(Narrator(quiet))
