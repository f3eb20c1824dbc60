"""What `rng denoise` and `rng restore` do once they are parsed: plan, run, tell, report."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ..batch.inputs import Naming, Outcome, checked, is_dng, keep_apart, told
from ..batch.report import check_report
from ..batch.shards import Shard
from ..errors import EnvironmentFault, Exit, Interrupted, PictureError, RngError, UsageError
from ..images import Format, RawSpace, ReadOptions, WriteOptions, format_named
from ..signals import interruptible
from . import presets, progress
from .asked import Asked
from .operands import PIPE, Operands
from .options import MOST_STEPS
from .reporter import Reporter
from .run_report import RunReport
from .stdio import run_piped
from .window import Window, check_preview

if TYPE_CHECKING:
    from ..batch.batch import Batch
    from ..batch.batch_options import BatchOptions
    from ..batch.file_options import Score
    from ..batch.ray_cluster import Cluster
    from ..methods.contract import Request


def process(given: Mapping[str, Any], asked: Callable[[], Asked] = Asked) -> Exit:
    """Do what the options of `denoise` say, `given` by their names; other commands have more `asked` for."""
    # What Pillow remarks on in metadata concerns programmers; what concerns the user comes as a note or an error.
    warnings.filterwarnings("ignore", module="PIL")
    with Reporter(given["json"], given["quiet"], given["log"]) as tell, tell.failures(), interruptible():
        if line := presets.used(given):
            tell.say(line)
        if given["preview"]:
            return _preview(given, tell)
        operands = Operands(tuple(given["paths"] or ()), given["out"], given["files_from"], given["null"])
        files_only = ("suffix", "reference", "report", "step_map", "shard", "ray", "dry_run", "mask")
        named_only = [name for name in files_only if given.get(name)]
        operands.check([f"--{name.replace('_', '-')}" for name in named_only], given["json"])
        report, step_map = given["report"], given["step_map"]
        shard = Shard.named(given["shard"]) if given["shard"] else None
        if report:
            check_report(report)
            if given["log"] and given["log"].absolute() == report.absolute():
                raise UsageError("--log and --report are one file", "give each its own")
        _check_reference(given["reference"])
        naming = Naming(given["suffix"], format_asked(given["format"]))

        with progress.waiting("loading …", given["quiet"]):
            from ..batch.batch import Batch
            from ..device import heed_cpu_quota

        heed_cpu_quota()
        to_dng = is_dng(operands.target, naming)
        options = options_of(given, naming.format, to_dng, asked())
        if to_dng and options.operator and options.operator.scale > 1:
            raise UsageError("a DNG holds a camera's pixels at their own size", "leave out --format dng")
        if operands.piped:
            if operands.target != PIPE:
                checked(operands.target, naming)
            return run_piped(operands, options, tell)
        inputs = operands.plan(naming, step_map)
        inputs = shard.of(inputs) if shard else inputs
        if step_map:
            keep_apart(inputs.tasks, step_map)
        batch = Batch(inputs, options)
        return _say_what_would_be_done(batch, tell) if given["dry_run"] else _run(batch, report, tell)


def options_of(given: Mapping[str, Any], format: Format | None, to_dng: bool, asked: Asked) -> BatchOptions:
    """How pictures are done, read and written; UsageError where a word among it is not known."""
    from ..batch.batch_options import BatchOptions
    from ..batch.file_options import FileOptions
    from ..inference.strength import Strength

    files = FileOptions(
        ReadOptions(
            given["max_pixels"], given["raw_bright"], _raw_space(given["raw_space"]), to_dng, given["keep_hot_pixels"]
        ),
        WriteOptions(given["quality"], given["strip_metadata"]),
        fail_fast=given["fail_fast"],
        reference=given["reference"],
        step_maps=given["step_map"],
        masks=asked.masks,
        strength=Strength(given["strength"] * given["luma"], given["strength"] * given["chroma"]),
    )
    return BatchOptions(
        _request(given), given["model"], given["device"], given["precision"], given["batch_size"] or None,
        format, files, given["overwrite"], given["method"], asked.operator, asked.recipe, _cluster(given),
    )  # fmt: skip


def _cluster(given: Mapping[str, Any]) -> Cluster | None:
    from ..batch.ray_cluster import Cluster

    if not given["ray"]:
        if given["workers"]:
            raise UsageError("--workers is about a cluster", "add --ray ADDRESS|local")
        return None
    if given["device"] != "auto":
        raise UsageError("--device is the cluster's own to choose with --ray", "leave it out")
    return Cluster(given["ray"], given["workers"])


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
    options = options_of(given, None, False, Asked())
    preview(given["paths"] or (), window, file, options, tell)
    return Exit.OK


def _check_reference(reference: Path | None) -> None:
    if reference and not reference.is_dir():
        raise UsageError(f"--reference {reference} is no folder", "give the folder of the clean pictures")


def format_asked(name: str | None) -> Format | None:
    """What --format names, a format or a suffix of one."""
    meant = format_named(name)
    if meant is None or meant in get_args(Format):
        return meant  # type: ignore[return-value]
    raise UsageError(f"unknown --format {name!r}", f"use one of {', '.join(get_args(Format))}")


def _raw_space(name: str) -> RawSpace:
    if name in get_args(RawSpace):
        return name  # type: ignore[return-value]
    raise UsageError(f"unknown --raw-space {name!r}", f"use one of {', '.join(get_args(RawSpace))}")


def _request(given: Mapping[str, Any]) -> Request:
    from ..methods.contract import Request

    steps = given["steps"]
    if steps != "auto" and (not steps.isdecimal() or int(steps) > MOST_STEPS):
        raise UsageError(f"--steps {steps!r} is neither auto nor a number", f"give auto, or a number 0..{MOST_STEPS}")
    number = None if steps == "auto" else int(steps)
    return Request(given["max_steps"], number, given["detail"], given["seed"],
                   noise_scale=given["noise_scale"], sigma=_sigma(given["sigma"]),
                   keep_banding=given["keep_banding"])  # fmt: skip


def _sigma(text: str) -> float | None:
    """On the [0, 1] scale; None: estimated."""
    if text == "auto":
        return None
    try:
        sigma = float(text)
    except ValueError:
        sigma = -1.0
    if not 0 <= sigma <= 255:
        raise UsageError(f"--sigma {text!r} is neither auto nor a noise level", "give auto, or a number 0..255")
    return sigma / 255


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
