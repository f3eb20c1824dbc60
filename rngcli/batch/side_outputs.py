"""What is made beside a picture: scores against a reference, a map of its steps, figures for the manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from .. import images
from ..inference import engine
from ..inference.step_map import step_map
from .failures import failure
from .file_options import FileOptions
from .inputs import Outcome, Task
from .manifest_entry import Source
from .reference import NO_PARTNER, Reference
from .report import json_number

FIGURES = ("megapixels", "steps", "seconds", "sigma")  # of an Outcome
Pages = Callable[[], Iterable[np.ndarray]]  # a picture in sRGB, or the pages of one


def scored(outcome: Outcome, files: FileOptions, after: Pages, before: Pages) -> Outcome:
    """The outcome with its scores against the reference, and the input's own, where that has a partner of it.

    Of several pages, the mean.
    """
    if not (files.reference and files.score):
        return outcome
    partner = Reference(files.reference).partner(outcome.task)
    if not partner:
        note = f"{NO_PARTNER}{files.reference / outcome.task.name}, nor another of its stem"
        return replace(outcome, notes=(*outcome.notes, note))
    rows: list[tuple[Mapping[str, float | None], Mapping[str, float | None]]] = []
    reasons: dict[str, None] = {}
    for denoised, noisy, clean in zip_longest(after(), before(), images.read_pages(partner, files.read)):
        if denoised is None or noisy is None or clean is None:
            return replace(outcome, notes=(*outcome.notes, f"not scored: {partner} has another number of pages"))
        truth = images.in_srgb(clean)
        scores, why = files.score(denoised, truth)
        # A picture that was enlarged has no score of its own.
        rows.append((scores, files.score(noisy, truth)[0] if noisy.shape == truth.shape else {}))
        reasons |= dict.fromkeys(why)
    scores, input_scores = (_means(side) for side in zip(*rows, strict=True))
    notes = (f"not scored: {reason}" for reason in reasons)
    return replace(outcome, scores=scores, input_scores=input_scores, notes=(*outcome.notes, *notes))


def _means(pages: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Of each figure over all pages; None where a page has none."""
    return {name: _mean([page.get(name) for page in pages]) for name in pages[0]}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def figures_of(outcome: Outcome, reference: Path | None) -> dict[str, Any]:
    """What the manifest keeps of an outcome, so that the report of a later run can tell of it."""
    kept: dict[str, Any] = {name: getattr(outcome, name) for name in FIGURES}
    kept |= {"pages": outcome.pages} if outcome.pages > 1 else {}
    kept["notes"] = [note for note in outcome.notes if not note.startswith("not scored")]
    kept["detail_map"] = list(outcome.detail_map)
    if outcome.scores and reference:
        for name, scores in (("scores", outcome.scores), ("input_scores", outcome.input_scores)):
            kept[name] = {metric: json_number(value) for metric, value in scores.items()}
        kept["against"] = Reference(reference).state(outcome.task)
    return kept


def detail_map(starts: np.ndarray) -> tuple[str, ...]:
    """How much detail each tile got, (rows, columns) in [0, 1], as rows of hexadecimal digits; nothing where none."""
    if not starts.any():
        return ()
    return tuple("".join(f"{digit:x}" for digit in row) for row in np.rint(starts.clip(0, 1) * 15).astype(int))


def mapped(
    task: Task, result: engine.Result, source: Source | None, files: FileOptions, page: int = 0
) -> tuple[str, ...]:
    """The step map, where one is asked for; what a user is told where it fails: the picture is none the worse."""
    try:
        _map_steps(task, result, source, files, page)
    except Exception as error:
        return (f"not mapped: {failure(error)}",)
    return ()


def _map_steps(task: Task, result: engine.Result, source: Source | None, files: FileOptions, page: int) -> None:
    """The step map of a picture, or of one of its pages, where step maps are asked for."""
    if not (files.step_maps and result.grid):
        return
    shown = images.Image(step_map(result.pixels, result.starts, result.grid))
    path, journal = task.step_map(files.step_maps, page), files.map_journal
    if not (journal and source):
        images.write(path, shown)
        return
    data = images.encode(shown, "png")
    hashed = journal.intend(source, path, data)
    images.write_bytes(path, data)
    journal.written(path, hashed)
