"""Where a stage runs: the processes that train it together, the signals that they heed, and who hears how it goes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from ..errors import EnvironmentFault, Exit, Interrupted
from ..signals import Interruption
from .distributed import Ranks, find_ranks
from .spec import TrainSpec
from .stage import Stage
from .trainer import Trainer

T = TypeVar("T")


class Listener(Protocol):
    """Hears how a training goes; the command line has one that shows it."""

    def say(self, line: str) -> None:
        """A line for a person."""

    def track(self, work: Iterable[T], doing: str, total: int, unit: str) -> Iterable[T]:
        """`work`, item by item; told of as, say, "decoding 900 pictures"."""

    def follow(self, trainer: Trainer, crops: int) -> None:
        """Let it run to its end; a step takes `crops` crops on all ranks together."""


class Silent:
    """A listener that shows nothing."""

    def say(self, line: str) -> None:
        pass

    def track(self, work: Iterable[T], doing: str, total: int, unit: str) -> Iterable[T]:
        return work

    def follow(self, trainer: Trainer, crops: int) -> None:
        # The run is closed at once, so that what is learned is saved at once.
        with closing(trainer.run()) as run:
            for _ in run:
                pass


@dataclass(frozen=True)
class Host:
    """By itself, one process that nobody interrupts and nobody hears."""

    ranks: Ranks = field(default_factory=Ranks)
    interruption: Interruption = field(default_factory=Interruption)
    listener: Listener = field(default_factory=Silent)

    def trainer(self, stage: Stage, spec: TrainSpec, folder: Path) -> Trainer:
        """The trainer of `stage` in `folder`, at the state that was left there."""
        trainer = Trainer(stage, spec, folder, self.ranks, self.interruption)
        trainer.tell = self.listener.say
        trainer.resume()
        return trainer

    def train(self, trainer: Trainer, crops: int) -> None:
        """Train to the end of the trainer's spec; a step takes `crops` crops on all ranks together.

        Raises Interrupted where a signal ends it, EnvironmentFault where the device's memory is too small.
        """
        if trainer.step:
            self.listener.say(f"going on from step {trainer.step}, {trainer.minutes:.1f} minutes")
        if trainer.forward.compiles and trainer.spec.progress(trainer.step, trainer.minutes) < 1:
            self.listener.say("compiling the network: the first step takes a minute or two")
        try:
            with _within_memory():
                self.listener.follow(trainer, crops)
        except KeyboardInterrupt:
            after = f"interrupted after step {trainer.step}"
            raise Interrupted(after, "what is learned is saved; the same command goes on from there") from None


@contextmanager
def hosted(listener: Listener) -> Iterator[Host]:
    """Join the other ranks, if any; SIGTERM ends the stage as Ctrl-C does. Only rank 0 has a listener.

    Where several ranks fail, the first of them tells why, and the others end without a word.
    """
    ranks = find_ranks()
    host = Host(ranks, listener=listener if ranks.first else Silent())
    try:
        with host.interruption.heard(heed=ranks.first):
            yield host
    except (Exception, KeyboardInterrupt) as error:
        if not ranks.speaks():
            sys.exit(getattr(error, "code", Exit.SOME_FAILED))
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted("interrupted", "the same command goes on from what is saved") from None
        raise


@contextmanager
def _within_memory() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # A CPU's allocator has no exception of its own.
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise EnvironmentFault("the batch needs more memory than there is", "lower --batch or --crop") from error
