"""Does one queue hold up a thousand machines? `python -m tests.queue_simulation [--measure] --workers 1,100,1000`.

Every picture costs the queue two calls, `take` and `settled`, which it answers one after the other. The simulation lets
workers ask for their next pictures ahead, as `rng` does, and counts how long they had nothing to do. `--measure` asks a
real Ray actor of this machine how long a call takes it, and how long the caller waits; else `--call` and `--trip` say
so.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rngcli.batch.inputs import Outcome, Task
from rngcli.batch.ray_actor import QueueActor
from rngcli.batch.ray_cluster import Cluster
from rngcli.batch.report import row_of

AHEAD = 3  # pictures that a worker asks for before it needs them


@dataclass(frozen=True)
class Costs:
    """[s]. `call`: the queue's own time for a call; `trip`: what passes until its answer is there, when it is idle.

    `outcome`: the time of the process that was started by the user, for each picture that it is told of.
    """

    call: float
    trip: float
    outcome: float


@dataclass(frozen=True)
class Found:
    """Shares in [0, 1]: workers at work from their first picture on, the queue busy; pictures a second."""

    working: float
    queue_busy: float
    rate: float


def simulate(workers: int, picture: float, costs: Costs, pictures_each: int = 40, seed: int = 0) -> Found:
    """`workers` that need `picture` seconds for one, give or take a half, with one queue that serves in turn."""
    chance = random.Random(seed)
    requests = [(chance.uniform(0, costs.trip), worker, AHEAD) for worker in range(workers)]
    heapq.heapify(requests)
    free_at, busy, left = 0.0, 0.0, workers * pictures_each
    finish, worked, begun = [0.0] * workers, [0.0] * workers, [0.0] * workers
    while requests and left:
        asked, worker, wanted = heapq.heappop(requests)
        for _ in range(min(wanted, left)):
            start = max(asked, free_at)
            free_at = start + 2 * costs.call  # take, and the settling of the one before
            busy += 2 * costs.call
            answered, left = free_at + costs.trip, left - 1
            begun[worker] = begun[worker] or answered
            at = max(finish[worker], answered)
            took = picture * chance.uniform(0.5, 1.5)
            finish[worker], worked[worker] = at + took, worked[worker] + took
            # The next request goes out when this picture is begun: there is then room for one more.
            heapq.heappush(requests, (at, worker, 1)) if wanted == 1 else None
        if wanted == AHEAD:
            heapq.heappush(requests, (max(asked, begun[worker]), worker, 1))
    end = max(finish)
    spans = sum(end_of - begin for end_of, begin in zip(finish, begun, strict=True))
    return Found(sum(worked) / spans, busy / end, workers * pictures_each / end)


class TimedQueue(QueueActor):
    """Tells what it costs."""

    def cpu(self) -> float:
        return time.process_time()


class Source:
    """A worker that has nothing to do."""

    def outcomes(self, count: int) -> Iterator[tuple[str, tuple[Outcome, float, int]]]:
        for k in range(count):
            yield "settled", (Outcome(Task(str(k), Path("in"), Path("out", str(k))), None, 12.0, 3.0, 9.0), 12.0, 260)


def measured(calls: int = 300) -> Costs:
    """By real actors: CPU time, which a busy machine does not blow up, of the queue and of this process."""
    import ray

    Cluster("local", 2).connect()
    tasks = [Task(f"folder/{k}.png", Path("in", f"{k}.png"), Path("out", f"{k}.png")) for k in range(3 * calls)]
    queue = ray.remote(TimedQueue).options(num_cpus=0).remote(tasks)
    source = ray.remote(Source).options(num_cpus=0).remote()
    before = ray.get(queue.cpu.remote())
    begun = time.perf_counter()
    for _ in range(calls):
        ray.get(queue.take.remote("b", False))
    trip = (time.perf_counter() - begun) / calls
    call = (ray.get(queue.cpu.remote()) - before) / calls
    own = time.process_time()
    stream = source.outcomes.options(num_returns="streaming").remote(calls)
    for reference in stream:
        _, (outcome, *_) = ray.get(reference)
        queue.settled.remote("b", outcome)
        json.dumps(row_of(outcome))
    own = (time.process_time() - own) / calls
    ray.shutdown()
    return Costs(call, max(0.0, trip - call), own)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--workers", default="1,10,100,1000,8000")
    parser.add_argument("--picture", default="0.5,2,20", help="seconds that a worker needs for one")
    parser.add_argument("--call", type=float, default=0.3, help="ms of the queue a call")
    parser.add_argument("--trip", type=float, default=1.0, help="ms until an answer is there")
    parser.add_argument("--outcome", type=float, default=0.5, help="ms of the process of the user a picture")
    parser.add_argument("--measure", action="store_true")
    given = parser.parse_args()
    costs = measured() if given.measure else Costs(given.call / 1000, given.trip / 1000, given.outcome / 1000)
    print(f"a call takes the queue {1000 * costs.call:.2f} ms, its answer {1000 * costs.trip:.2f} ms more;")
    print(f"a picture takes the process of the user {1000 * costs.outcome:.2f} ms\n")
    print("| workers | s a picture | pictures/s | queue busy | user's process busy | workers at work |")
    print("|---|---|---|---|---|---|")
    for workers in map(int, given.workers.split(",")):
        for picture in map(float, given.picture.split(",")):
            found = simulate(workers, picture, costs)
            own = found.rate * costs.outcome
            shares = f"{found.queue_busy:.0%} | {own:.0%} | {found.working:.0%}"
            print(f"| {workers} | {picture:g} | {found.rate:.0f} | {shares} |")


if __name__ == "__main__":
    main()
