"""What a stage of training brings, a network with a loss and scores, and what comes of it: log lines, pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from .. import images
from ..batch.report import json_number
from ..errors import EnvironmentFault


class Stage(Protocol):
    """What a stage brings: a network, a loss on a fresh random batch, a score."""

    net: nn.Module

    def loss(self, forward: Callable[..., Any], rng: torch.Generator) -> Tensor:
        """The loss of one batch drawn with `rng`; `forward` is the network, perhaps compiled."""

    def validate(self, net: nn.Module) -> dict[str, float]:
        """Scores of the averaged network on held-out pictures."""


@runtime_checkable
class Illustrated(Protocol):
    """A stage that can show what its network does; each checkpoint then draws it."""

    def samples(self, net: nn.Module) -> Tensor:
        """By the averaged network: (rows, columns, 3, H, W) sRGB, a row a held-out crop, from noisy x to truth y."""


@dataclass
class Progress:
    """Where a run stands; one line of log.jsonl."""

    step: int
    minutes: float
    loss: float
    lr: float
    scores: dict[str, float]

    def append_to(self, log: Path) -> None:
        """Add the line; an infinite score is the string "inf". Raises EnvironmentFault where the disk refuses."""
        scores = {name: json_number(value) for name, value in self.scores.items()}
        try:
            with log.open("a") as file:
                file.write(json.dumps(asdict(self) | {"scores": scores}, allow_nan=False) + "\n")
        except OSError as error:
            cause = f"{log} cannot be written ({error.strerror})"
            raise EnvironmentFault(cause, "make room on the disk; the same command goes on") from error


def draw(samples: Tensor, path: Path) -> None:
    """Write (rows, columns, 3, H, W) sRGB, clamped to [0, 1], as one picture; makes the folder."""
    rows, columns, channels, height, width = samples.shape
    strips = samples.permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)
    images.write(path, images.Image(strips.float().clamp(0, 1).cpu().numpy()))
