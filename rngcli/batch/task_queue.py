"""Which pictures wait, which worker has which, and which were lost with one: plain Python, for any kind of worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path

from .inputs import Outcome, Task

MOST_DEATHS = 3  # of workers in one place, a device or a part of a cluster, after which it is left empty


class TaskQueue:
    """The pictures of a run that several workers share; each is told of once, whatever becomes of the workers.

    What a worker had when it died is lost: nobody knows which of these pictures is to blame. Each of them is given out
    once more, alone (`take_lost`), so that the one that kills its worker again has no company.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.waiting = deque(tasks)
        self.lost: deque[Task] = deque()
        self._taken: dict[str, dict[Path, Task]] = {}
        self._again: set[Path] = set()
        self._dead: set[str] = set()

    def take(self, worker: str) -> Task | None:
        """The next picture; None where none waits."""
        return self._give(worker, self.waiting)

    def take_lost(self, worker: str) -> Task | None:
        """A picture that another worker has lost; None where there is none."""
        task = self._give(worker, self.lost)
        if task:
            self._again.add(task.target)
        return task

    def _give(self, worker: str, source: deque[Task]) -> Task | None:
        # What a worker asked for while it died may be heard after its death: it would take the picture with it.
        if not source or worker in self._dead:
            return None
        task = source.popleft()
        self._taken.setdefault(worker, {})[task.target] = task
        return task

    def settled(self, worker: str, outcome: Outcome) -> bool:
        """Whether this outcome is to be told: it is not where the picture is another worker's by now."""
        return self._taken.get(worker, {}).pop(outcome.task.target, None) is not None

    def gone(self, worker: str) -> list[Task]:
        """A worker has died: what it had is lost, but for those pictures, returned, that were lost before."""
        self._dead.add(worker)
        had = self._taken.pop(worker, {}).values()
        self.lost.extend(task for task in had if task.target not in self._again)
        return [task for task in had if task.target in self._again]

    def is_again(self, task: Task) -> bool:
        """Whether the picture was lost once: its output may be there, by the worker that has died."""
        return task.target in self._again

    @property
    def left(self) -> int:
        """How many are not settled."""
        return len(self.waiting) + len(self.lost) + sum(map(len, self._taken.values()))
