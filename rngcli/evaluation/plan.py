"""What to measure: sets, methods and metrics, opened from what a person asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..data import Benchmark, named, paired, with_noise
from ..defaults import DEFAULT_MODEL
from ..errors import UsageError
from ..inference.pipeline import Pipeline
from ..metrics.suite import Judge, Options
from ..models.bundle import load
from .methods import Column, Sweep, methods
from .reconstructions import Reconstructions


@dataclass(frozen=True)
class EvaluationPlan:
    """What to measure. `examples` pictures of each case are kept for the eye."""

    benchmarks: Sequence[Benchmark]
    methods: Sequence[Column]
    judge: Judge
    examples: int = 3
    provenance: Mapping[str, str] = field(default_factory=dict)
    reconstructions: Reconstructions | None = None  # where columns or metrics need them

    def __post_init__(self) -> None:
        """Raises UsageError where a rival's PSNR cannot be measured."""
        rival = next((column for column in self.methods if column.against), None)
        if rival and not any(metric.key == "psnr" for metric in self.judge.metrics):
            raise UsageError(f"{rival.name} is to have the PSNR of {rival.against}", "add psnr to --metric")

    @property
    def in_order(self) -> Sequence[Column]:
        """The columns as they are to be measured: the reconstruction first, which others use; a rival after the column
        whose PSNR it is to have."""
        return sorted(self.methods, key=lambda column: (column.name != "reconstruct", column.against is not None))

    @property
    def needs_reconstruction(self) -> bool:
        wanted = self.judge.needs_reconstruction or any(column.uses_reconstruction for column in self.methods)
        return wanted and self.reconstructions is not None

    @property
    def total(self) -> int:
        """Rows that a whole run gives."""
        return len(self.methods) * sum(len(benchmark.keys) for benchmark in self.benchmarks)

    def fingerprint(self) -> dict[str, Any]:
        """What must be equal for rows of an earlier run to count in this one."""
        return {
            "sets": {b.name: [b.source, b.protocol] for b in self.benchmarks},
            "metrics": [asdict(metric) for metric in self.judge.metrics],
            "provenance": dict(self.provenance),
        }


@dataclass(frozen=True)
class SetOptions:
    """On what: exactly one of `dataset` (below `root`), `pairs` (noisy, clean) and `clean`.

    Clean pictures need noises, of `data.protocols` or white, and sigmas for the latter, on the 0-255 scale.
    limit: the first so many pictures. crop: centre crops of this side [px].
    """

    dataset: str | None = None
    root: Path | None = None
    pairs: tuple[Path, Path] | None = None
    clean: Path | None = None
    sigmas: tuple[float, ...] = ()
    noises: tuple[str, ...] = ()
    limit: int | None = None
    crop: int | None = None

    def benchmarks(self) -> list[Benchmark]:
        """The sets. Raises UsageError for what cannot be meant, NoInputError for what is not there."""
        return [benchmark.limited(self.limit).cropped(self.crop) for benchmark in self._whole()]

    def _whole(self) -> list[Benchmark]:
        given = [self.dataset, self.pairs, self.clean]
        if sum(source is not None for source in given) != 1:
            remedy = "--dataset NAME, --pairs NOISY CLEAN or --clean DIR --sigma S"
            raise UsageError("say what to measure on, once", remedy)
        if self.dataset is not None:
            return named(self.dataset, self.root, self.sigmas, self.noises)
        if self.pairs is not None:
            if self.sigmas or self.noises:
                raise UsageError("--pairs have noise of their own", "leave out --sigma and --noise")
            return [paired(*self.pairs)]
        assert self.clean is not None
        return with_noise(self.clean, self.sigmas, self.noises or ("awgn",))


@dataclass(frozen=True)
class ModelOptions:
    """A model's name or path, where it computes, at which precision, and on how many tiles at once (None: as suits)."""

    name: str = DEFAULT_MODEL
    device: str = "auto"
    precision: str = "auto"
    capacity: int | None = None

    def pipeline(self) -> Pipeline:
        return Pipeline(load(self.name), self.device, self.precision, self.capacity)


def open_plan(
    sets: SetOptions, names: Sequence[str], sweep: Sweep, model: ModelOptions, metrics: Options, examples: int = 3
) -> EvaluationPlan:
    """The plan for methods by name, over sets, by metrics; the model is loaded where a method needs it.

    Metrics are counted where the model computes, but not on Metal, which has no float64.
    """
    benchmarks = sets.benchmarks()
    opened: list[Pipeline] = []

    @cache
    def pipeline() -> Pipeline:
        opened.append(model.pipeline())
        return opened[0]

    reconstructions = Reconstructions(pipeline)
    columns = methods(names, sweep, pipeline, reconstructions)
    if "placement" in (metrics.names or ()) or any(column.uses_reconstruction for column in columns):
        pipeline()
    if opened and opened[0].device.type == "cuda":
        metrics = Options(**{**vars(metrics), "device": str(opened[0].device)})
    provenance = _provenance(opened, model.name, sweep)
    if matched := sorted({column.name.split()[0] for column in columns if column.against}):
        provenance[", ".join(matched)] = "as much as costs the PSNR of rng, picture by picture; its mean in brackets"
    return EvaluationPlan(benchmarks, columns, Judge(metrics), examples, provenance, reconstructions)


def _provenance(opened: Sequence[Pipeline], model: str, sweep: Sweep) -> dict[str, str]:
    facts = {"rng": __version__, "torch": torch.__version__, "numpy": np.__version__}
    for pipeline in opened:
        name = torch.cuda.get_device_name(pipeline.device) if pipeline.device.type == "cuda" else str(pipeline.device)
        facts |= {
            "model": f"{Path(model).stem} ({pipeline.bundle.hash or 'no file'})",
            "device": name,
            "precision": str(pipeline.dtype).removeprefix("torch."),
            "tiles in a batch": str(pipeline.capacity),
            "detail": ",".join(f"{detail:g}" for detail in sweep.details),
            "max steps": ",".join("the method's" if n is None else str(n) for n in sweep.max_steps),
            "seed": str(sweep.seed),
        }
    return facts
