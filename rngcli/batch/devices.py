"""Many devices: a process each, one queue of pictures; one that dies takes no other's work along."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from types import ModuleType

import torch

from ..device import heed_cpu_quota
from ..errors import EnvironmentFault, PictureError, RngError
from ..signals import interruptible
from .failures import failure
from .file_options import Watch
from .inputs import Outcome, Task
from .task_queue import MOST_DEATHS, TaskQueue
from .worker_process import Assignment, outcomes_here

_PATIENCE = 60  # [s] for a process to finish what it is writing


@dataclass
class _Worker:
    """A process of one device, from this side."""

    number: int  # of its device in the list
    name: str
    process: BaseProcess
    line: Connection
    alone: bool = False  # it takes one picture that another has lost, and no more
    asked: bool = False  # it has asked for a picture
    ended: bool = False  # it has said so


@dataclass
class _Pool:
    """All processes of a run, and what they are at."""

    assignment: Assignment
    queue: TaskQueue
    watch: Watch
    workers: dict[Connection, _Worker] = field(default_factory=dict)
    deaths: Counter[int] = field(default_factory=Counter)  # by the device's number in the list
    started: int = 0
    stopping: bool = False

    def start(self, number: int, alone: bool = False) -> None:
        """A process for device `number` of the list; `alone`: for one picture that another has lost."""
        devices, context = self.assignment.options.devices, _context()
        here, there = context.Pipe()
        own = replace(self.assignment, options=replace(self.assignment.options, device=devices[number]))
        threads = max(1, torch.get_num_threads() // len(devices))
        process = context.Process(target=_serve, args=(there, own, threads), name=f"rng-{number}", daemon=True)
        with _no_main_module():
            process.start()
        there.close()  # so that the line ends with the process
        self.started += 1
        self.workers[here] = _Worker(number, f"{number}.{self.started}", process, here, alone)

    def outcomes(self) -> Iterator[Outcome]:
        """What the processes tell, until all of them have ended."""
        while self.workers:
            for line in wait(list(self.workers)):
                at = self.workers[line]  # type: ignore[index]
                try:
                    said, what = at.line.recv()
                except (EOFError, OSError):
                    yield from self._ended(at)
                    continue
                if said == "next":
                    with suppress(OSError):
                        at.line.send(self._task_for(at))
                elif said == "settled" and self.queue.settled(at.name, what):
                    yield replace(what, before=what.before and not self.queue.is_again(what.task))
                elif said == "begun":
                    self.watch.begun(*what)
                elif said == "stepped":
                    self.watch.stepped(what)
                elif said == "ended":
                    at.ended = True
                elif said == "fault":
                    at.ended = True
                    raise what

    def _task_for(self, at: _Worker) -> Task | None:
        if not at.alone:
            return self.queue.take(at.name)
        first, at.asked = not at.asked, True
        return self.queue.take_lost(at.name) if first else None

    def _ended(self, at: _Worker) -> Iterator[Outcome]:
        del self.workers[at.line]
        at.line.close()
        at.process.join()
        lost = self.queue.gone(at.name)
        for task in () if self.stopping else lost:
            cause = f"the process that had it has died twice ({_status(at.process)})"
            yield Outcome(task, PictureError(cause, "do it alone, with more memory"))
        if not (at.ended or at.alone):
            self.deaths[at.number] += 1
            if self.queue.waiting and self.deaths[at.number] < MOST_DEATHS:
                self.start(at.number)

    def stop(self) -> None:
        """Let each process finish what it is writing, and begin nothing else."""
        if self.stopping:
            return
        self.stopping = True
        for at in self.workers.values():
            if at.process.is_alive():
                at.process.terminate()

    def close(self) -> None:
        for at in self.workers.values():
            at.process.join(_PATIENCE)
            if at.process.is_alive():
                at.process.kill()
                at.process.join()
            at.line.close()


def run(tasks: Sequence[Task], assignment: Assignment, watch: Watch) -> Generator[Outcome]:
    """`worker.run` on all devices of the assignment's options at once; the same outputs whatever their number.

    Where a process dies, its pictures are done once more, each in a process of its own; what dies again there fails.
    EnvironmentFault where the processes of every device die.
    """
    queue = TaskQueue(tasks)
    pool = _Pool(assignment, queue, watch)
    devices = range(min(len(assignment.options.devices), len(tasks)))
    try:
        for number in devices:
            pool.start(number)
        yield from pool.outcomes()
        if queue.waiting:
            raise EnvironmentFault("the processes of all devices have died", "look at the memory; try one device")
        while queue.lost:
            for number in devices:
                if queue.lost:
                    pool.start(number, alone=True)
            yield from pool.outcomes()
    except (Exception, KeyboardInterrupt):
        pool.stop()
        yield from _rest(pool)
        raise
    finally:
        pool.stop()
        pool.close()


def _context() -> SpawnContext | ForkServerContext:
    """Processes that begin with torch loaded, forked from one that has done nothing but that; else loaded by each."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["rngcli.batch.batch"])
    return context


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Within, a process that begins is not told of the program's main file.

    It would run that first: a script without `if __name__ == "__main__":`, which calls rng, would call it again there.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _rest(pool: _Pool) -> Iterator[Outcome]:
    """What is settled in spite of the run's end: the first reason for it stands."""
    pool.queue.waiting.clear()
    while pool.workers:
        with suppress(RngError):
            yield from pool.outcomes()


def _status(process: BaseProcess) -> str:
    code = process.exitcode or 0
    return f"signal {-code}" if code < 0 else f"exit code {code}"


# --- in the process of a device -----------------------------------------------------------------------------------


def _serve(line: Connection, assignment: Assignment, threads: int) -> None:
    """Do the pictures that the other side gives, until it gives no more or goes away.

    A terminal's Ctrl-C is for the other side alone, which passes it on as SIGTERM, once.
    """
    for number in (signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)):
        signal.signal(number, signal.SIG_IGN)
    warnings.filterwarnings("ignore", module="PIL")
    heed_cpu_quota()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads)

    def ask() -> Task | None:
        line.send(("next", None))
        return line.recv()

    def begun(task: Task, megapixels: float, tiles: int) -> None:
        line.send(("begun", (task, megapixels, tiles)))

    watch = Watch(begun, lambda tiles: line.send(("stepped", tiles)))
    with suppress(KeyboardInterrupt, ConnectionError, EOFError), interruptible():
        try:
            with outcomes_here(iter(ask, None), assignment, watch) as outcomes:
                for outcome in outcomes:
                    line.send(("settled", outcome))
            line.send(("ended", None))
        except (ConnectionError, EOFError):
            raise
        except Exception as error:
            line.send(("fault", failure(error)))
