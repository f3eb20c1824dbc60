"""What the shell offers at Tab: models, datasets and the choices of options, found without loading torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..models.model_zoo import available

Completion = Callable[[str], list[str]]


def _one_of(choices: Callable[[], Iterable[str]]) -> Completion:
    """Those of `choices` that begin with what is typed; they are asked for at Tab, not when rng starts."""
    return lambda incomplete: [name for name in choices() if name.startswith(incomplete)]


def _datasets() -> Iterable[str]:
    from ..data import NAMED

    return NAMED


def _formats() -> Iterable[str]:
    from ..images import SUFFIX_OF_FORMAT

    return SUFFIX_OF_FORMAT


models = _one_of(available)  # for a file the shell's own completion takes over
datasets = _one_of(_datasets)
formats = _one_of(_formats)
devices = _one_of(lambda: ("auto", "cpu", "cuda", "mps"))
device_lists = _one_of(lambda: ("auto", "cpu", "cuda", "mps", "all"))
precisions = _one_of(lambda: ("auto", "fp32", "bf16", "fp16"))
