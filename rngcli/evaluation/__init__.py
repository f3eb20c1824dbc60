"""Methods over benchmarks: what can be compared, the run that compares it, and the pictures kept for the eye."""

from .methods import Method, Sweep, methods
from .run import Evaluation, Plan

__all__ = ["Evaluation", "Method", "Plan", "Sweep", "methods"]
