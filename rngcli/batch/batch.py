"""A batch as a whole: what is to do, what is done already, what is refused; then the work, outcome by outcome."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EnvironmentFault, PictureError
from ..images import in_srgb, read_pages
from ..inference.pipeline import Pipeline
from . import devices, ray_actor, worker
from .batch_options import BatchOptions
from .file_options import FileOptions, Score, Watch
from .inputs import Inputs, Outcome, Task
from .manifest import Manifest, State
from .manifest_writer import Journal, journal_of, tidy
from .ownership import check_folder, is_own
from .reference import Reference
from .side_outputs import FIGURES, figures_of, scored
from .worker_process import Assignment

_REPLACE = "use --overwrite to replace it"
_REFUSED = {
    State.FOREIGN: ("exists and was not made by rng", _REPLACE),
    State.EDITED: ("was changed since rng made it, and is out of date", _REPLACE),
    State.OTHERS: ("was made from another source", f"give another OUT or a --suffix, or {_REPLACE}"),
}


class Batch:
    """Inputs sorted out by what the manifests know: `todo`, `done` before, and `refused`.

    Refused is what would cost a file that rng did not make, or that it made from another source, unless `overwrite`
    allows that; and what `inputs` already refuses.
    """

    def __init__(self, inputs: Inputs, options: BatchOptions) -> None:
        self.options, self.folder, self.passed_over = options, inputs.folder, inputs.passed_over
        self.manifest = Manifest(inputs.folder)
        self.maps = Manifest(options.files.step_maps) if options.files.step_maps else None
        self.tasks = [*inputs.tasks, *(outcome.task for outcome in inputs.refused)]
        self.todo: list[Task] = []
        self.done: list[Task] = []
        self.refused = list(inputs.refused)
        for task in inputs.tasks:
            self._sort_out(task)

    def _sort_out(self, task: Task) -> None:
        if self.options.overwrite:
            self.todo.append(task)
            return
        state = self.manifest.state(task.source, task.target, lambda: self.options.digest)
        mapped = self._map_state(task)
        if state in _REFUSED:
            self._refuse(task, task.target, state)
        elif state is State.DONE and mapped in (None, State.DONE):
            self.done.append(task)
        elif mapped in _REFUSED and self.options.files.step_maps:
            self._refuse(task, task.step_map(self.options.files.step_maps), mapped)
        else:
            self.todo.append(replace(task, fresh=state is State.NEW))

    def _refuse(self, task: Task, path: Path, state: State) -> None:
        cause, remedy = _REFUSED[state]
        self.refused.append(Outcome(task, PictureError(f"{path} {cause}", remedy)))

    def _map_state(self, task: Task) -> State | None:
        """What there is to do for the step map of a picture; None where none is asked for."""
        if not self.maps:
            return None
        path = task.step_map(self.maps.folder)
        state = self.maps.state(task.source, path, lambda: self.options.digest)
        # Before version 2 no manifest knew step maps; they name their maker.
        return State.DONE if state is State.FOREIGN and not self.maps.last(path) and is_own(path) else state

    @property
    def begins(self) -> bool:
        """Whether there is anything to run: something to do, and no refusal that ends the batch before it."""
        return bool(self.todo) and not (self.refused and self.options.files.fail_fast)

    @cached_property
    def pipeline(self) -> Pipeline:
        return self.options.pipeline()

    def prepare(self) -> None:
        """Before any work: EnvironmentFault where a folder takes no files, ModelError where the model cannot do it."""
        for place in filter(None, (self.folder, self.options.files.step_maps)):
            check_folder(place)
        options = self.options
        if len(options.devices) > 1 or options.cluster:  # whose workers load it themselves; here one tile will do
            options = replace(options, device="cpu", precision="fp32", capacity=1)
        pipeline = self.pipeline if options is self.options else options.pipeline()
        pipeline.require(options.request)

    def before(self, score: Score | None = None) -> Iterator[Outcome]:
        """What was done before, with what is known of it; measured now where there is a reference and no score yet."""
        files = replace(self.options.files, score=score)
        with ExitStack() as open_until_end:
            for task in self.done:
                outcome = self._remembered(Outcome(task, before=True))
                if score and files.reference and not outcome.scores:
                    if not files.journal:
                        with suppress(EnvironmentFault):  # what cannot be remembered is measured anew the next time
                            journal = open_until_end.enter_context(journal_of(self.manifest, self.options.digest))
                            files = replace(files, journal=journal)
                    outcome = self._measured(outcome, files)
                yield outcome
        if self.done and not self.todo:  # no run follows, which would see to it
            for manifest in filter(None, (self.manifest, self.maps)):
                with suppress(OSError):
                    tidy(manifest.folder, self._places(manifest))

    def _remembered(self, outcome: Outcome) -> Outcome:
        known = self.manifest.figures(outcome.task.target)
        figures = {name: float(known[name]) for name in FIGURES if known.get(name) is not None}
        notes, pages = tuple(known.get("notes", ())), int(known.get("pages", 1))
        outcome = replace(outcome, **figures, notes=notes, pages=pages)  # type: ignore[arg-type]
        scores, input_scores = self._known_scores(outcome.task, known)
        detail_map = tuple(known.get("detail_map", ()))
        return replace(outcome, scores=scores, input_scores=input_scores, detail_map=detail_map)

    def _known_scores(self, task: Task, known: Mapping[str, Any]) -> list[dict[str, float | None]]:
        """The scores of the output and of its source that the manifest knows.

        Empty where they were measured against another reference, or of another output.
        """
        reference, against = self.options.files.reference, known.get("against")
        # What an older rng has noted lacks the input's own: it is measured anew.
        if not (reference and against and "input_scores" in known):
            return [{}, {}]
        if against != Reference(reference).state(task) or not self.manifest.made(task.target):
            return [{}, {}]
        return [
            {metric: None if value is None else float(value) for metric, value in known[name].items()}
            for name in ("scores", "input_scores")
        ]

    def _measured(self, outcome: Outcome, files: FileOptions) -> Outcome:
        """With scores of the output as it is on disk, which the manifest remembers from then on."""
        target = outcome.task.target
        try:
            after, before = (partial(_in_srgb, path, files) for path in (target, outcome.task.source))
            outcome = scored(outcome, files, after, before)
        except Exception as error:  # its output stays what it is
            return replace(outcome, notes=(*outcome.notes, f"not scored: {error}"))
        if outcome.scores and files.journal:
            with suppress(EnvironmentFault):
                files.journal.noted(target, figures_of(outcome, files.reference))
        return outcome

    def run(self, watch: Watch | None = None, score: Score | None = None) -> Generator[Outcome]:
        """Denoise `todo`, on one device or many; outcomes come as they are finished. Raises as `worker.run` does."""
        with ExitStack() as open_until_end:
            files = replace(self.options.files, score=score)
            files = replace(files, journal=open_until_end.enter_context(self._journal(self.manifest)))
            if self.maps:
                files = replace(files, map_journal=open_until_end.enter_context(self._journal(self.maps)))
            # Closed at once, whatever happens: no thread may write once the journal is closed.
            for outcome in open_until_end.enter_context(closing(self._outcomes(files, watch or Watch()))):
                if not outcome.error and not outcome.megapixels:  # another run or process has made it
                    self.manifest.refresh()
                    outcome = self._remembered(outcome)
                yield outcome

    def _outcomes(self, files: FileOptions, watch: Watch) -> Generator[Outcome]:
        if len(self.options.devices) == 1 and not self.options.cluster:
            return worker.run(self.todo, self.pipeline, self.options.request, files, watch)
        assignment = Assignment(self.options, self.manifest.folder, self.options.digest, files.score)
        if self.options.cluster:
            return ray_actor.run(self.todo, assignment, self.options.cluster, watch)
        return devices.run(self.todo, assignment, watch)

    def _journal(self, manifest: Manifest) -> AbstractContextManager[Journal]:
        return journal_of(manifest, self.options.digest, self._places(manifest))

    def _places(self, manifest: Manifest) -> set[Path]:
        """The folders that this batch writes to, or has written to before."""
        maps = manifest is self.maps
        return {(task.step_map(manifest.folder) if maps else task.target).parent for task in (*self.todo, *self.done)}

    def lost(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Outcomes with those failed whose output somebody has removed while the run lasted."""
        return [_lost(outcome) if not outcome.error and not outcome.task.target.exists() else outcome
                for outcome in outcomes]  # fmt: skip


def _in_srgb(path: Path, files: FileOptions) -> Iterator[np.ndarray]:
    return map(in_srgb, read_pages(path, files.read))


def _lost(outcome: Outcome) -> Outcome:
    cause = f"{outcome.task.target} was removed while the run lasted"
    return Outcome(outcome.task, PictureError(cause, "give the command again"))
