"""The frame around a stage of training: this process among its ranks, signals, and one line for a failure of all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar, cast

from ..errors import Exit, Interrupted
from ..signals import Interruption
from ..training.distributed import Ranks, find_ranks

Method = TypeVar("Method", bound=Callable[..., Any])


@dataclass(frozen=True)
class Frame:
    """What a stage runs in; by itself, one process that nobody interrupts."""

    ranks: Ranks = field(default_factory=Ranks)
    interruption: Interruption = field(default_factory=Interruption)


def by_first(method: Method) -> Method:
    """A method of what has a `frame`: rank 0 does it, and all ranks have what it returns."""

    @wraps(method)
    def shared(self: Any, *arguments: Any) -> Any:
        return self.frame.ranks.once(lambda: method(self, *arguments))

    return cast(Method, shared)


class PartDone(Exception):
    """This rank's part of the stage is over; rank 0 does the rest."""


@contextmanager
def framed() -> Iterator[Frame]:
    """Join the other ranks, if any; SIGTERM ends the stage as Ctrl-C does.

    Where several ranks fail, the first of them tells why, and the others end without a word.
    """
    frame = Frame(find_ranks())
    try:
        with frame.interruption.heard(heed=frame.ranks.first):
            yield frame
    except PartDone:
        return
    except (Exception, KeyboardInterrupt) as error:
        if not frame.ranks.speaks():
            sys.exit(getattr(error, "code", Exit.SOME_FAILED))
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted("interrupted", "the same command goes on from what is saved") from None
        raise
