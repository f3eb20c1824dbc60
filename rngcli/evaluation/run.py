"""Methods over benchmarks: one row a picture, on the same noise for all; a run that was stopped goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from ..data import Benchmark, Pair
from ..errors import PictureError
from ..images import write_bytes
from ..inference.engine import Job, Result
from .examples import Examples
from .methods import Column
from .plan import EvaluationPlan
from .report import Case, Picture, Report, Row


@dataclass
class Evaluation:
    """One run of a plan. Pass `journal` to write every row down at once and to go on after a stop."""

    plan: EvaluationPlan
    journal: Path | None = None
    on_row: Callable[[Row], None] = lambda row: None
    on_problem: Callable[[str], None] = lambda problem: None
    on_output: Callable[[str, Result], None] | None = None  # each output as it comes, with its method

    def __post_init__(self) -> None:
        self.rows: list[Row] = []
        self.pictures: list[Picture] = []
        self.problems: list[str] = []

    def run(self, title: str) -> Report:
        """Measure what is not measured yet, and report all of it; pictures that fail are named, the rest goes on."""
        self._resume()
        for benchmark in self.plan.benchmarks:
            for problem in benchmark.problems:
                self._problem(problem)
            examples = Examples(benchmark, self.plan.examples, {(p.key, p.method) for p in self.pictures})
            for method in self.plan.methods:
                self._measure(benchmark, method, examples)
        facts = {**self.plan.provenance, "date": date.today().isoformat()}
        cases = tuple(Case(b.name, b.protocol, len(b.keys)) for b in self.plan.benchmarks)
        names = tuple(method.name for method in self.plan.methods)
        return Report(
            title, cases, names, self.plan.judge.metrics, tuple(self.rows), facts,
            tuple(self.problems), tuple(self.plan.judge.notes), tuple(self.pictures),
        )  # fmt: skip

    def finish(self) -> None:
        """The report is written: the journal has served."""
        if self.journal:
            self.journal.unlink(missing_ok=True)

    def _measure(self, benchmark: Benchmark, method: Column, examples: Examples) -> None:
        done = {row.key for row in self.rows if (row.case, row.method) == (benchmark.name, method.name)}
        waiting: dict[str, Pair] = {}
        clock = _Clock()
        jobs = self._jobs(benchmark, done, waiting, clock)
        for result in clock.timed(method.run(jobs, benchmark.sigma)):
            pair = waiting.pop(result.key)
            if result.error:
                self._problem(f"{benchmark.name} {result.key}: {method.name}: {result.error}")
                continue
            if self.on_output:
                self.on_output(method.name, result)
            self._record(self._row(benchmark, method, pair, result, clock.lap()))
            for picture in examples.of(pair, method.name, result):
                self.pictures.append(picture)
                self._write({"picture": asdict(picture)})

    def _jobs(self, benchmark: Benchmark, done: set[str], waiting: dict[str, Pair], clock: _Clock) -> Iterator[Job]:
        for key in benchmark.keys:
            if key in done:
                continue
            with clock.stopped():
                try:
                    waiting[key] = pair = benchmark.load(key)
                except PictureError as error:
                    self._problem(str(error))
                    continue
            yield Job(key, pair.noisy)

    def _row(self, benchmark: Benchmark, method: Column, pair: Pair, result: Result, seconds: float) -> Row:
        scores, reasons = self.plan.judge.score(result.pixels, pair.clean, benchmark.ssim)
        for reason in reasons:
            if self.plan.judge.asked:
                self._problem(f"{benchmark.name} {pair.key}: {reason}")
            elif reason not in self.plan.judge.notes:
                self.plan.judge.notes.append(reason)
        evaluations = float(result.steps.mean()) if result.steps.size else 0.0
        height, width = result.pixels.shape[:2]
        return Row(benchmark.name, method.name, pair.key, scores, height * width / 1e6, seconds, evaluations)

    def _record(self, row: Row) -> None:
        self.rows.append(row)
        self._write({"row": asdict(row)})
        self.on_row(row)

    def _problem(self, text: str) -> None:
        # Several methods meet the same broken file; it is one problem.
        if text not in self.problems:
            self.problems.append(text)
            self.on_problem(text)

    # --- the journal -------------------------------------------------------------------------------------------

    def _resume(self) -> None:
        """Take over what an earlier run of the same plan wrote down; start a new journal where there is none."""
        if self.journal is None:
            return
        head, *entries = _lines(self.journal) or [{}]
        same = head == self.plan.fingerprint()
        # Written anew even then: the last line may be torn.
        self._start([head, *entries] if same else [self.plan.fingerprint()])
        if not same:
            return
        names = {method.name for method in self.plan.methods} | {"noisy", "clean"}
        self.rows = [Row(**e["row"]) for e in entries if "row" in e and e["row"]["method"] in names]
        self.pictures = [Picture(**e["picture"]) for e in entries if "picture" in e and e["picture"]["method"] in names]
        for row in self.rows:
            self.on_row(row)

    def _start(self, entries: list[dict[str, Any]]) -> None:
        if self.journal:
            write_bytes(self.journal, "".join(json.dumps(entry) + "\n" for entry in entries).encode())

    def _write(self, entry: dict[str, Any]) -> None:
        if self.journal:
            with self.journal.open("a") as file:
                file.write(json.dumps(entry) + "\n")


def _lines(journal: Path) -> list[dict[str, Any]]:
    """The whole entries of a journal; the last line of a killed run may be torn."""
    found: list[dict[str, Any]] = []
    with suppress(OSError, json.JSONDecodeError):
        for line in journal.read_text().splitlines():
            found.append(json.loads(line))
    return found


class _Clock:
    """Seconds that a method spends on its own work: between its results, without reading and measuring."""

    def __init__(self) -> None:
        self._spent = 0.0

    def timed(self, results: Iterator[Result]) -> Iterator[Result]:
        while True:
            start = time.perf_counter()
            result = next(results, None)
            self._spent += time.perf_counter() - start
            if result is None:
                return
            yield result

    def stopped(self) -> _Pause:
        return _Pause(self)

    def lap(self) -> float:
        """Seconds since the last lap."""
        spent, self._spent = self._spent, 0.0
        return max(spent, 0.0)

    def refund(self, seconds: float) -> None:
        self._spent -= seconds


class _Pause:
    """While inside, the clock stands still."""

    def __init__(self, clock: _Clock) -> None:
        self._clock = clock

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        self._clock.refund(time.perf_counter() - self._start)
