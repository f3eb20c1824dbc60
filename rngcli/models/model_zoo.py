"""Where the shipped models lie; without torch, since the shell's completion asks here as well."""

from __future__ import annotations

from pathlib import Path

# Inside an installed wheel they lie beside this file; in a checkout, at the top of the repository.
_PLACES = (Path(__file__).with_name("weights"), Path(__file__).parents[2] / "models")
SHIPPED = next((place for place in _PLACES if place.is_dir()), _PLACES[0])


def available() -> dict[str, Path]:
    """The shipped bundles by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.safetensors"))}
