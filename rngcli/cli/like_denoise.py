"""Commands that have the options of `rng denoise` beside their own: restore and watch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import typer

from .denoise import denoise


def like_denoise(decided: Mapping[str, Any], **defaults: Any) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """The command with all options of `denoise` after its own but those `decided`, which it is given all the same.

    Some have other `defaults`. The command returns its exit code.
    """

    def wrapped(command: Callable[..., Any]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.kind != p.VAR_KEYWORD]
        theirs = inspect.signature(denoise, eval_str=True).parameters.values()
        shared = [p.replace(default=defaults.get(p.name, p.default)) for p in theirs if p.name not in decided]

        @wraps(command)
        def run(**given: Any) -> None:
            raise typer.Exit(command(**{**decided, **given}))

        options = [p.replace(kind=p.KEYWORD_ONLY) for p in (*own, *shared)]
        run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in options}
        return run

    return wrapped
