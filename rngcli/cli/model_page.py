"""What `rng models show` says of a model to a person: its methods, its networks, and how it came to be."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

WIDTH = 100  # [columns]


def page(facts: Mapping[str, Any]) -> str:
    """Of the facts that --json gives: file, sha256, methods, networks, provenance."""
    sections = {
        "methods": _methods(facts["methods"]),
        "networks": _networks(facts["networks"]),
        "how it was made": _provenance(facts["provenance"]),
    }
    text = f"{facts['file']}, SHA-256 {facts['sha256']}\n"
    for title, rows in sections.items():
        found = list(rows)
        wide = max((len(name) for name, _ in found), default=0)
        text += f"\n{title}\n" + "".join(_row(name, words, wide) for name, words in found)
    return text + "\nAll of it, with every score and setting: --json"


def _row(name: str, words: str, wide: int) -> str:
    indent = " " * (wide + 4)
    return textwrap.fill(words, WIDTH, initial_indent=f"  {name:{wide}}  ", subsequent_indent=indent) + "\n"


def _methods(methods: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for i, (name, method) in enumerate(methods.items()):
        words = [", ".join(f"{role} by {net}" for role, net in method["networks"].items())]
        if budgets := method.get("budgets"):
            most = max(budget["evaluations"] for budget in budgets)
            words.append(f"{len(budgets)} budgets of up to {most} evaluation{'s' * (most != 1)}")
        if sigma := method.get("process", {}).get("sigma_d"):
            words.append(f"residual of σ {255 * sigma:.1f} of 255")
        yield f"{name} (default)" if i == 0 else name, "; ".join(filter(None, words))


def _networks(networks: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, net in networks.items():
        yield name, f"{net['parameters']:,} parameters: {_listed(net['spec'])}"


def _provenance(stages: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, facts in stages.items():
        before = facts.get("from", {})
        words = _listed({key: value for key, value in facts.items() if key not in ("from", "scores")})
        yield name, words + f"; on top of {_earlier(before)}" * bool(before)
        if scores := facts.get("scores"):
            yield "", f"scores: {_listed(scores)}"


def _earlier(facts: Mapping[str, Any]) -> str:
    """All trainings before it, one inside the other."""
    count, minutes = 0, 0.0
    while facts:
        count, minutes, facts = count + 1, minutes + facts.get("minutes", 0.0), facts.get("from", {})
    return f"{count} earlier training{'s' * (count != 1)} of {minutes:.0f} minutes"


def _listed(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_plain(value)}" for key, value in facts.items() if value is not None)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({_listed(value)})"
    if isinstance(value, (list, tuple)):
        return "-".join(map(_plain, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
