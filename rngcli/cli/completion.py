"""What the shell offers at Tab: names of models and of datasets, found without loading torch."""

from __future__ import annotations

from ..models.model_zoo import available


def models(incomplete: str) -> list[str]:
    """Shipped models; for a file the shell's own completion takes over."""
    return [name for name in available() if name.startswith(incomplete)]


def datasets(incomplete: str) -> list[str]:
    """Named benchmarks."""
    from ..data import NAMED

    return [name for name in NAMED if name.startswith(incomplete)]


def formats(incomplete: str) -> list[str]:
    """Formats that rng writes."""
    from ..images import SUFFIX_OF_FORMAT

    return [name for name in SUFFIX_OF_FORMAT if name.startswith(incomplete)]
