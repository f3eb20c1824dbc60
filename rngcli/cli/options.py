"""The options of `rng denoise` as given, what can be refused of them at once, and what they mean for the library."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from ..batch.inputs import Naming, Task, keep_apart, parse_list, plan
from ..batch.manifest import digest
from ..errors import NoInputError, UsageError
from ..images import Format, ReadOptions, WriteOptions

if TYPE_CHECKING:
    from ..inference.pipeline import Pipeline
    from ..methods.contract import Request

PIPE = Path("-")


@dataclass(frozen=True)
class Settings:
    """The options of `rng denoise`, as given."""

    paths: tuple[Path, ...]
    out: Path | None
    files_from: Path | None
    null: bool
    max_steps: int
    steps: str
    detail: float
    seed: int
    model: str
    method: str | None
    device: str
    precision: str
    batch_size: int
    suffix: str
    format: str | None
    quality: int | None
    strip_metadata: bool
    max_pixels: int
    raw_bright: bool
    overwrite: bool
    fail_fast: bool
    step_map: Path | None
    dry_run: bool
    reference: Path | None
    report: Path | None
    log: Path | None
    json: bool
    quiet: bool

    def check(self) -> None:
        """Refuse what cannot be meant."""
        if self.report and self.report.suffix not in (".json", ".csv"):
            raise UsageError(f"--report {self.report} is neither .json nor .csv", "name it so")
        if self.reference and not self.reference.is_dir():
            raise UsageError(f"--reference {self.reference} is no folder", "give the folder of the clean pictures")
        if self.format and self.format not in get_args(Format):
            raise UsageError(f"unknown --format {self.format!r}", f"use one of {', '.join(get_args(Format))}")
        if self.null and not self.files_from:
            raise UsageError("-0 is about a list", "add --files-from FILE, or - for stdin")
        if self.piped and (self.files_from or len(self.inputs) != 1):
            raise UsageError("a pipe holds one picture", "rng denoise - - < a.jpg > b.jpg")
        if self.piped and (self.reference or self.report or self.step_map or self.dry_run):
            raise UsageError("--reference, --report, --step-map and --dry-run need named files", "leave out the pipe")
        if self.target == PIPE and (self.json or sys.stdout.isatty()):
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

    @property
    def folder(self) -> Path:
        """Where the manifest of this run lies."""
        return self.target if self.target.is_dir() or not self._one_file else self.target.absolute().parent

    @property
    def _one_file(self) -> bool:
        tasks = self.tasks
        return len(tasks) == 1 and tasks[0].target == self.target

    @cached_property
    def tasks(self) -> list[Task]:
        """All pictures of the run, done or not."""
        naming = Naming(self.suffix, self.format)  # type: ignore[arg-type]
        tasks = plan(self.inputs, self.target, naming, self._listed())
        if self.step_map:
            keep_apart(tasks, self.step_map)
        return tasks

    def _listed(self) -> list[Path]:
        if not self.files_from:
            return []
        try:
            data = sys.stdin.buffer.read() if self.files_from == PIPE else self.files_from.read_bytes()
        except OSError as error:
            cause = f"the list {self.files_from} cannot be read ({error.strerror})"
            raise NoInputError(cause, "name another") from None
        return parse_list(data, self.null)

    @property
    def read(self) -> ReadOptions:
        return ReadOptions(self.max_pixels, self.raw_bright)

    @property
    def write(self) -> WriteOptions:
        return WriteOptions(self.quality, self.strip_metadata)

    @cached_property
    def request(self) -> Request:
        from ..methods.contract import Request

        if self.steps == "auto":
            return Request(self.max_steps, None, self.detail, self.seed)
        if not self.steps.isdecimal():
            raise UsageError(f"--steps {self.steps!r} is neither auto nor a number", "give auto, or a number from 0 on")
        return Request(self.max_steps, int(self.steps), self.detail, self.seed)

    @cached_property
    def pipeline(self) -> Pipeline:
        """The networks on the device."""
        from ..inference.pipeline import Pipeline
        from ..models.bundle import load

        return Pipeline(load(self.model), self.device, self.precision, self.batch_size or None, self.method)

    @cached_property
    def digest(self) -> str:
        """Of all that an output depends on beside its source; needs the model's file, but not its networks.

        Not the capacity, which changes no more than roundings, and not rng's version: after an update nobody wants to
        do ten thousand pictures again unasked.
        """
        from ..device import find_device, find_precision
        from ..models.bundle import file_hash, resolve

        device = find_device(self.device)
        request = self.request
        generated = request.detail > 0 and request.steps != 0 and request.max_steps > 0
        return digest({
            "model": file_hash(resolve(self.model)),
            **({"method": self.method} if self.method else {}),
            "device": device.type,
            "precision": str(find_precision(device, self.precision)),
            "detail": [request.max_steps, request.steps, request.detail, request.seed] if generated else None,
            "format": self.format,
            "quality": self.quality,
            "strip": self.strip_metadata,
            "bright": self.raw_bright,
        })  # fmt: skip
