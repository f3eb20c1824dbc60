"""Continuous batching: which tiles start, step and leave next. Plain Python; knows no tensor and no picture.

    while True:
        while scheduler.hungry and there is another picture:
            scheduler.add(its tiles)
        if scheduler.idle:
            break
        start(scheduler.admit())                            # each tile gets its plan
        step(batch := scheduler.batch())                    # each tile at its own step of its own plan
        scheduler.advance(batch)
        finish(tile) for tile in scheduler.retire()         # before the next admit gives their slots away
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

by_age, by_slot = attrgetter("image", "index"), attrgetter("slot")


@dataclass(eq=False)
class TileState:
    """One tile on its way: tile `index` of picture number `image`, in `slot` once admitted.

    `plan` holds one entry for each step, whatever the process wants there; it is set when the tile starts, and
    an empty one means that nothing is to be generated. `done` steps of it are done.
    """

    image: int
    index: int
    origin: tuple[int, int] = (0, 0)  # (y, x) of its first pixel in the picture [px], the noise's key
    slot: int = -1
    plan: tuple[float, ...] = ()
    done: int = 0

    @property
    def finished(self) -> bool:
        return self.done >= len(self.plan)


class Scheduler:
    """Keeps batches of `capacity` tiles full, the oldest pictures first.

    With slots = capacity every freed slot is given away at once, and most starts are for a tile or two. More
    slots let started tiles wait their turn: tiles start only when a step would run short of them, and 2·capacity
    slots then suffice for starts and steps to be full batches alike, as long as there is work.
    """

    def __init__(self, capacity: int, slots: int | None = None) -> None:
        """capacity: tiles in one batch, at least 1. slots: tiles that can be held on the device, at least capacity."""
        slots = capacity if slots is None else slots
        if not 1 <= capacity <= slots:
            raise ValueError(f"need 1 ≤ capacity ≤ slots, not {capacity} and {slots}")
        self.capacity = capacity
        self._waiting: list[TileState] = []
        self._active: list[TileState] = []
        self._free = list(range(slots))

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return not self._waiting and not self._active

    @property
    def hungry(self) -> bool:
        """More tiles could start now than are waiting: time to draw the next picture, and not before."""
        return len(self._waiting) < self._room()

    def _room(self) -> int:
        """How many tiles should start now: none while the next step is full without them."""
        return min(self.capacity, len(self._free)) if len(self._active) < self.capacity else 0

    def add(self, tiles: Iterable[TileState]) -> None:
        """Let tiles wait for a slot, behind all of older pictures."""
        self._waiting = sorted([*self._waiting, *tiles], key=by_age)

    def admit(self) -> list[TileState]:
        """Give slots to the tiles that should start now, at most `capacity`; they must be started before `batch`."""
        room = self._room()
        admitted, self._waiting = self._waiting[:room], self._waiting[room:]
        for tile in admitted:
            tile.slot = self._free.pop(0)
        self._active += admitted
        return admitted

    def batch(self) -> list[TileState]:
        """The tiles to step now: the oldest that have steps left, at most `capacity`, in the order of their slots."""
        unfinished = sorted((tile for tile in self._active if not tile.finished), key=by_age)
        return sorted(unfinished[: self.capacity], key=by_slot)

    def advance(self, stepped: Iterable[TileState]) -> None:
        """Count one step for each tile; apart from `batch`, so that a step that failed can be tried again."""
        for tile in stepped:
            tile.done += 1

    def retire(self) -> list[TileState]:
        """The tiles that are finished, oldest first; their slots are free from the next `admit` on."""
        finished = sorted((tile for tile in self._active if tile.finished), key=by_age)
        self._active = [tile for tile in self._active if not tile.finished]
        self._free = sorted(self._free + [tile.slot for tile in finished])
        return finished
