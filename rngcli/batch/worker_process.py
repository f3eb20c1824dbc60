"""One worker of several on a run: what it needs to know, and what it makes of the pictures that it is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from . import worker
from .batch_options import BatchOptions
from .file_options import Score, Watch
from .inputs import Outcome, Task
from .manifest import Manifest
from .manifest_writer import Journal, journal_of


@dataclass(frozen=True)
class Assignment:
    """What all workers of a run need to know: `settings` is the digest of the options, `folder` the manifest's."""

    options: BatchOptions
    folder: Path
    settings: str
    score: Score | None = None


@contextmanager
def outcomes_here(
    tasks: Iterable[Task], assignment: Assignment, watch: Watch | None = None
) -> Iterator[Iterator[Outcome]]:
    """`worker.run` in this process, one of several, with journals of its own; closed at the end, whatever happens."""
    options = assignment.options
    with ExitStack() as open_until_end:

        def journal(folder: Path) -> Journal:
            return open_until_end.enter_context(journal_of(Manifest(folder), assignment.settings, folders=None))

        files = replace(options.files, score=assignment.score, journal=journal(assignment.folder))
        if files.step_maps:
            files = replace(files, map_journal=journal(files.step_maps))
        run = worker.run(tasks, options.pipeline(), options.request, files, watch)
        yield open_until_end.enter_context(closing(run))
