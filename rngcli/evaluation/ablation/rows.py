"""What is compared with what: the trainings, the rows of each table, and the paper's figures beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...diffusion.residual import ProcessSpec
from ...diffusion.schedule import Budget, ScheduleSpec
from ...training.stages.generate import WITH_PERCEPTUAL

PERCEPTUAL, ONCE = WITH_PERCEPTUAL
PERCEPTUAL_WEIGHT = 25.0  # as the shipped model
# The paper's whole range of levels, more often the quiet ones, where the picture is decided.
PROCESS = ProcessSpec(schedule=ScheduleSpec(quietest=20, crowding=2.0))
CONTROLLER_SHARE = 0.5


@dataclass(frozen=True)
class Variant:
    """One training, and what it leaves: a reconstruction, a generator, or both."""

    strategy: Literal["reconstruct", "generate", "joint", "supervised", "alone"]
    condition: str = "noisy"  # what the U-Net sees, as in UNetSpec; or "fusion": a FusionNet in its place
    prediction: str = "eps"
    perceptual: bool = False  # LPIPS is learned beside the squared error

    @property
    def name(self) -> str:
        """Its folder in the run."""
        parts = [self.strategy, self.condition, self.prediction, *["perceptual"] * self.perceptual]
        return self.strategy if self.strategy == "reconstruct" else "-".join(parts)

    @property
    def stages(self) -> tuple[str, ...]:
        """The folders of all trainings that it rests on, in their order."""
        return ("reconstruct", self.name) if self.strategy == "generate" else (self.name,)

    @property
    def shares(self) -> int:
        """Of the training time: what is trained in one go has the time of two stages."""
        return 1 if self.strategy in ("reconstruct", "generate") else 2


@dataclass(frozen=True)
class Linear:
    """The last `budget` of 100 linear steps (Algorithm 1), from unit noise as printed, or from its level's noise."""

    budget: int
    literal: bool


# How a row's residual is generated: not at all, on one plan, or on each patch's own budget: the controller's choice,
# or for all patches the one whose evaluations are nearest to what the controller spends in the mean.
Walk = None | Budget | Linear | Literal["chosen", "fixed"]
FULL = Budget(2.5, 20)
FROM_NOISE = Budget(10.0, 20)  # where there is no reconstruction, so that all but the mean colour is to be generated


@dataclass(frozen=True)
class TableRow:
    """One line of a table; `paper`: the PSNR [dB] and LPIPS that the paper has for it."""

    label: str
    variant: Variant
    walk: Walk = FULL
    paper: tuple[float, float] | None = None

    @property
    def key(self) -> str:
        """What is measured, whatever the row is called."""
        return f"{self.variant.name} {self.walk}"


@dataclass(frozen=True)
class Part:
    """One table; `claims`: pairs of labels, the first being what the method chose."""

    key: str
    title: str
    source: str  # of the paper's figures
    rows: tuple[TableRow, ...]
    claims: tuple[tuple[str, str], ...]
    needs_lpips: bool = False


RECONSTRUCT = Variant("reconstruct")
PAPER = Variant("generate")  # two stages, conditioned on x, predicting ε
BOTH, BOTH_V = Variant("generate", "both"), Variant("generate", "both", "v")
FUSION = Variant("generate", "fusion", "v")
BUDGETS = (10, 20, 50, 100)


def _starts() -> tuple[TableRow, ...]:
    kinds = (("d_T = √(1−γ_T)·ε", False), ("d_T = ε", True))
    return tuple(TableRow(f"T = {t}, {kind}", PAPER, Linear(t, literal)) for t in BUDGETS for kind, literal in kinds)


STARTS = _starts()
PARTS = (
    Part(
        "strategy", "Training strategy", "Table 1, SIDD, a U-Net as reconstruction",
        (
            TableRow("joint", Variant("joint"), FULL, (32.4438, 0.1360)),
            TableRow("joint, supervised", Variant("supervised"), FULL, (37.2392, 0.1185)),
            TableRow("two-stage", PAPER, FULL, (36.7467, 0.1091)),
        ),
        (("two-stage", "joint"), ("two-stage", "joint, supervised")),
    ),
    Part(
        "condition", "What the generator sees", "Table 1, SIDD, NAFNet as reconstruction",
        (
            TableRow("r(x)", Variant("generate", "reconstruction"), FULL, (38.0268, 0.1116)),
            TableRow("x", PAPER, FULL, (38.1088, 0.0997)),
            TableRow("x and r(x)", BOTH),
            TableRow("x and r(x), v", BOTH_V),
            TableRow("fusion, v", FUSION),
        ),
        (("x", "r(x)"), ("x and r(x)", "x"), ("fusion, v", "x and r(x), v")),
    ),
    Part(
        "prediction", "What the generator predicts", "ε with p = 1, §3.3 and §4",
        (TableRow("ε, p = 1", BOTH), TableRow("v, p = 2", BOTH_V)),
        (("v, p = 2", "ε, p = 1"),),
    ),
    Part(
        "perceptual", "LPIPS beside the squared error", "not in the paper",
        (
            TableRow("squared error, 20 evaluations", FUSION),
            TableRow("squared error, 1 evaluation", FUSION, ONCE),
            TableRow("LPIPS too, 1 evaluation", Variant("generate", "fusion", "v", perceptual=True), ONCE),
        ),
        (("LPIPS too, 1 evaluation", "squared error, 1 evaluation"),
         ("LPIPS too, 1 evaluation", "squared error, 20 evaluations")),
        needs_lpips=True,
    ),
    Part(
        "parts", "The parts", "Table 4, SIDD",
        (
            TableRow("reconstruct only", RECONSTRUCT, None, (40.2110, 0.1877)),
            TableRow("generate only", Variant("alone"), FROM_NOISE, (35.8663, 0.0934)),
            TableRow("both", PAPER, FULL, (37.8497, 0.0891)),
        ),
        (("both", "reconstruct only"), ("both", "generate only")),
    ),
    Part(
        "controller", "The step controller", "Table 5, DIV2K",
        (
            TableRow("one budget", PAPER, "fixed", (31.0144, 0.1078)),
            TableRow("controller", PAPER, "chosen", (31.6678, 0.1040)),
        ),
        (("controller", "one budget"),),
        needs_lpips=True,
    ),
    Part(
        "start", "Where a budget starts", "Algorithm 1 prints d_T = ε for every T",
        STARTS,
        tuple((a.label, b.label) for a, b in zip(STARTS[::2], STARTS[1::2], strict=True)),
    ),
)  # fmt: skip
VARIANTS = tuple({row.variant: None for part in PARTS for row in part.rows})
SHARES = sum(variant.shares for variant in {RECONSTRUCT, *VARIANTS}) + CONTROLLER_SHARE
