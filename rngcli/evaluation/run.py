"""Methods over benchmarks: one row a picture, on the same noise for all; a run that was stopped goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from ..batch.report import as_text
from ..data import Benchmark, Pair
from ..errors import PictureError
from ..inference.engine import Job, Result
from ..inference.recovery import too_large
from .closeups import Closeups
from .examples import Examples
from .journal import RowJournal
from .methods import Column
from .plan import EvaluationPlan
from .report import Case, Picture, Report, Row
from .rivals import RivalResult, TargetJob


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
        self._closeups = Closeups(self.plan.judge.metrics)
        self._journal = RowJournal(self.journal, self.plan)

    def run(self, title: str) -> Report:
        """Measure what is not measured yet, and report all of it; pictures that fail are named, the rest goes on."""
        self.rows, self.pictures, closeups, reasons = self._journal.resume()
        self._closeups = Closeups(self.plan.judge.metrics, closeups)
        for row in self.rows:
            self.on_row(row)
        for case, key, reason in reasons:
            self._lacking(case, key, reason)
        for benchmark in self.plan.benchmarks:
            for problem in benchmark.problems:
                self._problem(problem)
            examples = Examples(benchmark, self.plan.examples, self._kept_of(benchmark))
            if self.plan.reconstructions:
                self.plan.reconstructions.clear()
            for method in self.plan.in_order:
                if self.plan.needs_reconstruction and method.name != "reconstruct":
                    self._reconstruct(benchmark, method)
                self._measure(benchmark, method, examples)
        facts = {**self.plan.provenance, "date": date.today().isoformat()}
        cases = tuple(Case(b.name, b.protocol, len(b.keys), b.sigma) for b in self.plan.benchmarks)
        names = tuple(method.name for method in self.plan.methods)
        # Names that are no UTF-8 become text here: every form of the report can hold them.
        rows = tuple(replace(row, key=as_text(row.key)) for row in self.rows)
        pictures = tuple(replace(picture, key=as_text(picture.key)) for picture in self.pictures)
        worst = tuple(replace(closeup, key=as_text(closeup.key)) for closeup in self._closeups.all)
        problems, notes = (tuple(map(as_text, texts)) for texts in (self.problems, self.plan.judge.notes))
        return Report(title, cases, names, self.plan.judge.metrics, rows, facts, problems, notes, pictures, worst)

    def finish(self) -> None:
        """The report is written: the journal has served."""
        self._journal.finish()

    def _kept_of(self, benchmark: Benchmark) -> set[tuple[str, str]]:
        """Keys and methods of the pictures that are kept of a case: another one may have the same keys."""
        return {(picture.key, picture.method) for picture in self.pictures if picture.case == benchmark.name}

    def _rows(self, benchmark: Benchmark, method: str) -> dict[str, Row]:
        return {row.key: row for row in self.rows if (row.case, row.method) == (benchmark.name, method)}

    def _reconstruct(self, benchmark: Benchmark, method: Column) -> None:
        """Make the reconstructions that a column's rows need and that are not kept yet."""
        kept, done = self.plan.reconstructions, self._rows(benchmark, method.name)
        assert kept is not None

        def jobs() -> Iterator[Job]:
            for key in benchmark.keys:
                if key not in kept and key not in done:
                    with suppress(PictureError):  # told when the column is measured
                        yield Job(key, benchmark.load(key).noisy)

        for _ in kept.make(jobs()):
            pass

    def _measure(self, benchmark: Benchmark, method: Column, examples: Examples) -> None:
        waiting: dict[str, Pair] = {}
        clock = _Clock()
        jobs = self._jobs(benchmark, method, waiting, clock)
        for result in clock.timed(method.run(jobs, benchmark.sigma)):
            pair = waiting.pop(result.key)
            if result.error:
                self._problem(f"{benchmark.name} {result.key}: {method.name}: {result.error}")
                continue
            if self.on_output:
                self.on_output(method.name, result)
            self._record(*self._row(benchmark, method, pair, result, clock.lap()))
            row = self.rows[-1]
            for picture in examples.of(pair, method.name, result):
                self.pictures.append(picture)
                self._journal.add(picture)
            if self.plan.examples and (c := self._closeups.of(benchmark.name, pair, method.name, result, row.scores)):
                self._journal.add(c)

    def _jobs(self, benchmark: Benchmark, method: Column, waiting: dict[str, Pair], clock: _Clock) -> Iterator[Job]:
        done, aims = self._rows(benchmark, method.name), self._rows(benchmark, method.against or "")
        for key in benchmark.keys:
            if key in done or (method.against and key not in aims):
                continue
            with clock.stopped():
                try:
                    waiting[key] = pair = benchmark.load(key)
                except (PictureError, MemoryError) as error:
                    self._problem(f"{key}: {too_large()}" if isinstance(error, MemoryError) else str(error))
                    continue
            if not method.against:
                yield Job(key, pair.noisy)
            elif (psnr := aims[key].scores["psnr"]) is not None:
                yield TargetJob(key, pair.noisy, truth=pair.clean, psnr=psnr)

    def _row(
        self, benchmark: Benchmark, method: Column, pair: Pair, result: Result, seconds: float
    ) -> tuple[Row, Sequence[str]]:
        """The row, and why scores of it are missing."""
        kept = self.plan.reconstructions
        r = kept[pair.key] if kept and self.plan.judge.needs_reconstruction and pair.key in kept else None
        scores, reasons = self.plan.judge.score(result.pixels, pair.clean, benchmark.ssim, r)
        evaluations = float(result.steps.mean()) if result.steps.size else 0.0
        height, width = result.pixels.shape[:2]
        strength = result.strength if isinstance(result, RivalResult) else None
        size = height * width / 1e6
        return Row(benchmark.name, method.name, pair.key, scores, size, seconds, evaluations, strength), reasons

    def _record(self, row: Row, reasons: Sequence[str]) -> None:
        self.rows.append(row)
        self._journal.add(row, reasons)
        self.on_row(row)
        for reason in reasons:
            self._lacking(row.case, row.key, reason)

    def _lacking(self, case: str, key: str, reason: str) -> None:
        """A score that cannot be had: a problem where it was asked for, else a note."""
        if self.plan.judge.asked:
            self._problem(f"{case} {key}: {reason}")
        elif reason not in self.plan.judge.notes:
            self.plan.judge.notes.append(reason)

    def _problem(self, text: str) -> None:
        # Several methods meet the same broken file; it is one problem.
        if text not in self.problems:
            self.problems.append(text)
            self.on_problem(text)


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
