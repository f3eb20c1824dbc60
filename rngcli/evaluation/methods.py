"""What can be compared: the model in its ways of running, cheap rivals of it, the input, and classical baselines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np

from ..errors import UsageError
from ..inference.engine import Job, Result, denoise
from ..inference.pipeline import Pipeline
from ..methods import KINDS, methods_of
from ..methods.contract import Request
from . import baselines
from .reconstructions import Reconstructions
from .rivals import RIVALS

# Noisy pictures in, denoised ones out, one for one; σ on the 0-255 scale where it is known.
Denoiser = Callable[[Iterable[Job], float | None], Iterator[Result]]
_GENERATES = "rng"  # whose PSNR the rivals of no strength of their own are to have


@dataclass(frozen=True)
class Column:
    """A column of the comparison: its name in the report, and what it does.

    `against` names the column whose PSNR it is to have, on every picture; it then takes `rivals.TargetJob`s.
    """

    name: str
    run: Denoiser
    against: str | None = None
    uses_reconstruction: bool = False


@dataclass(frozen=True)
class Sweep:
    """The values that `rng` and `fixed:N` are run with, each combination a method of its own."""

    details: tuple[float, ...] = (1.0,)
    max_steps: tuple[int | None, ...] = (None,)  # None: what suits the method
    seed: int = 0


def methods(
    names: Sequence[str],
    sweep: Sweep,
    pipeline: Callable[[], Pipeline],
    reconstructions: Reconstructions | None = None,
) -> list[Column]:
    """What `names` ask for: a method of the model, reconstruct, fixed:N, budget:K, input, nlm, wavelet, bm3d, and
    blend:W and grain:S, of which blend and grain alone have the PSNR of each column of `rng`.

    `pipeline` is called once, when the first of them needs a model. Raises UsageError for other names.
    """
    pipeline = cache(pipeline)
    kept = reconstructions or Reconstructions(pipeline)
    found: list[Column] = []
    for name in names:
        if name == "input":
            found.append(Column("input", _input))
        elif name in baselines.BASELINES:
            found.append(Column(name, partial(_baseline, name)))
        elif name.partition(":")[0] in RIVALS:
            found += _rivals(name, names, sweep, kept)
        elif name == "reconstruct":
            found.append(Column(name, partial(_reconstruct, pipeline(), Request(detail=0, seed=sweep.seed), kept)))
        else:
            requests = _requests(name, sweep)
            chosen = pipeline() if ":" in name else _method(pipeline(), name)
            found += [Column(label, partial(_network, chosen, request)) for label, request in requests.items()]
    labels = [column.name for column in found]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice:
        raise UsageError(f"the method {twice} is asked for twice", "name each once")
    return found


def _rivals(name: str, names: Sequence[str], sweep: Sweep, kept: Reconstructions) -> list[Column]:
    """One rival of a strength, or as many as there are columns of `rng` to match."""
    kind, _, given = name.partition(":")
    rival = RIVALS[kind]
    if ":" in name:
        try:
            strength = float(given)
        except ValueError:
            strength = -1.0
        if not 0 <= strength <= rival.most:
            raise UsageError(f"{name} has no strength of 0 to {rival.most:g}", f"say {kind}:0.05, or {kind} alone")
        return [Column(name, partial(rival.run, kept, strength, sweep.seed), None, True)]
    if _GENERATES not in names:
        remedy = f"add {_GENERATES} to --method, or say how much: {kind}:0.05"
        raise UsageError(f"{kind} is to cost as much PSNR as {_GENERATES}, which is not measured", remedy)
    against = list(_requests(_GENERATES, sweep))
    run = partial(rival.run, kept, None, sweep.seed)
    return [Column(kind + label.removeprefix(_GENERATES), run, label, True) for label in against]


def _method(pipeline: Pipeline, name: str) -> Pipeline:
    """A method of the model by its name."""
    if name not in (held := methods_of(pipeline.bundle)):
        raise _unknown(name, *held)
    return pipeline if name == pipeline.name else pipeline.with_method(name)


def _unknown(name: str, *held: str) -> UsageError:
    rivals = (f"{kind}{strength}" for kind in RIVALS for strength in ("", ":STRENGTH"))
    known = (*held, "reconstruct", "fixed:N", "budget:K", *rivals, "input", *baselines.BASELINES)
    return UsageError(f"no method is called {name!r}", f"choose from {', '.join(known)}")


def _requests(name: str, sweep: Sweep) -> dict[str, Request]:
    """What the engine is asked for, by the label in the report."""
    kind, _, count = name.partition(":")
    number = int(count) if count.isdecimal() else None
    if kind == "fixed" and number is not None:
        wanted = {name: Request(number, number)}
    elif kind == "budget" and number is not None:
        wanted = {name: Request(budget=number)}
    elif ":" not in name:
        wanted = {name if len(sweep.max_steps) == 1 else f"{name} max={n}": Request(n) for n in sweep.max_steps}
    else:
        raise _unknown(name, *KINDS)
    return {
        label if len(sweep.details) == 1 else f"{label} detail={detail:g}": replace(
            request, detail=detail, seed=sweep.seed
        )
        for label, request in wanted.items()
        for detail in sweep.details
    }


def _network(pipeline: Pipeline, request: Request, jobs: Iterable[Job], sigma: float | None) -> Iterator[Result]:
    return denoise(jobs, pipeline, request)


def _reconstruct(
    pipeline: Pipeline, request: Request, kept: Reconstructions, jobs: Iterable[Job], sigma: float | None
) -> Iterator[Result]:
    return kept.keep(denoise(jobs, pipeline, request))


def _input(jobs: Iterable[Job], sigma: float | None) -> Iterator[Result]:
    """The noisy picture as it is, not even clamped: its PSNR is what the noise alone makes it."""
    for job in jobs:
        yield Result(job.key, job.pixels, np.zeros((0, 0), np.int32), 0.0)


def _baseline(name: str, jobs: Iterable[Job], sigma: float | None) -> Iterator[Result]:
    for job in jobs:
        start = time.monotonic()
        pixels = baselines.run(name, job.pixels, sigma)
        yield Result(job.key, pixels, np.zeros((0, 0), np.int32), time.monotonic() - start)
