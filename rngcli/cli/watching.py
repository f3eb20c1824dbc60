"""What `rng watch` does: look what there is to do whenever the folder changes, do what has stopped growing, tell."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..batch.batch import Batch
from ..batch.batch_options import BatchOptions
from ..batch.inputs import Naming, Outcome, Task, keep_apart, plan
from ..batch.manifest import Stamp, stamp
from ..batch.report import Row, check_report, rows_of, write_report
from ..batch.shards import Shard
from ..device import heed_cpu_quota
from ..errors import Exit, NoInputError, UsageError
from ..inference.pipeline import Pipeline
from ..signals import interruptible
from .presets import used
from .reporter import Reporter
from .restoration import Restoration
from .settings import format_asked, options_of

POLL = 2.0  # [s] between two looks, where nothing tells of changes
STILL = 1.0  # [s] for which a file must not have changed: then it is whole


def watch_folder(folder: Path, out: Path, given: Mapping[str, Any]) -> Exit:
    """Until a signal ends it; SOME_FAILED where any picture could not be done.

    Raises Interrupted where the signal came while pictures were under way, and what ends a batch.
    """
    warnings.filterwarnings("ignore", module="PIL")
    if not folder.is_dir():
        raise NoInputError(f"{folder} is no folder", "name the folder that fills up")
    heed_cpu_quota()
    with Reporter(given["json"], given["quiet"], given["log"]) as tell, tell.failures(), interruptible():
        if given["report"]:
            check_report(given["report"])
            if given["report"].suffix == ".html":
                raise UsageError("a page is made of a run that ends", "give a .json or a .csv to --report")
        shard = Shard.named(given["shard"]) if given["shard"] else None
        format = format_asked(given["format"])
        options = options_of(given, format, format == "dng", Restoration())
        watched = Watched(folder, out, Naming(given["suffix"], format), options, shard)
        watched.check()
        for line in filter(None, (used(given), f"watching {folder} -> {out}; Ctrl-C ends it")):
            tell.say(line)
        working = 0.0  # [s]: the speed that the summary tells is that of the work, not of the waiting
        try:
            for _ in _looks(folder, watched):
                begun, told = time.monotonic(), len(watched.outcomes)
                try:
                    for _ in watched.round(tell):
                        pass
                finally:
                    working += (time.monotonic() - begun) * (len(watched.outcomes) > told)
                    if given["report"]:
                        write_report(given["report"], watched.rows())
        except KeyboardInterrupt:
            if watched.busy:
                raise
        finally:
            tell.summary(list(watched.outcomes.values()), len(watched.known), watched.passed_over, working)
    return Exit.SOME_FAILED if any(outcome.error for outcome in watched.outcomes.values()) else Exit.OK


@dataclass
class Watched:
    """A folder and what is known of its pictures: which were seen in which state, and what became of them."""

    folder: Path
    out: Path
    naming: Naming
    options: BatchOptions
    shard: Shard | None = None
    known: dict[str, Task] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)  # by the pictures' names: the last of each
    passed_over: Counter[str] = field(default_factory=Counter)
    growing: bool = False  # whether a file is waited for
    busy: bool = False  # whether pictures are under way
    _seen: dict[Path, tuple[Stamp, float]] = field(default_factory=dict)  # since when [s] a file is as it is
    _tried: dict[Path, Stamp] = field(default_factory=dict)  # the state in which a picture failed
    _refused: set[str] = field(default_factory=set)  # pictures that others, or other files, stand in the way of
    _pipeline: Pipeline | None = None  # of all rounds, where there is one device

    def check(self) -> None:
        """Before any wait: UsageError and the like where the folder, the model or the settings cannot be meant."""
        if self.out.exists() and self.out.samefile(self.folder):
            raise UsageError("IN and OUT are the same", "give another OUT; inputs are never changed")
        several = len(self.options.devices) > 1  # each of which loads the networks in a process of its own
        if not several:
            self._pipeline = self.options.pipeline()
            self._pipeline.require(self.options.request)

    def round(self, tell: Reporter) -> Iterator[Outcome]:
        """Do what there is to do, and tell of it."""
        batch = self._planned()
        if batch is None:
            return
        self.busy = bool(batch.todo)
        for outcome in self._outcomes(batch, tell):
            self.outcomes[outcome.task.name] = outcome
            if outcome.error and outcome.task.name not in self._refused:
                with suppress(OSError):
                    self._tried[outcome.task.source] = stamp(outcome.task.source)
            tell.outcome(outcome)
            yield outcome
        self.busy = False

    def _planned(self) -> Batch | None:
        """What is there now and has stopped growing; None where there is nothing."""
        self.growing = False
        try:
            step_maps = self.options.files.step_maps
            inputs = plan([self.folder], self.out, self.naming, step_maps=step_maps)
            inputs = self.shard.of(inputs) if self.shard else inputs
        except NoInputError:
            return None
        if step_maps:
            keep_apart(inputs.tasks, step_maps)
        batch = Batch(inputs, self.options)
        if self._pipeline:
            batch.pipeline = self._pipeline
        self.passed_over = inputs.passed_over
        self._know(batch)
        batch.todo = [task for task in batch.todo if self._is_due(task)]
        return batch

    def _know(self, batch: Batch) -> None:
        """What there is; a refusal whose reason has gone is forgotten, with a picture that has gone for it."""
        refused = {outcome.task.name for outcome in batch.refused}
        for name in self._refused - refused:
            self.outcomes.pop(name, None)
            self.known.pop(name, None)
        self._refused = refused
        self.known |= {task.name: task for task in batch.tasks}

    def rows(self) -> list[Row]:
        """For a report: every picture that was seen, and what became of it."""
        return rows_of(list(self.known.values()), list(self.outcomes.values()))

    def _is_due(self, task: Task) -> bool:
        """Whether its file is whole, as far as its not changing says, and has not failed as it is."""
        try:
            now = stamp(task.source)
        except OSError:
            return False
        if self._tried.get(task.source) == now:
            return False
        state, since = self._seen.get(task.source, (None, 0.0))
        if state != now:
            self._seen[task.source] = (now, time.monotonic())
        elif time.monotonic() - since >= STILL:
            return True
        self.growing = True
        return False

    def _outcomes(self, batch: Batch, tell: Reporter) -> Iterator[Outcome]:
        """What is new of it: refusals and what was done before are told once."""
        for outcome in batch.refused:
            if outcome.task.name not in self.outcomes:
                yield outcome
        for outcome in batch.before():
            if outcome.task.name not in self.outcomes:
                yield outcome
        if batch.todo:
            batch.prepare()
            calls = 2 if batch.options.request.generates else 1
            with tell.progress(len(batch.todo), calls) as watch, closing(batch.run(watch)) as outcomes:
                yield from outcomes


def _looks(folder: Path, watched: Watched) -> Iterator[None]:
    """At once, whenever something below the folder changes, and soon again while a file is growing."""
    try:
        from watchfiles import watch
    except ImportError:
        while True:
            yield
            time.sleep(STILL if watched.growing else POLL)
    yield
    for change in watch(folder, yield_on_timeout=True, rust_timeout=int(1000 * STILL), ignore_permission_denied=True):
        if change or watched.growing:
            yield
