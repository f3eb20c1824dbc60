"""How far a batch is, on a terminal: it moves with every network call, also while the first picture is under way."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from types import TracebackType

from ..batch.inputs import Outcome
from ..batch.report import as_line
from . import progress

# The counts and the time left come first: what the terminal is too narrow for is the picture's name.
LINE = "{bar:12} {desc}  {elapsed}  ETA {remaining}{postfix}"
MOST = 0.99  # of a picture that is not settled


@dataclass
class Meter:
    """Pictures and megapixels done, with the shares of what is in flight, from the tiles that calls have worked on."""

    calls: float  # network calls a tile takes: a guess, until pictures are done
    pictures: int = 0
    megapixels: float = 0.0
    _worked: float = 0.0  # tiles · calls on pictures in flight
    _flying: dict[str, tuple[float, int]] = field(default_factory=dict)  # name: megapixels, tiles

    def begun(self, name: str, megapixels: float, tiles: int) -> None:
        self._flying[name] = megapixels, tiles

    def stepped(self, tiles: int) -> None:
        self._worked += tiles

    def settled(self, name: str, steps: float) -> None:
        """steps: mean evaluations of the generator a tile."""
        megapixels, tiles = self._flying.pop(name, (0.0, 0))
        self.pictures, self.megapixels = self.pictures + 1, self.megapixels + megapixels
        if tiles:
            self.calls = 1 + steps
            self._worked = max(0.0, self._worked - tiles * self.calls)

    def tiles(self) -> tuple[int, int]:
        """(done, all) of the pictures in flight."""
        flying = sum(tiles for _, tiles in self._flying.values())
        return min(int(self._worked / self.calls), flying), flying

    def now(self) -> tuple[float, float]:
        """(pictures, megapixels), not whole numbers; calls are counted for the oldest pictures first."""
        pictures, megapixels, worked = float(self.pictures), self.megapixels, self._worked
        for size, tiles in self._flying.values():
            share = min(worked / (tiles * self.calls), MOST)
            pictures, megapixels = pictures + share, megapixels + share * size
            worked = max(0.0, worked - tiles * self.calls)
        return pictures, megapixels


class BatchProgress:
    """A bar over `total` pictures; nothing where `quiet`, or where stderr is no terminal that draws."""

    def __init__(self, total: int, calls: float, quiet: bool) -> None:
        self._bar = progress.bar(total, "starting", "pictures", quiet, LINE)
        self._meter, self._failed, self._name = Meter(calls), 0, ""
        self._begun = time.monotonic()

    @property
    def shown(self) -> bool:
        return not self._bar.disable

    def __enter__(self) -> BatchProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.close()

    def begun(self, name: str, megapixels: float, tiles: int) -> None:
        """A picture is on its way."""
        self._name = as_line(name)
        self._meter.begun(name, megapixels, tiles)
        self._tell()

    def stepped(self, tiles: int) -> None:
        """A network call has worked on so many tiles."""
        self._meter.stepped(tiles)
        self._tell(refresh=False)

    def settled(self, outcome: Outcome) -> None:
        """A picture is done, or has failed."""
        self._failed += outcome.error is not None
        self._meter.settled(outcome.task.name, outcome.steps)
        self._tell()

    def _tell(self, refresh: bool = True) -> None:
        if not self.shown:
            return
        pictures, megapixels = self._meter.now()
        rate = megapixels / max(time.monotonic() - self._begun, 1e-9)
        speed = f"{rate:.2f} Mpx/s" if rate else "starting"
        done, flying = self._meter.tiles()
        tiles = f"  tile {done}/{flying}" if flying else ""
        self._bar.desc = f"{self._meter.pictures}/{progress.counted(self._bar.total, 'pictures')}{tiles}"
        failed = _red(f"{self._failed} failed") if self._failed else ""
        self._bar.postfix = ", ".join(filter(None, (speed, failed, self._name)))
        self._bar.update(max(0.0, pictures - self._bar.n))
        if refresh:
            self._bar.refresh()


def _red(text: str) -> str:
    return text if os.environ.get("NO_COLOR") else f"\x1b[31m{text}\x1b[0m"
