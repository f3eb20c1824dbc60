"""What a run folder remembers: the settings of its trainings, and every row that has been measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...atomic import whole
from ...errors import UsageError
from .patch_scores import PatchScores


@dataclass(frozen=True)
class RowResult:
    """What is known of a row."""

    score: PatchScores
    evaluations: float  # of the generator, a patch, in the mean
    steps: tuple[int, ...]
    minutes: float
    made_by: str

    @classmethod
    def of(cls, known: Mapping[str, Any]) -> RowResult:
        return cls(**{**known, "score": PatchScores(**known["score"]), "steps": tuple(known["steps"])})


class Ledger:
    """ablation.json in the run folder: the settings of its trainings, and the results so far, by their rows' keys."""

    def __init__(self, file: Path, settings: Mapping[str, Any]) -> None:
        self.file, self.settings = file, dict(settings)
        self.results: dict[str, RowResult] = {}
        if file.exists():
            known = json.loads(file.read_text())
            other = [name for name, value in self.settings.items() if known["settings"].get(name) != value]
            if other:
                before = ", ".join(f"{name} {known['settings'].get(name)}" for name in other)
                raise UsageError(f"{file.parent} holds ablations with {before}", "give that again, or another --run")
            self.results = {key: RowResult.of(result) for key, result in known["results"].items()}
        self._write()

    def put(self, key: str, result: RowResult) -> None:
        """Remember it on disk."""
        self.results[key] = result
        self._write()

    def _write(self) -> None:
        table = {"settings": self.settings, "results": {key: asdict(r) for key, r in self.results.items()}}
        with whole(self.file) as part:
            part.write_text(json.dumps(table))
