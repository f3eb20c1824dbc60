"""What `rng denoise` does once it is parsed: plan, load, run, tell."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from ..batch.inputs import Outcome, Task
from ..batch.manifest import Manifest, State
from ..errors import EnvironmentFault, Exit, Interrupted, PictureError, RngError
from ..images import PART_PREFIX, PART_SUFFIX
from .options import Settings
from .reporter import Teller, reported

if TYPE_CHECKING:
    from ..batch.worker import Score

_REFUSED = {
    State.FOREIGN: "exists and was not made by rng",
    State.EDITED: "was changed since rng made it, and is out of date",
}


def run(settings: Settings) -> Exit:
    """Denoise as the settings say; the exit code. SIGTERM ends it as Ctrl-C does."""
    # What Pillow remarks on in metadata concerns programmers; what concerns the user comes as a note or an error.
    warnings.filterwarnings("ignore", module="PIL")
    with Teller(settings.json, settings.quiet, settings.log) as tell, terminable():
        try:
            settings.check()
            if settings.piped:
                from .stdio import run_piped

                return run_piped(settings, tell)
            return _run(settings, tell)
        except KeyboardInterrupt:
            raise Interrupted("interrupted", tell.goes_on) from None
        except RngError as error:
            tell.log(f"rng: {error}")
            raise


def _run(settings: Settings, tell: Teller) -> Exit:
    settings.request  # noqa: B018 (refuses what --steps cannot mean)
    tasks = settings.tasks
    manifest = Manifest(settings.folder)
    todo, outcomes, skipped = _sorted_out(tasks, manifest, settings)
    if settings.dry_run:
        for task in todo:
            tell.say(f"{task.source} -> {task.target}")
        for outcome in outcomes:
            tell.say(f"refused: {outcome.task.name}: {outcome.error}")
        tell.say(f"{len(todo)} to do, {len(skipped)} done already" + f", {len(outcomes)} refused" * bool(outcomes))
        return Exit.OK
    for task in skipped:
        tell.skipped(task)
    for outcome in outcomes:
        tell.outcome(outcome)
    begin = bool(todo) and not (outcomes and settings.fail_fast)
    if begin:
        for place in filter(None, (settings.target, settings.step_map)):
            _probe(place)
        settings.pipeline.require(settings.request)
    with reported(settings.report, outcomes):
        try:
            if begin:
                _denoise(todo, manifest, settings, tell, outcomes)
        finally:
            tell.summary(outcomes, skipped=len(skipped), total=len(tasks))
    return Exit.SOME_FAILED if any(outcome.error for outcome in outcomes) else Exit.OK


def _sorted_out(
    tasks: list[Task], manifest: Manifest, settings: Settings
) -> tuple[list[Task], list[Outcome], list[Task]]:
    """What is to do; what is refused, since it would cost a file that rng did not make; what is done."""
    if settings.overwrite:
        return tasks, [], []
    todo, refused, skipped = [], [], []
    for task in tasks:
        state = manifest.state(task.source, task.target, lambda: settings.digest)
        if state in _REFUSED:
            error = PictureError(f"{task.target} {_REFUSED[state]}", "use --overwrite to replace it")
            refused.append(Outcome(task, error))
        elif state is State.DONE and _mapped(task, settings):
            skipped.append(task)
        else:
            todo.append(replace(task, fresh=state is State.NEW))
    return todo, refused, skipped


def _mapped(task: Task, settings: Settings) -> bool:
    return not settings.step_map or os.path.exists(task.step_map(settings.step_map))


def _probe(place: Path) -> None:
    """EnvironmentFault, before any work, where `place` takes no files: by making one, which knows more than rights."""
    folder = next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())
    probe = folder / f"{PART_PREFIX}{secrets.token_hex(8)}{PART_SUFFIX}"
    try:
        probe.touch(exist_ok=False)
        os.unlink(probe)
    except OSError as error:
        raise EnvironmentFault(f"{folder} takes no files ({error.strerror})", "choose another place") from None


def _denoise(todo: list[Task], manifest: Manifest, settings: Settings, tell: Teller, outcomes: list[Outcome]) -> None:
    """Do it; every outcome is told and goes to `outcomes`, also when the run is cut short."""
    from ..batch import worker

    score = _judge(tell) if settings.reference else None
    before = len(outcomes)
    folders = {task.target.parent for task in todo}
    if settings.step_map:
        folders |= {task.step_map(settings.step_map).parent for task in todo}
    with manifest.journal(settings.digest, folders) as journal, tell.progress(len(todo)) as watch:
        files = worker.Files(
            settings.read, settings.write, journal, settings.fail_fast, settings.reference, score, settings.step_map
        )
        try:
            # Closed at once, whatever happens: no thread may write once the journal is closed.
            with closing(worker.run(todo, settings.pipeline, settings.request, files, watch)) as finished:
                for outcome in finished:
                    outcomes.append(outcome)
                    tell.outcome(outcome)
        except PictureError:  # --fail-fast; the summary names it
            return
        except KeyboardInterrupt:
            after = f"interrupted after {len(outcomes) - before} of {len(todo)} pictures"
            raise Interrupted(after, tell.goes_on) from None


def _judge(tell: Teller) -> Score:
    """PSNR [dB], SSIM, and LPIPS where its weights are at hand."""
    from ..metrics.suite import Judge, Options

    judge = Judge(Options(usual=("psnr", "ssim", "lpips")))
    for note in judge.notes:
        tell.say(note)
    return judge.score


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends the work as Ctrl-C does: nothing half-written."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
