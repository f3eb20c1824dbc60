"""IN… OUT as they were given: which arguments are inputs, what a list adds, and where a - means a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..batch.inputs import Inputs, Naming, parse_list, plan
from ..errors import NoInputError, UsageError
from .streams import picture_input

PIPE = Path("-")


@dataclass(frozen=True)
class Operands:
    """The arguments of `rng denoise`, with --out, --files-from and -0."""

    paths: tuple[Path, ...]
    out: Path | None
    files_from: Path | None
    null: bool

    def check(self, named_only: Sequence[str], json: bool) -> None:
        """Refuse what cannot be meant. `named_only`: the options given that make no sense with a pipe."""
        if self.null and not self.files_from:
            raise UsageError("-0 is about a list", "add --files-from FILE, or - for stdin")
        if self.piped and (self.files_from or len(self.inputs) != 1):
            raise UsageError("a pipe holds one picture", "rng denoise - - < a.jpg > b.jpg")
        if self.piped and named_only:
            raise UsageError(f"{' and '.join(named_only)} need named files", "leave out the pipe")
        if self.target == PIPE and (json or sys.stdout.isatty()):
            raise UsageError("stdout is for the picture here", "send it to a file, without --json: … > clean.jpg")

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Pictures, folders and globs: every argument but the last, or all where --out is given."""
        return self.paths if self.out else self.paths[:-1]

    @property
    def target(self) -> Path:
        """OUT: --out, or the last argument."""
        if not self.out and not self.paths[:-1] and not (self.paths and self.files_from):
            raise UsageError("IN or OUT is missing", "rng denoise IN OUT, or rng denoise IN … --out OUT")
        if self.out and not self.paths and not self.files_from:
            raise UsageError("IN is missing", "give a picture or a folder of pictures")
        return self.out or self.paths[-1]

    @property
    def piped(self) -> bool:
        return PIPE in (self.target, *self.inputs)

    def plan(self, naming: Naming, step_maps: Path | None) -> Inputs:
        """All pictures of the run, done or not."""
        return plan(self.inputs, self.target, naming, self._listed(), step_maps)

    def _listed(self) -> list[Path]:
        if not self.files_from:
            return []
        try:
            data = picture_input().read() if self.files_from == PIPE else self.files_from.read_bytes()
        except OSError as error:
            cause = f"the list {self.files_from} cannot be read ({error.strerror})"
            raise NoInputError(cause, "name another") from None
        return parse_list(data, self.null)
