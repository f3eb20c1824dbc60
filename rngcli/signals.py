"""Ctrl-C, SIGTERM and SIGHUP: each ends the work, by KeyboardInterrupt, with nothing half-written."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SECOND = 1.0  # [s] torchrun passes a terminal's Ctrl-C on: what comes sooner is no second one
# SIGHUP comes when a terminal closes; Windows has none.
NUMBERS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

Handler = Callable[[int, FrameType | None], None]


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _pass_over(number: int, frame: FrameType | None) -> None:
    """Unlike SIG_IGN, this is not handed down to the programs that this one starts."""


@contextmanager
def interruptible(handler: Handler = _interrupt) -> Iterator[None]:
    """Within, each of these signals raises KeyboardInterrupt, or calls `handler`.

    A signal that is ignored from the start stays so: a shell starts what runs in the background with SIGINT ignored,
    and nohup with SIGHUP. Outside the main thread, which alone may set handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in NUMBERS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = [(number, signal.signal(number, handler)) for number in ours]
    try:
        yield
    finally:
        for number, handled in before:
            signal.signal(number, handled)


class Interruption:
    """Signals held back while a step is under way, so that what is saved is the state after a whole one.

    Within `heard`, a signal raises KeyboardInterrupt; where it comes within `held`, only `asked` tells of it. Another
    one, a second later, is not held back.
    """

    def __init__(self) -> None:
        self._held = False
        self._asked_at: float | None = None

    @property
    def asked(self) -> bool:
        """Whether a signal waits for the step's end."""
        return self._asked_at is not None

    @contextmanager
    def heard(self, heed: bool = True) -> Iterator[Interruption]:
        """Listen; without `heed`, to no effect: a process that is one of several ends when the first one says so."""
        with interruptible(self._on_signal if heed else _pass_over):
            yield self

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let a step end first."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self._held or (self._asked_at is not None and now - self._asked_at > SECOND):
            raise KeyboardInterrupt
        self._asked_at = self._asked_at or now
