"""Where the shipped models lie; without torch, since the shell's completion asks here as well."""

from __future__ import annotations

from pathlib import Path

# Inside an installed wheel they lie in the package; in a checkout, at the top of the repository.
SHIPPED = next((d for d in (Path(__file__).with_name("models"), Path(__file__).parents[1] / "models") if d.is_dir()),
               Path(__file__).with_name("models"))  # fmt: skip


def available() -> dict[str, Path]:
    """The shipped bundles by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.safetensors"))}
