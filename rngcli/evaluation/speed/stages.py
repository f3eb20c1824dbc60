"""A pipeline that looks at the clock: seconds by stage, tiles by batch, waits of the host."""

from __future__ import annotations

import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...inference.blending import Finished
from ...inference.canvas import Canvas
from ...inference.job import Rows
from ...inference.pipeline import Pipeline
from ...inference.scheduler import TileState
from ...inference.uploaded import Uploaded
from ...methods.contract import Request

T = TypeVar("T")


class StagedPipeline(Pipeline):
    """Seconds by stage: upload, reconstruct, control, step, blend; each waited for, so that their sum is a bound.

    `seconds`, `calls` and `tiles` are by stage; what a start does beside reconstruction and control counts as upload.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self.tiles: Counter[str] = Counter()
        self._starting: list[bool] = []  # one list for this pipeline and its copies in other frames
        for name, stage in (("nafnet", "reconstruct"), ("net", "reconstruct"), ("_budgets", "control")):
            self._watch(name, stage)

    def _watch(self, name: str, stage: str) -> None:
        """Time what the method calls by that name, if it has it, where it is called within a start."""
        part = getattr(self.method, name, None)
        call = part.forward if isinstance(part, nn.Module) else part
        if call is None:
            return

        def timed(*args: Any) -> Any:
            return self._timed(stage, 0, call, *args) if self._starting else call(*args)

        owner, attribute = (part, "forward") if isinstance(part, nn.Module) else (self.method, name)
        setattr(owner, attribute, timed)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _count(self, stage: str, seconds: float, tiles: int = 0) -> None:
        self.seconds[stage] += seconds
        self.calls[stage] += 1
        self.tiles[stage] += tiles

    def _timed(self, stage: str, tiles: int, call: Callable[..., T], *args: Any) -> T:
        """What networks that are timed by themselves take is not counted twice."""
        begun, within = self._now(), self._within()
        answer = call(*args)
        inner = self._within() - within if stage == "upload" else 0.0
        self._count(stage, self._now() - begun - inner, tiles)
        return answer

    def _within(self) -> float:
        return self.seconds["reconstruct"] + self.seconds["control"]

    def upload(self, *given: Any, **named: Any) -> Uploaded:
        return self._timed("upload", 0, partial(super().upload, **named), *given)

    def start(self, tiles: Sequence[TileState], pictures: Sequence[Uploaded | None], request: Request) -> None:
        self._starting.append(True)
        self._timed("upload", len(tiles), super().start, tiles, pictures, request)
        self._starting.pop()

    def step(self, tiles: Sequence[TileState], seed: int) -> None:
        self._timed("step", len(tiles), super().step, tiles, seed)

    def finish(
        self, tiles: Sequence[TileState], pictures: Sequence[Uploaded], detail: float, also: Sequence[Tensor] = ()
    ) -> Finished:
        return self._timed("blend", len(tiles), super().finish, tiles, pictures, detail, also)

    def canvas(self, picture: Uploaded, rows: Rows | None = None) -> Canvas:
        canvas = super().canvas(picture, rows)
        put = canvas.put
        canvas.put = lambda i, share: self._timed("blend", 0, put, i, share)  # type: ignore[method-assign]
        return canvas

    @property
    def occupancy(self) -> float:
        """The share of the rows of all steps that belonged to a tile; 1 where there was none."""
        rows = self.calls["step"] * self.capacity
        return self.tiles["step"] / rows if rows else 1.0


@contextmanager
def counted_waits(device: torch.device) -> Iterator[list[int]]:
    """How often the host waited for a CUDA device within, by torch's own account, is put into the list."""
    count: list[int] = []
    if device.type != "cuda":
        yield count
        return
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            yield count
        count.append(sum("synchroniz" in str(warning.message) for warning in told))
    finally:
        torch.cuda.set_sync_debug_mode("default")
