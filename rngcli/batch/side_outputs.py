"""What is made beside a picture: scores against a reference, a map of its steps, figures for the manifest."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import images
from ..inference import engine
from ..inference.step_map import step_map
from .file_options import FileOptions
from .inputs import Outcome, Task
from .manifest_entry import Source, stamp
from .report import json_number


def scored(outcome: Outcome, files: FileOptions, pixels: Callable[[], np.ndarray]) -> Outcome:
    """The outcome with its scores against the reference, where that has a picture of its name."""
    if not (files.reference and files.score):
        return outcome
    partner = files.reference / outcome.task.name
    if not partner.exists():
        return replace(outcome, notes=(*outcome.notes, f"not scored: there is no {partner}"))
    clean = images.read(partner, files.read)
    scores, reasons = files.score(pixels(), images.in_srgb(clean))
    notes = (f"not scored: {reason}" for reason in dict.fromkeys(reasons))
    return replace(outcome, scores=scores, notes=(*outcome.notes, *notes))


def figures_of(outcome: Outcome, reference: Path | None) -> dict[str, Any]:
    """What the manifest keeps of an outcome, so that the report of a later run can tell of it."""
    kept: dict[str, Any] = {"megapixels": outcome.megapixels, "steps": outcome.steps, "seconds": outcome.seconds}
    kept["notes"] = [note for note in outcome.notes if not note.startswith("not scored")]
    if outcome.scores:
        kept["scores"] = {name: json_number(value) for name, value in outcome.scores.items()}
        kept["against"] = against(reference, outcome.task)
    return kept


def against(reference: Path | None, task: Task) -> list[Any] | None:
    """Which picture a score is against, and its state; OSError where it is not there."""
    if not reference:
        return None
    return [os.path.realpath(reference / task.name), *stamp(reference / task.name)]


def map_steps(task: Task, result: engine.Result, source: Source | None, files: FileOptions) -> None:
    """The step map of a picture, where step maps are asked for."""
    if not (files.step_maps and result.grid):
        return
    shown = images.Image(step_map(result.pixels, result.starts, result.grid))
    path, journal = task.step_map(files.step_maps), files.map_journal
    if not (journal and source):
        images.write(path, shown)
        return
    data = images.encode(shown, "png")
    hashed = journal.intend(source, path, data)
    images.write_bytes(path, data)
    journal.written(path, hashed)
