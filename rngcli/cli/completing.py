"""What the shell offers at Tab: names of models and of datasets, found without loading torch."""

from __future__ import annotations

from pathlib import Path

# Where `checkpoint`, which loads torch, finds the shipped models: inside a wheel, or at the top of a checkout.
_SHELVES = (Path(__file__).parents[1] / "models", Path(__file__).parents[2] / "models")


def models(incomplete: str) -> list[str]:
    """Shipped models; for a file the shell's own completion takes over."""
    found = {path.stem for shelf in _SHELVES for path in shelf.glob("*.safetensors")}
    return sorted(name for name in found if name.startswith(incomplete))


def datasets(incomplete: str) -> list[str]:
    """Named benchmarks."""
    from ..datasets import NAMED

    return [name for name in NAMED if name.startswith(incomplete)]


def formats(incomplete: str) -> list[str]:
    """Formats that rng writes."""
    from ..images import SUFFIX_OF_FORMAT

    return [name for name in SUFFIX_OF_FORMAT if name.startswith(incomplete)]
