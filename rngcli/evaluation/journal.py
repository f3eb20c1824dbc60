"""What an evaluation has measured so far, a line at once, so that a run that was stopped goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..data import Benchmark
from ..errors import EnvironmentFault
from ..images import write_bytes
from .plan import EvaluationPlan
from .report import Closeup, Picture, Row
from .report.record import row_as_dict, row_from


class RowJournal:
    """A file of one head, the plan's fingerprint, and a line for each row, picture and close-up; or no file at all.

    A line holds the files that its pair was made of, with size and time: what has changed since, or has gone, does not
    count any more.
    """

    def __init__(self, path: Path | None, plan: EvaluationPlan) -> None:
        self.path, self.plan = path, plan
        self._sets = {benchmark.name: benchmark for benchmark in plan.benchmarks}

    def resume(self) -> tuple[list[Row], list[Picture], list[Closeup], list[tuple[str, str, str]]]:
        """What an earlier run of the same plan has left; a new journal is begun where there is none.

        Last, (case, key, reason) of each score that could not be had.
        """
        if not self.path:
            return [], [], [], []
        head, *entries = _lines(self.path) or [{}]
        same = head == self.plan.fingerprint()
        names = {method.name for method in self.plan.methods} | {"noisy", "clean"}
        kept = [entry for entry in entries if same and self._holds(entry, names)]
        # Written anew even where it is the same: the last line may be torn.
        write_bytes(self.path, "".join(_line(entry) for entry in (self.plan.fingerprint(), *kept)).encode())
        rows = [row_from(entry["row"]) for entry in kept if "row" in entry]
        pictures = [Picture(**entry["picture"]) for entry in kept if "picture" in entry]
        closeups = [Closeup(**entry["closeup"]) for entry in kept if "closeup" in entry]
        reasons = [(row.case, row.key, reason) for row, reason in _reasons(kept)]
        return rows, pictures, closeups, reasons

    def _holds(self, entry: Mapping[str, Any], names: Collection[str]) -> bool:
        about = entry.get("row") or entry.get("picture") or entry.get("closeup") or {}
        benchmark = self._sets.get(about.get("case", ""))
        known = benchmark and about["method"] in names and about["key"] in benchmark.keys
        return bool(benchmark and known and entry.get("of") == made_of(benchmark, about["key"]))

    def add(self, entry: Row | Picture | Closeup, reasons: Sequence[str] = ()) -> None:
        """Written down at once, with why scores of a row are missing.

        Raises EnvironmentFault where the disk refuses.
        """
        if not self.path:
            return
        stored = row_as_dict(entry) if isinstance(entry, Row) else asdict(entry)
        about = {type(entry).__name__.lower(): stored}
        try:
            with self.path.open("a") as file:
                file.write(_line({**about, "reasons": list(reasons), "of": made_of(self._sets[entry.case], entry.key)}))
        except OSError as error:
            cause = f"{self.path} cannot be written ({error.strerror})"
            raise EnvironmentFault(cause, "check the disk and its rights") from None

    def finish(self) -> None:
        """The report is written: the journal has served."""
        if self.path:
            self.path.unlink(missing_ok=True)


def made_of(benchmark: Benchmark, key: str) -> list[list[Any]]:
    """The files of a pair with their sizes and times as they are now."""
    found = []
    for path in benchmark.files(key):
        with suppress(OSError):
            status = path.stat()
            found.append([os.path.realpath(path), status.st_size, status.st_mtime_ns])
    return found


def _reasons(entries: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Row, str]]:
    for entry in entries:
        for reason in entry.get("reasons", ()):
            yield row_from(entry["row"]), reason


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, allow_nan=False) + "\n"


def _lines(journal: Path) -> list[dict[str, Any]]:
    """The whole entries of a journal; the last line of a killed run may be torn."""
    found: list[dict[str, Any]] = []
    with suppress(OSError, json.JSONDecodeError):
        for line in journal.read_text().splitlines():
            found.append(json.loads(line))
    return found
