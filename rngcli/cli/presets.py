"""rng.toml: options that need not be typed, and presets of them by name.

    device = "cuda"             # for every run

    [preset.film]               # rng denoise photos/ clean/ --preset film
    detail = 0.6
    luma = 0.7

What is typed counts more than the preset, that more than the file's own settings, and these more than the defaults.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from ..errors import UsageError

NAME = "rng.toml"
ORDER = "What is typed counts more than the preset, that more than the rest of the file, and that more than defaults."
# What says which files one run is about is typed for that run.
_TYPED = {"paths", "out", "folder", "target", "files_from", "null", "dry_run", "preview", "preset", "config",
          "reference", "report", "step_map", "debug"}  # fmt: skip


def found() -> Path | None:
    """The rng.toml of the working folder, or the user's own; None where there is neither."""
    places = (Path(NAME), Path(typer.get_app_dir("rng")) / NAME)
    return next((place for place in places if place.is_file()), None)


def read(path: Path) -> dict[str, Any]:
    """The content of a file of settings; UsageError where it cannot be read as one."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})", "name another with --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no TOML ({error})", "correct it") from None


def used(given: Mapping[str, Any]) -> str:
    """The line that tells where settings came from; empty where all were typed."""
    preset = f", preset {given['preset']}" if given["preset"] else ""
    return f"settings of {given['config']}{preset}" if given["config"] else ""


def preset_names() -> Sequence[str]:
    """For the shell's completion: silent where there is no file, or none that can be read."""
    try:
        path = found()
        return tuple(read(path).get("preset", {})) if path else ()
    except UsageError:
        return ()


def settings(path: Path, preset: str | None, options: set[str]) -> dict[str, Any]:
    """The file's settings and over them the preset's, by the names of `options`; UsageError for one that is unknown."""
    content = read(path)
    presets = content.pop("preset", {})
    if preset is not None and preset not in presets:
        known = ", ".join(presets) or "none"
        raise UsageError(f"{path} has no preset {preset!r}", f"its presets: {known}")
    merged: dict[str, Any] = {}
    for table in (content, presets.get(preset, {})):
        merged |= _checked(table, path, options)
    return merged


def _checked(table: Mapping[str, Any], path: Path, options: set[str]) -> dict[str, Any]:
    given = {key.replace("-", "_"): value for key, value in table.items()}
    if stray := set(given) - (options - _TYPED):
        known = ", ".join(sorted(options - _TYPED))
        raise UsageError(f"{path} says {min(stray)!r}, which is no setting", f"settings are {known}")
    return given


class Configured(TyperCommand):
    """A command with the options --config and --preset, whose defaults are what these say."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if ctx.resilient_parsing or {"--help", "-h"} & set(args):
            return super().parse_args(ctx, args)
        typed, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        path = Path(typed["config"]) if typed.get("config") else found()
        if path is None and typed.get("preset"):
            raise UsageError(
                f"--preset {typed['preset']} needs a file of presets", f"write {NAME}, or name one: --config"
            )
        if path:
            own = _names(self)
            found_there = settings(path, typed.get("preset"), own | _names(*_configured(ctx)))
            known = {name: value for name, value in found_there.items() if name in own}
            ctx.default_map = {**known, "config": str(path)}
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            name = str(getattr(error.param, "name", ""))
            source = ctx.get_parameter_source(name)
            if path and source is not None and source.name == "DEFAULT_MAP":
                raise UsageError(f"{path}: {name}: {error.message}", "correct it") from None
            raise


def _configured(ctx: Any) -> list[TyperCommand]:
    """The commands beside this one that read the file as well: what only they know is no mistake in it."""
    commands = getattr(ctx.parent and ctx.parent.command, "commands", {})
    return [command for command in commands.values() if isinstance(command, Configured)]


def _names(*commands: TyperCommand) -> set[str]:
    return {str(option.name) for command in commands for option in command.params}
