"""Ctrl-C and SIGTERM, held back while a step is under way, so that what is saved is the state after a whole one."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SECOND = 1.0  # [s] torchrun passes a terminal's Ctrl-C on: what comes sooner is no second one


class Interruption:
    """Within `heard`, either signal raises KeyboardInterrupt; where it comes within `held`, only `asked` tells of it.

    Another one, a second later, is not held back.
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
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        handler = self._on_signal if heed else _ignore
        before = [(number, signal.signal(number, handler)) for number in (signal.SIGINT, signal.SIGTERM)]
        try:
            yield self
        finally:
            for number, handled in before:
                signal.signal(number, handled)

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


def _ignore(number: int, frame: FrameType | None) -> None:
    """Unlike SIG_IGN, this is not handed down to the programs that this one starts."""
