"""What can be compared: the model in its ways of running, the input as it is, and the classical baselines."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..errors import UsageError
from ..inference.engine import Job, Result, denoise
from ..inference.pipeline import Pipeline
from ..methods import methods_of
from ..methods.contract import Request
from . import baselines

# Noisy pictures in, denoised ones out, one for one; σ on the 0-255 scale where it is known.
Denoiser = Callable[[Iterable[Job], float | None], Iterator[Result]]
_GRAIN = re.compile(r"grain:\d+(\.\d+)?")  # its strength on the 0-255 scale


@dataclass(frozen=True)
class Column:
    """A column of the comparison: its name in the report, and what it does."""

    name: str
    run: Denoiser


@dataclass(frozen=True)
class Sweep:
    """The values that `rng` and `fixed:N` are run with, each combination a method of its own."""

    details: tuple[float, ...] = (1.0,)
    max_steps: tuple[int, ...] = (100,)
    seed: int = 0


def methods(names: Sequence[str], sweep: Sweep, pipeline: Callable[[], Pipeline]) -> list[Column]:
    """What `names` ask for: a method of the model, reconstruct, fixed:N, budget:K, grain:S, input, nlm, wavelet, bm3d.

    `pipeline` is called once, when the first of them needs a model. Raises UsageError for other names.
    """
    found: list[Column] = []
    opened: list[Pipeline] = []
    for name in names:
        if name == "input":
            found.append(Column("input", _input))
        elif name in baselines.BASELINES:
            found.append(Column(name, partial(_baseline, name)))
        elif _GRAIN.fullmatch(name):
            opened = opened or [pipeline()]
            found.append(Column(name, partial(_grain, opened[0], float(name.removeprefix("grain:")) / 255)))
        else:
            requests = _requests(name, sweep)
            opened = opened or [pipeline()]
            chosen = opened[0] if ":" in name or name == "reconstruct" else _method(opened[0], name)
            found += [Column(label, partial(_network, chosen, request)) for label, request in requests.items()]
    labels = [column.name for column in found]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice:
        raise UsageError(f"the method {twice} is asked for twice", "name each once")
    return found


def _method(pipeline: Pipeline, name: str) -> Pipeline:
    """A method of the model by its name."""
    if name not in (held := methods_of(pipeline.bundle)):
        raise _unknown(name, *held)
    return pipeline if name == pipeline.name else pipeline.with_method(name)


def _unknown(name: str, *held: str) -> UsageError:
    known = (*held, "reconstruct", "fixed:N", "budget:K", "grain:S", "input", *baselines.BASELINES)
    return UsageError(f"no method is called {name!r}", f"choose from {', '.join(known)}")


def _requests(name: str, sweep: Sweep) -> dict[str, Request]:
    """What the engine is asked for, by the label in the report."""
    kind, _, count = name.partition(":")
    if name == "reconstruct":
        return {name: Request(detail=0, seed=sweep.seed)}
    number = int(count) if count.isdecimal() else None
    if kind == "fixed" and number is not None:
        wanted = {name: Request(number, number)}
    elif kind == "budget" and number is not None:
        wanted = {name: Request(budget=number)}
    elif ":" not in name:
        wanted = {name if len(sweep.max_steps) == 1 else f"{name} max={n}": Request(n) for n in sweep.max_steps}
    else:
        raise _unknown(name, "rng")
    return {
        label if len(sweep.details) == 1 else f"{label} detail={detail:g}": replace(
            request, detail=detail, seed=sweep.seed
        )
        for label, request in wanted.items()
        for detail in sweep.details
    }


def _network(pipeline: Pipeline, request: Request, jobs: Iterable[Job], sigma: float | None) -> Iterator[Result]:
    return denoise(jobs, pipeline, request)


def _grain(pipeline: Pipeline, strength: float, jobs: Iterable[Job], sigma: float | None) -> Iterator[Result]:
    """The reconstruction under white noise: the control for every claim about generated detail.

    LPIPS forgives grain; what a generator is worth is what it gains over grain that costs as much PSNR.
    """
    for result in denoise(jobs, pipeline, Request(detail=0)):
        grain = np.random.default_rng(0).normal(0, strength, result.pixels.shape)
        yield replace(result, pixels=(result.pixels + grain).clip(0, 1).astype(np.float32))


def _input(jobs: Iterable[Job], sigma: float | None) -> Iterator[Result]:
    """The noisy picture as it is, not even clamped: its PSNR is what the noise alone makes it."""
    for job in jobs:
        yield Result(job.key, job.pixels, np.zeros((0, 0), np.int32), 0.0)


def _baseline(name: str, jobs: Iterable[Job], sigma: float | None) -> Iterator[Result]:
    for job in jobs:
        start = time.monotonic()
        pixels = baselines.run(name, job.pixels, sigma)
        yield Result(job.key, pixels, np.zeros((0, 0), np.int32), time.monotonic() - start)
