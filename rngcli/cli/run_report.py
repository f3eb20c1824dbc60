"""What `--report` leaves of a run: a row for every picture of the command, or a page that shows them too."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..batch.inputs import Outcome
from ..batch.report import rows_of, write_report
from . import progress

if TYPE_CHECKING:
    from ..batch.batch import Batch
    from ..methods.contract import Request


def _steps(request: Request) -> str:
    if request.steps is not None:
        return str(request.steps)
    return "as the method decides" if request.max_steps is None else f"at most {request.max_steps}"


class RunReport:
    """Takes outcomes as they come; the file is written at the end, also of a run that is cut short."""

    def __init__(self, path: Path, batch: Batch, quiet: bool) -> None:
        from ..batch.gallery import Gallery  # late: it needs torch, of whose loading the user is told first

        self.path, self._batch, self._quiet = path, batch, quiet
        self._gallery = Gallery(batch.options.files.read) if path.suffix == ".html" else None

    def add(self, outcome: Outcome) -> None:
        if self._gallery:
            self._gallery.add(outcome)

    def write(self, outcomes: Sequence[Outcome], cut_short: bool) -> None:
        """Whole or not at all. Pictures that are not drawn yet are waited for, unless the run was cut short."""
        if not self._gallery:
            write_report(self.path, rows_of(self._batch.tasks, outcomes))
            return
        from ..batch.report_page import write_page

        with progress.waiting(f"drawing {self.path.name} …", self._quiet):
            self._gallery.close(drop=cut_short)
            write_page(self.path, self._title, self._facts(), self._batch.tasks, outcomes, self._gallery)

    @property
    def _title(self) -> str:
        command = "restore" if self._batch.options.operator else "denoise"
        return f"rng {command}: {self._batch.folder.resolve().name}"

    def _facts(self) -> dict[str, str]:
        """What a reader must know of how the pictures were made."""
        options, request = self._batch.options, self._batch.options.request
        strength = options.files.strength
        return {
            "rng": __version__,
            "model": options.model,
            **({"method": options.method} if options.method else {}),
            "steps": _steps(request),
            "detail": f"{request.detail:g}",
            **({} if strength.full else {"strength": f"{strength.luma:g} of light, {strength.chroma:g} of colour"}),
            "seed": str(request.seed),
            "date": date.today().isoformat(),
        }
