"""A batch as a whole: what is to do, what is done already, what is refused; then the work, outcome by outcome."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from ..atomic import part_of
from ..device import find_device, find_precision
from ..errors import EnvironmentFault, PictureError
from ..inference.pipeline import Pipeline
from ..methods.contract import Request
from ..models.bundle import file_hash, load, resolve
from . import worker
from .inputs import Outcome, Task
from .manifest import Manifest, State, digest

_REFUSED = {
    State.FOREIGN: "exists and was not made by rng",
    State.EDITED: "was changed since rng made it, and is out of date",
}


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is denoised, read and written. `capacity`: tiles in a network call, None for what suits the device.

    `format` is what the outputs were asked to be, None for each source's own: the tasks already hold their names.
    """

    request: Request = field(default_factory=Request)
    model: str = "rng-s"  # a shipped model's name, or a bundle's path
    device: str = "auto"
    precision: str = "auto"
    capacity: int | None = None
    format: str | None = None
    files: worker.FileOptions = field(default_factory=worker.FileOptions)
    overwrite: bool = False
    method: str | None = None  # one of the model's, None for its first

    @cached_property
    def digest(self) -> str:
        """Of all that an output depends on beside its source; needs the model's file, but not its networks.

        Not the capacity, which changes no more than roundings, and not rng's version: after an update nobody wants to
        do ten thousand pictures again unasked.
        """
        device, request = find_device(self.device), self.request
        generated = request.detail > 0 and request.steps != 0 and request.max_steps > 0
        return digest({
            "model": file_hash(resolve(self.model)),
            **({"method": self.method} if self.method else {}),
            "device": device.type,
            "precision": str(find_precision(device, self.precision)),
            "detail": [request.max_steps, request.steps, request.detail, request.seed] if generated else None,
            "format": self.format,
            "quality": self.files.write.quality,
            "strip": self.files.write.strip_metadata,
            "bright": self.files.read.raw_bright,
        })  # fmt: skip

    def pipeline(self) -> Pipeline:
        """The model's networks on the device."""
        return Pipeline(load(self.model), self.device, self.precision, self.capacity, self.method)


class Batch:
    """Tasks sorted out by what the manifest of `folder` knows: `todo`, `done` before, and `refused`.

    Refused is what would cost a file that rng did not make, unless `overwrite` allows that.
    """

    def __init__(self, tasks: Sequence[Task], folder: Path, options: BatchOptions) -> None:
        self.tasks, self.folder, self.options = tasks, folder, options
        self.manifest = Manifest(folder)
        self.todo: list[Task] = []
        self.done: list[Task] = []
        self.refused: list[Outcome] = []
        for task in tasks:
            self._sort_out(task)

    def _sort_out(self, task: Task) -> None:
        if self.options.overwrite:
            self.todo.append(task)
            return
        state = self.manifest.state(task.source, task.target, lambda: self.options.digest)
        if state in _REFUSED:
            error = PictureError(f"{task.target} {_REFUSED[state]}", "use --overwrite to replace it")
            self.refused.append(Outcome(task, error))
        elif state is State.DONE and self._is_mapped(task):
            self.done.append(task)
        else:
            self.todo.append(replace(task, fresh=state is State.NEW))

    def _is_mapped(self, task: Task) -> bool:
        folder = self.options.files.step_maps
        return not folder or os.path.exists(task.step_map(folder))

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
            _probe(place)
        self.pipeline.require(self.options.request)

    def run(
        self, watch: worker.Watch | None = None, score: worker.Score | None = None
    ) -> Generator[Outcome]:
        """Denoise `todo`; outcomes come as they are finished. Raises what `worker.run` raises."""
        files = self.options.files
        folders = {task.target.parent for task in self.todo}
        if files.step_maps:
            folders |= {task.step_map(files.step_maps).parent for task in self.todo}
        with self.manifest.journal(self.options.digest, folders) as journal:
            files = replace(files, journal=journal, score=score)
            # Closed at once, whatever happens: no thread may write once the journal is closed.
            with closing(worker.run(self.todo, self.pipeline, self.options.request, files, watch)) as outcomes:
                yield from outcomes


def _probe(place: Path) -> None:
    """EnvironmentFault, before any work, where `place` takes no files: by making one, which knows more than rights."""
    folder = next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())
    probe = part_of(folder / "probe")
    try:
        probe.touch(exist_ok=False)
        os.unlink(probe)
    except OSError as error:
        raise EnvironmentFault(f"{folder} takes no files ({error.strerror})", "choose another place") from None
