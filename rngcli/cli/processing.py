"""What `rng denoise` and `rng restore` do once they are parsed: plan, run, tell, report."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..batch.inputs import Naming, Outcome, checked, is_dng, keep_apart, told
from ..batch.report import check_report
from ..batch.shards import Shard
from ..errors import EnvironmentFault, Exit, Interrupted, PictureError, RngError, UsageError
from ..signals import interruptible
from . import presets, progress
from .operands import PIPE, Operands
from .reporter import Reporter
from .restoration import Restoration
from .run_report import RunReport
from .settings import format_asked, options_of
from .stdio import run_piped
from .window import Window, check_preview

if TYPE_CHECKING:
    from ..batch.batch import Batch
    from ..batch.batch_options import BatchOptions
    from ..batch.file_options import Score


def run_command(given: Mapping[str, Any], restoration: Callable[[], Restoration] = Restoration) -> Exit:
    """Do what the options of `denoise` say, `given` by their names; other commands have a `restoration` to do."""
    # What Pillow remarks on in metadata concerns programmers; what concerns the user comes as a note or an error.
    warnings.filterwarnings("ignore", module="PIL")
    with Reporter(given["json"], given["quiet"], given["log"]) as tell, tell.failures(), interruptible():
        if line := presets.used(given):
            tell.say(line)
        if given["preview"]:
            return _preview(given, tell)
        places = _Places.of(given)
        options = _loaded(given, places, restoration)
        if places.operands.piped:
            return run_piped(places.operands, options, tell)
        batch = places.batch(options)
        return _say_what_would_be_done(batch, tell) if given["dry_run"] else _run(batch, given["report"], tell)


@dataclass(frozen=True)
class _Places:
    """What is read and where results go: all that can be refused before torch is loaded."""

    operands: Operands
    naming: Naming
    shard: Shard | None
    step_map: Path | None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> _Places:
        operands = Operands(tuple(given["paths"] or ()), given["out"], given["files_from"], given["null"])
        files_only = ("suffix", "reference", "report", "step_map", "shard", "ray", "dry_run", "mask")
        named_only = [name for name in files_only if given.get(name)]
        operands.check([f"--{name.replace('_', '-')}" for name in named_only], given["json"])
        shard = Shard.named(given["shard"]) if given["shard"] else None
        _check_report(given["report"], given["log"])
        _check_reference(given["reference"])
        naming = Naming(given["suffix"], format_asked(given["format"]))
        if operands.piped and operands.target != PIPE:
            checked(operands.target, naming)
        return cls(operands, naming, shard, given["step_map"])

    def batch(self, options: BatchOptions) -> Batch:
        """All pictures of the run, sorted out."""
        from ..batch.batch import Batch

        inputs = self.operands.plan(self.naming, self.step_map)
        inputs = self.shard.of(inputs) if self.shard else inputs
        if self.step_map:
            keep_apart(inputs.tasks, self.step_map)
        return Batch(inputs, options)


def _loaded(given: Mapping[str, Any], places: _Places, restoration: Callable[[], Restoration]) -> BatchOptions:
    """The options of the batch; torch is loaded for them."""
    with progress.waiting("loading …", given["quiet"]):
        from ..batch import batch  # noqa: F401 - what takes the time
        from ..device import heed_cpu_quota

    heed_cpu_quota()
    to_dng = is_dng(places.operands.target, places.naming)
    options = options_of(given, places.naming.format, to_dng, restoration())
    if to_dng and options.operator and options.operator.scale > 1:
        raise UsageError("a DNG holds a camera's pixels at their own size", "leave out --format dng")
    return options


def _check_report(report: Path | None, log: Path | None) -> None:
    if report:
        check_report(report)
        if log and log.absolute() == report.absolute():
            raise UsageError("--log and --report are one file", "give each its own")


def _preview(given: Mapping[str, Any], tell: Reporter) -> Exit:
    place, file = given["preview"]
    if given["out"] or given["files_from"] or Path("-") in (given["paths"] or ()):
        raise UsageError("--preview takes pictures or folders, and writes its own file", "rng denoise IN --preview …")
    window = Window.parsed(place)
    check_preview(file)
    with progress.waiting("loading …", given["quiet"]):
        from ..device import heed_cpu_quota
        from .preview import preview

    heed_cpu_quota()
    options = options_of(given, None, False, Restoration())
    preview(given["paths"] or (), window, file, options, tell)
    return Exit.OK


def _check_reference(reference: Path | None) -> None:
    if reference and not reference.is_dir():
        raise UsageError(f"--reference {reference} is no folder", "give the folder of the clean pictures")


def _forecast(batch: Batch) -> str:
    """How long `todo` will take; why that cannot be said, where the model cannot do it, or others will."""
    if batch.options.cluster:
        return "how long it takes cannot be said: the cluster's machines do it"
    try:
        with progress.waiting("measuring a tile …"):
            from .forecast import forecast

            options = batch.options
            sources = [task.source for task in batch.todo]
            return forecast(sources, batch.pipeline, options.request, len(options.devices))
    except RngError as error:
        return f"how long it takes cannot be said: {error.cause}"


def _say_what_would_be_done(batch: Batch, tell: Reporter) -> Exit:
    for task in batch.todo:
        tell.say(f"{task.source} -> {task.target}")
    took = _forecast(batch) if batch.todo else ""
    for outcome in batch.refused:
        tell.say(f"refused: {outcome.task.name}: {outcome.error}")
    refused = f", {len(batch.refused)} refused" if batch.refused else ""
    tell.say(f"{len(batch.todo)} to do, {len(batch.done)} done already{refused}")
    if took:
        tell.say(took)
    if batch.passed_over:
        tell.say(told(batch.passed_over))
    return Exit.OK


def _run(batch: Batch, path: Path | None, tell: Reporter) -> Exit:
    """Do it; every outcome is told and reported, also when the run is cut short."""
    if batch.begins:
        with progress.waiting("loading the model …", tell.quiet):
            batch.prepare()
    outcomes: list[Outcome] = []
    report = RunReport(path, batch, tell.quiet) if path else None
    cut_short = True
    faults: list[EnvironmentFault] = []  # of streams: they end no run, but are told at its end
    try:
        for outcome in _outcomes(batch, tell):
            outcomes.append(outcome)
            if report:
                report.add(outcome)
            try:
                tell.outcome(outcome)
            except EnvironmentFault as fault:
                faults.append(fault)
        cut_short = False
    except PictureError:  # --fail-fast; the summary names it
        pass
    except KeyboardInterrupt:
        done = sum(not outcome.before for outcome in outcomes) - len(batch.refused)
        after = f"interrupted after {done} of {progress.counted(len(batch.todo), 'pictures')}"
        raise Interrupted(after, tell.goes_on) from None
    finally:
        outcomes[:] = batch.lost(outcomes)
        try:
            if report:
                report.write(outcomes, cut_short)
        finally:
            tell.summary(outcomes, len(batch.tasks), batch.passed_over)
    if faults:
        raise faults[0]
    return Exit.SOME_FAILED if any(outcome.error for outcome in outcomes) else Exit.OK


def _outcomes(batch: Batch, tell: Reporter) -> Iterator[Outcome]:
    """All of a batch: what is refused, what was done before, and what is done now."""
    yield from batch.refused
    score = _judge(tell) if batch.options.files.reference else None
    yield from batch.before(score)
    if batch.begins:
        calls = 2 if batch.options.request.generates else 1
        with tell.progress(len(batch.todo), calls) as watch, closing(batch.run(watch, score)) as outcomes:
            yield from outcomes


def _judge(tell: Reporter) -> Score:
    """PSNR [dB], SSIM, and LPIPS where its weights are at hand."""
    from ..metrics.suite import Judge, Options

    judge = Judge(Options(usual=("psnr", "ssim", "lpips")))
    for note in judge.notes:
        tell.say(note)
    return judge.score
