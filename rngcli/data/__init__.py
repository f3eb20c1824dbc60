"""Pictures to measure on and to learn from; every source gives a `Benchmark`, read one pair at a time."""

from .benchmark import Benchmark, Pair, awgn
from .datasets import NAMED, named
from .folders import clean_folder, matched, paired, with_noise
from .sidd import write_submission

__all__ = [
    "NAMED", "Benchmark", "Pair", "awgn", "clean_folder", "matched", "named", "paired", "with_noise",
    "write_submission",
]  # fmt: skip
