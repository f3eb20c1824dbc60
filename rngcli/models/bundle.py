"""A bundle: one safetensors file that holds networks, the methods that restore with them, and where all came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from ..atomic import whole
from ..defaults import DEFAULT_MODEL
from ..errors import ModelError
from ..nets.bands import BandController, BandSpec
from ..nets.controller import Controller, ControllerSpec
from ..nets.fusion import FusionNet, FusionSpec
from ..nets.nafnet import NAFNet, NAFNetSpec
from ..nets.unet import UNet, UNetSpec
from .difference import difference, restored, shapes_of
from .model_zoo import available

FORMAT, FIRST_FORMAT = "rng-bundle-2", "rng-bundle-1"
NETWORKS: dict[str, tuple[type, type]] = {
    "nafnet": (NAFNetSpec, NAFNet),
    "unet": (UNetSpec, UNet),
    "fusion": (FusionSpec, FusionNet),
    "controller": (ControllerSpec, Controller),
    "bands": (BandSpec, BandController),
}
# What each kind does for the method `rng`; a bundle of the first version held no other method.
RNG_ROLES = {
    "nafnet": "reconstruct",
    "unet": "generate",
    "fusion": "generate",
    "controller": "control",
    "bands": "control",
}


def kind_of(net: nn.Module) -> str:
    """What a network is called in NETWORKS; "" where it is none of these."""
    return next((kind for kind, (_, net_type) in NETWORKS.items() if isinstance(net, net_type)), "")


def spec_of(net: nn.Module) -> dict[str, Any]:
    """The spec of one of the NETWORKS, as plain data."""
    return asdict(net.spec)  # type: ignore[call-overload]


@dataclass(frozen=True)
class MethodSpec:
    """A method as a bundle holds it: its kind, which `rngcli.methods` knows, and what that kind needs.

    networks: the names of the bundle's networks by what they do for the method. settings: plain data, as JSON has it
    (process, schedule, budgets, …); the method's kind gives it types, and refuses keys that it does not know.
    """

    kind: str
    networks: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", json.loads(json.dumps(dict(self.settings))))  # the same as from a file


@dataclass(frozen=True)
class Bundle:
    """Trained networks by name, methods by name, the first being the default, and what is known of their training.

    grown: networks by name that have grown out of another one of the bundle, of the same spec; a file holds only the
    difference.
    """

    networks: Mapping[str, nn.Module]
    methods: Mapping[str, MethodSpec] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    grown: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None
    hash: str = ""

    def with_provenance(self, stage: str, facts: Mapping[str, Any]) -> Bundle:
        """The same bundle with one stage's history added."""
        return replace(self, provenance={**self.provenance, stage: dict(facts)})


# --- writing ---------------------------------------------------------------------------------------------------


def save(bundle: Bundle, path: Path) -> None:
    """Write `bundle` to `path`, whole or not at all; weights in float16, statistics in float32."""
    tensors = {
        f"{name}.{key}": value
        for name, net in bundle.networks.items()
        for key, value in _held(net, bundle.networks.get(bundle.grown.get(name, ""))).items()
    }
    networks: dict[str, dict[str, Any]] = {
        name: {"kind": kind_of(net), "spec": spec_of(net)} for name, net in bundle.networks.items()
    }
    for name, origin in bundle.grown.items():
        if name in networks and _alike(bundle.networks[name], bundle.networks.get(origin)):
            networks[name]["origin"] = origin
    methods = {
        name: {"kind": method.kind, "networks": dict(method.networks), **method.settings}
        for name, method in bundle.methods.items()
    }
    header = {"networks": networks, "methods": methods, "provenance": dict(bundle.provenance)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        # A file that safetensors itself writes, only its owner may read.
        metadata = {"format": FORMAT} | {key: json.dumps(value) for key, value in header.items()}
        part.write_bytes(to_bytes(tensors, metadata=metadata))


def _held(net: nn.Module, origin: nn.Module | None) -> dict[str, Tensor]:
    """What a file holds of a network, by weight."""
    weights = net.state_dict()
    if origin is None or not _alike(net, origin):
        return {key: _for_disk(key, value) for key, value in weights.items()}
    before = {key: _for_disk(key, value).float() for key, value in origin.state_dict().items()}
    return difference({key: value.detach().cpu() for key, value in weights.items()}, before)


def _alike(net: nn.Module, origin: nn.Module | None) -> bool:
    return origin is not None and kind_of(net) == kind_of(origin) and spec_of(net) == spec_of(origin)


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


def networks_hash(networks: Iterable[nn.Module]) -> str:
    """A hash of the weights alone, network after network: one that stays when only the header changes."""
    digest = hashlib.sha256()
    for net in networks:
        for key, value in net.state_dict().items():
            digest.update(key.encode() + _for_disk(key, value).numpy().tobytes())
    return digest.hexdigest()[:16]


def load(name_or_path: str | Path = DEFAULT_MODEL) -> Bundle:
    """Read a bundle by name or path; the networks are in float32, in evaluation mode, on the CPU.

    Raises ModelError where the file is missing, damaged, of another format, or holds other keys than its specs say;
    before any network is built, where the specs ask for other weights than the file holds.
    """
    path = resolve(name_or_path)
    try:
        with safe_open(path, framework="pt") as file:
            return _assemble(file, path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is no readable model file ({error})", "fetch or train it again") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} has a damaged header ({error})", "fetch or train it again") from error


def _assemble(file: Any, path: Path) -> Bundle:
    header = _header(file.metadata() or {}, path)
    keys: dict[str, list[str]] = {name: [] for name in header["networks"]}
    for key in file.keys():  # noqa: SIM118 (not a dict)
        name = key.partition(".")[0]
        if name not in keys:
            raise ModelError(f"{path} holds weights that no spec explains: {key} …", "fetch or train it again")
        keys[name].append(key)
    blueprints = {name: _blueprint(name, entry, file, keys[name], path) for name, entry in header["networks"].items()}
    grown = {name: entry["origin"] for name, entry in header["networks"].items() if "origin" in entry}
    networks = {name: _filled(net, name, file) for name, net in blueprints.items() if name not in grown}
    networks |= {name: _regrown(blueprints[name], name, file, networks[origin]) for name, origin in grown.items()}
    networks = {name: networks[name] for name in blueprints}  # in the file's order
    methods = {name: _method(name, entry, networks) for name, entry in header["methods"].items()}
    return Bundle(networks, methods, header["provenance"], grown, path, file_hash(path)[:12])


def _header(metadata: Mapping[str, str], path: Path) -> dict[str, dict[str, Any]]:
    """`networks`, `methods` and `provenance` of a file's metadata, whichever version it is of."""
    version, parts = metadata.get("format"), {key: text for key, text in metadata.items() if key != "format"}
    if version not in (FORMAT, FIRST_FORMAT):
        raise ModelError(f"{path} is a safetensors file but not a bundle of {FORMAT}", "make one with `rng train`")
    header = {key: json.loads(text) for key, text in parts.items()}
    if version == FIRST_FORMAT:
        header = _as_second_version(**header)
    if stray := set(header) - {"networks", "methods", "provenance"}:
        raise ValueError(f"unknown key {min(stray)!r}")
    return {key: dict(header[key]) for key in ("networks", "methods", "provenance")}


def _as_second_version(
    specs: dict[str, Any], process: dict[str, Any], budgets: list[Any], provenance: dict[str, Any]
) -> dict[str, Any]:
    """The header of a bundle of the first version, which held the one method `rng` and named networks by their kind."""
    networks = {kind: {"kind": kind, "spec": spec} for kind, spec in specs.items()}
    method = {"kind": "rng", "networks": {RNG_ROLES[kind]: kind for kind in specs}}
    return {
        "networks": networks,
        "methods": {"rng": {**method, "process": process, "budgets": budgets}},
        "provenance": provenance,
    }


def _blueprint(name: str, entry: dict[str, Any], file: Any, keys: list[str], path: Path) -> nn.Module:
    """The network without its weights, which take no memory yet; ModelError unless the file's have its shapes."""
    net = _built(entry["kind"], entry["spec"])
    if stray := set(entry) - {"kind", "spec", "origin"}:
        raise ValueError(f"unknown key {min(stray)!r}")
    weights = net.state_dict()
    sides = shapes_of(weights) if "origin" in entry else {key: list(value.shape) for key, value in weights.items()}
    wanted = {f"{name}.{key}": shape for key, shape in sides.items()}
    held = {key: list(file.get_slice(key).get_shape()) for key in keys}
    if misfit := sorted(key for key in wanted | held if wanted.get(key) != held.get(key)):
        first = misfit[0].removeprefix(f"{name}.")
        shapes = f"{first} is {held.get(misfit[0], 'not there')}, should be {wanted.get(misfit[0], 'absent')}"
        raise ModelError(f"{path}: the weights of {name} do not fit its spec ({shapes})", "train it again")
    return net


def _built(kind: str, spec: dict[str, Any]) -> nn.Module:
    if kind not in NETWORKS:
        raise ValueError(f"unknown kind of network {kind!r}")
    spec_type, net_type = NETWORKS[kind]
    # JSON has no tuples, and a spec must stay hashable.
    made = spec_type(**{key: tuple(value) if isinstance(value, list) else value for key, value in spec.items()})
    try:
        with torch.device("meta"):
            net: nn.Module = net_type(made)
    except RuntimeError as error:  # sizes that overflow
        raise ValueError(f"impossible {kind} {made}: {error}") from error
    return net


def _filled(net: nn.Module, name: str, file: Any) -> nn.Module:
    weights = {key: file.get_tensor(f"{name}.{key}") for key in net.state_dict()}
    floats = {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
    return _with_weights(net, floats)


def _regrown(net: nn.Module, name: str, file: Any, origin: nn.Module) -> nn.Module:
    """The network that a file holds as the difference from `origin`."""
    if not _alike(net, origin):
        raise ValueError(f"the network {name!r} is none like its origin")
    held = {key: file.get_tensor(f"{name}.{key}") for key in shapes_of(net.state_dict())}
    return _with_weights(net, restored(held, origin.state_dict()))


def _with_weights(net: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    net.load_state_dict(weights, strict=True, assign=True)
    return net.eval().requires_grad_(False)


def _method(name: str, entry: dict[str, Any], networks: Mapping[str, nn.Module]) -> MethodSpec:
    settings = dict(entry)
    method = MethodSpec(settings.pop("kind"), dict(settings.pop("networks")), settings)
    if missing := set(method.networks.values()) - set(networks):
        raise ValueError(f"the method {name!r} needs a network {min(missing)!r}, which is not there")
    return method
