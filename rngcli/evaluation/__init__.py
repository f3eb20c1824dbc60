"""Methods over benchmarks: what can be compared, the run that compares it, and the pictures kept for the eye."""

from .methods import Column, Sweep, methods
from .run import Evaluation, Plan

__all__ = ["Column", "Evaluation", "Plan", "Sweep", "methods"]
