"""A bundle: one safetensors file that holds the networks, their specs, the process and where it all came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from ..atomic import whole
from ..diffusion.residual import ProcessSpec
from ..diffusion.schedule import Budget, ScheduleSpec
from ..errors import ModelError
from ..nets.bands import BandController, BandSpec
from ..nets.controller import Controller, ControllerSpec
from ..nets.fusion import FusionNet, FusionSpec
from ..nets.nafnet import NAFNet, NAFNetSpec
from ..nets.unet import UNet, UNetSpec
from .model_zoo import available

FORMAT = "rng-bundle-1"
DEFAULT = "rng-s"
NETWORKS: dict[str, tuple[type, type]] = {
    "nafnet": (NAFNetSpec, NAFNet),
    "unet": (UNetSpec, UNet),
    "fusion": (FusionSpec, FusionNet),
    "controller": (ControllerSpec, Controller),
    "bands": (BandSpec, BandController),
}
Generator = UNet | FusionNet
StepController = Controller | BandController


@dataclass(frozen=True)
class Bundle:
    """The trained networks and all that is needed to run them; a stage not trained yet is None."""

    nafnet: NAFNet
    generator: Generator | None = None
    controller: StepController | None = None
    process: ProcessSpec = field(default_factory=ProcessSpec)
    budgets: tuple[Budget, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    hash: str = ""

    def networks(self) -> dict[str, nn.Module]:
        """The networks that are there, by their names in the file."""
        there = [net for net in (self.nafnet, self.generator, self.controller) if net is not None]
        return {name: net for net in there for name, (_, kind) in NETWORKS.items() if isinstance(net, kind)}

    def with_provenance(self, stage: str, facts: Mapping[str, Any]) -> Bundle:
        """The same bundle with one stage's history added."""
        return replace(self, provenance={**self.provenance, stage: dict(facts)})


# --- writing ---------------------------------------------------------------------------------------------------


def save(bundle: Bundle, path: Path) -> None:
    """Write `bundle` to `path`, whole or not at all; weights in float16, statistics in float32."""
    tensors = {
        f"{name}.{key}": _for_disk(key, value)
        for name, net in bundle.networks().items()
        for key, value in net.state_dict().items()
    }
    specs = {name: asdict(net.spec) for name, net in bundle.networks().items()}  # type: ignore[call-overload]
    header = {
        "format": FORMAT,
        "specs": json.dumps(specs),
        "process": json.dumps(asdict(bundle.process)),
        "budgets": json.dumps([asdict(b) for b in bundle.budgets]),
        "provenance": json.dumps(dict(bundle.provenance)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        part.write_bytes(to_bytes(tensors, metadata=header))  # a file that safetensors writes, only its owner may read


def _for_disk(key: str, value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value.contiguous()
    dtype = torch.float32 if "running_" in key else torch.float16
    return value.detach().cpu().to(dtype).contiguous()


# --- reading ---------------------------------------------------------------------------------------------------


def resolve(name_or_path: str | Path) -> Path:
    """The file of a shipped model's name, or of a path."""
    path = Path(name_or_path)
    if path.suffix == ".safetensors" or path.exists():
        if not path.is_file():
            raise ModelError(f"no model file at {path}", "see `rng models list` for the shipped ones")
        return path
    shipped = available()
    if str(name_or_path) not in shipped:
        known = ", ".join(shipped) or "none"
        raise ModelError(f"no model is named {str(name_or_path)!r} (shipped: {known})", "give a name or a file's path")
    return shipped[str(name_or_path)]


def file_hash(path: Path) -> str:
    """SHA-256 of the file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_hash(bundle: Bundle) -> str:
    """Of the weights of the reconstruction and the generator alone: what does not change when a header does."""
    digest = hashlib.sha256()
    for net in (bundle.nafnet, bundle.generator):
        for key, value in net.state_dict().items() if net else ():
            digest.update(key.encode() + _for_disk(key, value).numpy().tobytes())
    return digest.hexdigest()[:16]


def load(name_or_path: str | Path = DEFAULT) -> Bundle:
    """Read a bundle by name or path; the networks are in float32, in evaluation mode, on the CPU.

    Raises ModelError where the file is missing, damaged, of another format, or holds other keys than its specs say.
    """
    path = resolve(name_or_path)
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is no readable model file ({error})", "fetch or train it again") from error
    if header.get("format") != FORMAT:
        raise ModelError(f"{path} is a safetensors file but not a bundle of {FORMAT}", "make one with `rng train`")
    try:
        return _assemble(header, tensors, path)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} has a damaged header ({error})", "fetch or train it again") from error


def _assemble(header: Mapping[str, str], tensors: Mapping[str, Tensor], path: Path) -> Bundle:
    specs = json.loads(header["specs"])
    stray = {key for key in tensors if key.split(".")[0] not in specs}
    if stray:
        raise ModelError(f"{path} holds weights that no spec explains: {sorted(stray)[0]} …", "fetch or train it again")
    process = json.loads(header["process"])
    process["schedule"] = ScheduleSpec(**process["schedule"])
    networks: dict[str, Any] = {name: _network(name, spec, tensors, path) for name, spec in specs.items()}
    return Bundle(
        networks["nafnet"],
        networks.get("fusion", networks.get("unet")),
        networks.get("bands", networks.get("controller")),
        process=ProcessSpec(**process),
        budgets=tuple(Budget(**b) for b in json.loads(header["budgets"])),
        provenance=json.loads(header["provenance"]),
        path=path,
        hash=file_hash(path)[:12],
    )


def _network(name: str, spec: dict[str, Any], tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
    spec_type, net_type = NETWORKS[name]
    # JSON has no tuples, and a spec must stay hashable.
    net = net_type(spec_type(**{k: tuple(v) if isinstance(v, list) else v for k, v in spec.items()}))
    prefix = f"{name}."
    weights = {key.removeprefix(prefix): value.float() for key, value in tensors.items() if key.startswith(prefix)}
    try:
        net.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        misfit = str(error).splitlines()[1].strip()
        raise ModelError(f"{path}: the weights of {name} do not fit its spec ({misfit})", "train it again") from error
    return net.eval().requires_grad_(False)


# --- the NAFNet authors' own files -----------------------------------------------------------------------------


def from_authors(path: Path) -> NAFNet:
    """A NAFNet from a `.pth` of its authors or their followers; the spec is read off the weights' shapes.

    Their files are {"params": weights}; some forks say "params_ema" or prefix the keys with "module.".
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no exception of its own
        raise ModelError(f"{path} is no PyTorch file of plain weights", "give the authors' NAFNet-*.pth") from error
    weights = content.get("params_ema", content.get("params", content))
    weights = {key.removeprefix("module."): value for key, value in weights.items()}
    try:
        net = NAFNet(_spec_of(weights))
        net.load_state_dict(weights, strict=True)
    except (KeyError, RuntimeError, AttributeError) as error:
        raise ModelError(f"{path} holds no NAFNet ({str(error).splitlines()[0]})", "give NAFNet-*.pth") from error
    return net.eval().requires_grad_(False)


def _spec_of(weights: Mapping[str, Tensor]) -> NAFNetSpec:
    def blocks(prefix: str) -> int:
        return len({key[len(prefix) :].split(".")[0] for key in weights if key.startswith(prefix)})

    levels = range(blocks("downs."))
    return NAFNetSpec(
        width=weights["intro.weight"].shape[0],
        encoder=tuple(blocks(f"encoders.{level}.") for level in levels),
        middle=blocks("middle_blks."),
        decoder=tuple(blocks(f"decoders.{level}.") for level in levels),
    )
