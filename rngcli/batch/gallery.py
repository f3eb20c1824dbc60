"""Views of a batch's pictures, made beside it, and no more of them than a page can hold."""

from __future__ import annotations

import heapq
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from ..images import ReadOptions
from .failures import failure
from .inputs import Outcome
from .picture_view import PictureView, view_of
from .reference import gain, has_no_partner

LARGE, SMALL = 24 * 2**20, 8 * 2**20  # [bytes] of a page: for whole pictures with crops, and for small ones
_AFTER = 1000.0  # more than any gain or change


class Gallery:
    """Takes outcomes as they come; those that were changed most, or gained least, keep their pictures longest."""

    def __init__(self, read: ReadOptions) -> None:
        self._read = read
        # One thread: a view costs seconds where the picture took a minute, and holds both sides of it in memory.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="view")
        self._pending: list[Future[None]] = []
        self._views: dict[tuple[str, Path], PictureView] = {}
        self._unseen: dict[tuple[str, Path], str] = {}
        self._held = {"large": _Held(LARGE), "small": _Held(SMALL)}

    def add(self, outcome: Outcome) -> None:
        """Have a view made of what is done, now or before."""
        if not outcome.error:
            self._pending.append(self._pool.submit(self._make, outcome))

    @property
    def waiting(self) -> int:
        return sum(not pending.done() for pending in self._pending)

    def close(self, drop: bool = False) -> None:
        """Wait for the views that are being made; with `drop`, begin no other."""
        self._pool.shutdown(wait=True, cancel_futures=drop)

    def view(self, outcome: Outcome) -> PictureView | None:
        return self._views.get(_key(outcome))

    def reason(self, outcome: Outcome) -> str | None:
        """Why a picture that is done cannot be shown."""
        return self._unseen.get(_key(outcome))

    def _make(self, outcome: Outcome) -> None:
        key = _key(outcome)
        try:
            view = view_of(outcome, self._read)
        except Exception as error:
            self._unseen[key] = failure(error).cause
            return
        self._views[key] = view
        for left in self._held["large"].take(badness(outcome, view), key, view.bytes_large):
            self._views[left] = replace(self._views[left], whole=None, crop=None)
        for left in self._held["small"].take(badness(outcome, view), key, view.bytes_small):
            self._views[left] = replace(self._views[left], small=None)


class _Held:
    """Keys with their weights, of which the least bad go where there is no room."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._heap: list[tuple[float, int, tuple[str, Path], int]] = []
        self._count = 0

    def take(self, badness: float, key: tuple[str, Path], size: int) -> list[tuple[str, Path]]:
        """Hold a key; returns those that had to go, it may be this one."""
        heapq.heappush(self._heap, (badness, self._count, key, size))
        self._count += 1
        self._room -= size
        gone = []
        while self._room < 0:
            *_, left, freed = heapq.heappop(self._heap)
            self._room += freed
            gone.append(left)
        return gone


def badness(outcome: Outcome, view: PictureView) -> float:
    """What comes first where the worst is shown first: the least gain in PSNR, or the greatest change.

    What alone among others has no score comes after them.
    """
    gained = gain(outcome, "psnr")
    if gained is not None:
        return -gained
    return view.change - _AFTER * has_no_partner(outcome)


def _key(outcome: Outcome) -> tuple[str, Path]:
    return outcome.task.name, outcome.task.source
