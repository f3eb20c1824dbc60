"""Many machines: Ray actors that run the same engine on pictures from one queue, over a file system that all share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import EnvironmentFault, PictureError, RngError
from .failures import failure
from .file_options import Watch
from .inputs import Outcome, Task
from .ray_cluster import Cluster, ray_module
from .task_queue import MOST_DEATHS, TaskQueue
from .worker_process import Assignment, outcomes_here

_PATIENCE = 60  # [s] for the actors to finish what they are writing


class QueueActor:
    """The run's queue, where all workers reach it."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.queue = TaskQueue(tasks)

    def take(self, worker: str, alone: bool) -> Task | None:
        return self.queue.take_lost(worker) if alone else self.queue.take(worker)

    def settled(self, worker: str, outcome: Outcome) -> None:
        self.queue.settled(worker, outcome)

    def gone(self, worker: str) -> tuple[list[Task], list[Task]]:
        """What is lost for good, and what will be given out once more."""
        before = len(self.queue.lost)
        for_good = self.queue.gone(worker)
        return for_good, list(self.queue.lost)[before:]

    def waiting(self) -> tuple[int, int]:
        """Pictures that nobody has taken yet, and those that were lost once."""
        return len(self.queue.waiting), len(self.queue.lost)

    def clear(self) -> None:
        """Give out nothing more."""
        self.queue.waiting.clear()
        self.queue.lost.clear()


class Actor:
    """A worker in a process of its own, on any machine of the cluster."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment, self._stopping = assignment, False
        warnings.filterwarnings("ignore", module="PIL")

    def stop(self) -> None:
        """Finish what is being written, and drop the rest."""
        self._stopping = True

    def run(self, name: str, queue: Any, alone: bool) -> Iterator[tuple[str, Any]]:
        """Outcomes of pictures from the queue, until it has none; with `alone`, of one that was lost."""
        ray, taken = ray_module(), list[Task]()

        def take() -> Task | None:
            if alone and taken:
                return None
            task: Task | None = ray.get(queue.take.remote(name, alone))
            taken.extend([task] if task else [])
            return task

        def stepped(tiles: int) -> None:
            if self._stopping:
                raise KeyboardInterrupt

        begun: dict[Path, tuple[float, int]] = {}
        watch = Watch(lambda task, megapixels, tiles: begun.update({task.target: (megapixels, tiles)}), stepped)
        try:
            with outcomes_here(iter(take, None), self._assignment, watch) as outcomes:
                for outcome in outcomes:
                    yield "settled", (outcome, *begun.pop(outcome.task.target, (0.0, 0)))
        except KeyboardInterrupt:
            return
        except Exception as error:
            yield "fault", failure(error)


@dataclass
class _Pool:
    """All actors of a run, from this side."""

    queue: Any
    actor: Callable[[], Any]  # a new one
    watch: Watch
    actors: dict[int, Any] = field(default_factory=dict)
    streams: dict[Any, int] = field(default_factory=dict)  # of which actor
    deaths: dict[int, int] = field(default_factory=dict)
    told: set[Path] = field(default_factory=set)
    lost: set[Path] = field(default_factory=set)  # once
    turn: int = 0

    def name(self, i: int) -> str:
        return f"{i}.{self.deaths.get(i, 0)}.{self.turn}"

    def start(self, i: int, alone: bool = False) -> None:
        """A new actor in place i, at work."""
        if i in self.actors:
            ray_module().kill(self.actors[i])  # it may live, and be out of reach
        self.actors[i] = self.actor()
        stream = self.actors[i].run.options(num_returns="streaming").remote(self.name(i), self.queue, alone)
        self.streams[stream] = i

    def outcomes(self, alone: bool = False) -> Iterator[Outcome]:
        """What the actors tell, until all have come to their end."""
        while self.streams:
            for stream in self._ready():
                yield from self._next(stream, alone)

    def _ready(self) -> list[Any]:
        """The actors that have something to tell, at least one: asking costs as much as there are actors."""
        streams = list(self.streams)
        first, others = ray_module().wait(streams, num_returns=1)
        return first + (ray_module().wait(others, num_returns=len(others), timeout=0)[0] if others else [])

    def _next(self, stream: Any, alone: bool) -> Iterator[Outcome]:
        ray, i = ray_module(), self.streams[stream]
        try:
            said, what = ray.get(next(stream))
        except StopIteration:
            del self.streams[stream]
        except ray.exceptions.RayError:
            del self.streams[stream]
            yield from self._died(i, alone)
        else:
            if said == "fault":
                raise what
            yield from self._settled(i, *what)

    def _settled(self, i: int, outcome: Outcome, megapixels: float, tiles: int) -> Iterator[Outcome]:
        self.queue.settled.remote(self.name(i), outcome)  # which this queue hears before it hears of any later death
        if outcome.task.target in self.told:
            return
        self.told.add(outcome.task.target)
        if tiles:
            self.watch.begun(outcome.task, megapixels, tiles)
        yield replace(outcome, before=outcome.before and outcome.task.target not in self.lost)

    def _died(self, i: int, alone: bool) -> Iterator[Outcome]:
        ray = ray_module()
        for_good, again = ray.get(self.queue.gone.remote(self.name(i)))
        self.lost.update(task.target for task in again)
        for task in for_good:
            self.told.add(task.target)
            yield Outcome(task, PictureError("the worker that had it has died twice", "do it alone, with more memory"))
        self.deaths[i] = self.deaths.get(i, 0) + 1
        if not alone and self.deaths[i] < MOST_DEATHS and ray.get(self.queue.waiting.remote())[0]:
            self.start(i)

    def again(self) -> None:
        """Another round, by other actors: these would keep their places on the machines."""
        self.turn += 1
        for i in list(self.actors):
            ray_module().kill(self.actors.pop(i))

    def stop(self) -> None:
        """Let the actors finish what they are writing."""
        ray = ray_module()
        self.queue.clear.remote()
        stops = [actor.stop.remote() for actor in self.actors.values()]
        ray.wait(stops, num_returns=len(stops), timeout=_PATIENCE)

    def close(self) -> None:
        for actor in (*self.actors.values(), self.queue):
            ray_module().kill(actor)


def run(tasks: Sequence[Task], assignment: Assignment, cluster: Cluster, watch: Watch) -> Generator[Outcome]:
    """`worker.run` by actors of a cluster; the same outputs whatever their number, each picture told of once.

    Where an actor dies, its pictures are done once more, each alone; what kills its worker again fails.
    """
    cluster.connect()
    ray = ray_module()
    queue = ray.remote(QueueActor).options(num_cpus=0).remote(tasks)
    actor = cluster.actor(Actor)
    size = cluster.size(len(tasks))
    assignment = replace(assignment, options=replace(assignment.options, cluster=None))
    pool = _Pool(queue, lambda: actor.remote(assignment), watch)
    try:
        for i in range(size):
            pool.start(i)
        yield from pool.outcomes()
        waiting, lost = ray.get(queue.waiting.remote())
        if waiting:
            raise EnvironmentFault("all workers of the cluster have died", "look at their memory: ray status")
        while lost:
            pool.again()
            for i in range(min(lost, size)):
                pool.start(i, alone=True)
            yield from pool.outcomes(alone=True)
            lost = ray.get(queue.waiting.remote())[1]
    except (Exception, KeyboardInterrupt):
        pool.stop()
        while pool.streams:
            with suppress(RngError):
                yield from pool.outcomes(alone=True)
        raise
    finally:
        pool.close()
