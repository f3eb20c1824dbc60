"""How a bundle restores a tile: networks and a process behind one contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from ..diffusion.operators import Identity, Operator
from ..errors import ModelError, UsageError
from ..models.bundle import Bundle, MethodSpec
from .contract import Method
from .diffpir import DiffPIR
from .rddm import RDDM
from .rng import RnG

# (bundle, the method's name in it, device, the networks' number format, operator) -> the method
Opener = Callable[[Bundle, str, torch.device, torch.dtype, Operator], Method]

KINDS: dict[str, Opener] = {"rng": RnG.open, "rddm": RDDM.open, "diffpir": DiffPIR.open}
DERIVED = ("rddm", "diffpir")  # what a reconstruction alone is enough for


def methods_of(bundle: Bundle) -> Mapping[str, MethodSpec]:
    """The methods that a bundle names, and those that its first reconstruction is enough for."""
    named = bundle.methods
    net = next((spec.networks["reconstruct"] for spec in named.values() if "reconstruct" in spec.networks), None)
    derived = {kind: MethodSpec(kind, {"reconstruct": net}) for kind in DERIVED} if net else {}
    return {**named, **{name: spec for name, spec in derived.items() if name not in named}}


def open_method(
    bundle: Bundle,
    name: str | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    operator: Operator | None = None,
) -> Method:
    """A method of the bundle, by default its first, on a device, for what `operator` did to the pictures (only noise).

    Raises UsageError where the bundle has none of that name, ModelError where it is of a kind not known here.
    """
    bundle = replace(bundle, methods=methods_of(bundle))
    known = ", ".join(bundle.methods) or "none"
    name = name or next(iter(bundle.methods), "")
    if name not in bundle.methods:
        raise UsageError(f"the model holds no method {name!r}", f"its methods: {known}")
    kind = bundle.methods[name].kind
    if kind not in KINDS:
        raise ModelError(f"the method {name!r} is of a kind {kind!r} that this rng does not know", "update rng")
    return KINDS[kind](bundle, name, torch.device(device), dtype, operator or Identity())
