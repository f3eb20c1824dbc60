"""The contract of a method: how a tile starts, takes steps and is finished, and which options a user has.

A method knows its networks and its process; it knows neither slots nor batches nor where a tile lies. What calls it
(`inference.pipeline`) knows all that, and no method by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol, TypeVar

import numpy as np
from torch import Tensor

from ..diffusion.operators import Seen
from ..errors import UsageError

Held = dict[str, Tensor]  # what a slot keeps of a tile between calls, by name; (N, …) each
Plan = tuple[float, ...]  # the levels that a tile visits, noisiest first; an empty one: nothing is to be generated
STATE = "state"  # the name under which `begin` and `step` are kept

SIDES = tuple(range(128, 1025, 32))  # [px] that a tile may be high or wide, where a picture's size decides
OF_EVERY_METHOD = frozenset({"keep_banding"})  # options of a Request that the engine sees to

Size = tuple[int, int]  # height, width [px]
Pixels = TypeVar("Pixels", Tensor, np.ndarray)


@dataclass(frozen=True)
class Frame:
    """How a method wants a picture cut into tiles, and joined again (paper §3.2); lengths in pixels of the input."""

    tile: Size = (512, 512)  # a larger one spends less on context
    context: int = 32  # more on every side that the networks see: each evaluation carries what lies beyond further in
    scale: int = 1  # pixels of the output for each of the input, along each side
    overlap: int = 32  # of two tiles
    discard: int = 12  # of the overlap, at each tile's end, what is not used
    align: int = 1  # tiles begin at multiples of it, as the network's strides do, so that all see the same samples
    sides: tuple[int, ...] = ()  # heights and widths among which a picture's size decides (`fitted`); none: `tile`
    agreement: float = 1.0  # correlation of what two tiles generate where they blend; what averages out is made up for

    @property
    def wide(self) -> Size:
        """What the networks see."""
        height, width = self.tile
        return height + 2 * self.context, width + 2 * self.context

    def middle(self, wide: Pixels) -> Pixels:
        """Without the context: (…, *wide) -> (…, *tile), at the scale of the input or of the output."""
        height, width = wide.shape[-2:]
        cut = self.context * (width // self.wide[1])
        return wide[..., cut : height - cut, cut : width - cut]


@dataclass(frozen=True)
class Request:
    """What a user may ask of every tile. A method is asked only for what it understands."""

    max_steps: int | None = None  # the most evaluations of the generator; None: what suits the method
    steps: int | None = None  # None: the method decides; else this many evaluations everywhere
    detail: float = 1.0  # the share of what is generated that is added, in [0, 1]
    seed: int = 0
    budget: int | None = None  # the number of one of the model's budgets, for every tile
    noise_scale: float = 1.0  # how many times as strong as it looks the noise is to be taken for
    sigma: float | None = None  # σ_n of every picture on the [0, 1] scale; None: each picture's own, estimated
    keep_banding: bool = False  # leave what whole rows and columns have in common; the engine's, for every method

    @property
    def generates(self) -> bool:
        """Whether anything can be generated at all."""
        return self.detail != 0 and self.steps != 0 and self.max_steps != 0

    def most(self, usual: int) -> int:
        """The most evaluations of the generator, `usual` where neither they nor their number were asked for."""
        asked = (limit for limit in (self.steps, self.max_steps) if limit is not None)
        return min(asked, default=usual)

    def refuse_beyond(self, understood: frozenset[str], method: str) -> None:
        """UsageError where something is asked for that is not among `understood`."""
        asked = {field.name for field in fields(self) if getattr(self, field.name) != field.default}
        for name in sorted(asked - understood - OF_EVERY_METHOD):
            known = ", ".join(map(_flag, sorted(understood))) or "none"
            raise UsageError(f"the method {method} has no option {_flag(name)}", f"its options: {known}")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class Step:
    """One evaluation for a batch of tiles: from which level to which, (N,) each, and with which noise.

    The noise is standard normal, of the state's shape, keyed by each pixel's place; zeros unless `Method.stochastic`.
    """

    now: Tensor
    after: Tensor
    noise: Tensor


class Method(Protocol):
    """A method for one operator, on one device. Every call takes a whole batch and mixes no tile with another."""

    frame: Frame  # a copy of the method with another tile must do as well
    understands: frozenset[str]  # the names of the options of a Request that mean something here
    end: float  # the level of a state without noise
    draws_first_noise: bool  # whether `begin` needs noise; else it gets zeros
    stochastic: bool  # whether a step adds noise
    unit: float  # what 1.0 of the generated part is on the [0, 1] scale

    @property
    def holds(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each thing that a slot keeps of a tile of `frame`; STATE is among them."""

    def require(self, request: Request) -> None:
        """ModelError where the bundle lacks what `request` needs, UsageError where it cannot be meant."""

    def start(self, seen: Seen, request: Request) -> tuple[Held, list[Plan]]:
        """What to hold of tiles (N, 3, *wide), context included, but for the state; and each one's plan."""

    def begin(self, held: Held, level: Tensor, noise: Tensor) -> Tensor:
        """The state of tiles that have a plan, at its first level; noise: as a Step has it, or zeros."""

    def step(self, held: Held, step: Step) -> Tensor:
        """The state after one evaluation of the network, each tile at its own level."""

    def finish(self, held: Held) -> tuple[Tensor, Tensor]:
        """(base, generated) of all that is seen, (N, 3, …): the picture is base + detail·unit·generated.

        Where a tile has no plan, its state means nothing, and only the base is used.
        """

    def start_share(self, level: float) -> float:
        """How far in the noise a plan starts that begins at `level`, in [0, 1] of the fullest."""
