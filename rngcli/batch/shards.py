"""A part of the pictures for each of several runs that know nothing of each other: Slurm arrays, GNU parallel."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from dataclasses import dataclass, replace

from ..errors import UsageError
from .inputs import Inputs, Task

MOST_SHARDS = 100_000


@dataclass(frozen=True)
class Shard:
    """Part `number` of `count`, from 1: the pictures whose names' hash falls to it."""

    number: int
    count: int

    @classmethod
    def named(cls, text: str) -> Shard:
        """Of "2/8"; UsageError for anything else."""
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        shard = cls(int(match[1]), int(match[2])) if match else cls(0, 0)
        if not 1 <= shard.number <= shard.count <= MOST_SHARDS:
            remedy = f"give i/n, with i from 1 to n, and n at most {MOST_SHARDS}: 1/8 … 8/8"
            raise UsageError(f"--shard {text!r} names no part", remedy)
        return shard

    def holds(self, task: Task) -> bool:
        """Whether the picture is of this part: by its name below IN alone, so that every run agrees, on any system."""
        name = os.fsencode(unicodedata.normalize("NFC", task.name.replace(os.sep, "/")))
        return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest()) % self.count == self.number - 1

    def of(self, inputs: Inputs) -> Inputs:
        """What the run is about that does only this part; what was passed over is told by the first one."""
        passed_over = inputs.passed_over if self.number == 1 else type(inputs.passed_over)()
        refused = [outcome for outcome in inputs.refused if self.holds(outcome.task)]
        return replace(inputs, tasks=list(filter(self.holds, inputs.tasks)), refused=refused, passed_over=passed_over)
