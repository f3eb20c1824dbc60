"""Methods over benchmarks: what can be compared, the run that compares it, and the pictures kept for the eye."""

from .methods import Column, Sweep, methods
from .plan import EvaluationPlan, ModelOptions, SetOptions, open_plan
from .run import Evaluation

__all__ = [
    "Column", "Evaluation", "EvaluationPlan", "ModelOptions", "SetOptions", "Sweep", "methods", "open_plan",
]  # fmt: skip
