"""How a batch is denoised, read and written, and the digest of all that its outputs depend on."""

from __future__ import annotations

from dataclasses import astuple, dataclass, field, replace
from functools import cached_property

import torch

from ..defaults import DEFAULT_MODEL
from ..device import find_device, find_precision
from ..diffusion.operators import Operator
from ..errors import UsageError
from ..inference.pipeline import Pipeline
from ..methods.contract import Request
from ..models.bundle import file_hash, load, resolve
from .file_options import FileOptions
from .manifest_entry import digest
from .ray_cluster import Cluster


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is denoised, read and written. `capacity`: tiles in a network call, None for what suits the device.

    `format` is what the outputs were asked to be, None for each source's own: the tasks already hold their names.
    """

    request: Request = field(default_factory=Request)
    model: str = DEFAULT_MODEL  # a shipped model's name, or a bundle's path
    device: str = "auto"  # or several: "cuda:0,cuda:1", "all"
    precision: str = "auto"
    capacity: int | None = None
    format: str | None = None
    files: FileOptions = field(default_factory=FileOptions)
    overwrite: bool = False
    method: str | None = None  # one of the model's, None for its first
    operator: Operator | None = None  # what but noise happened to the pictures
    recipe: str = ""  # tells apart operators and masks, where there are any

    cluster: Cluster | None = None  # whose workers do it; None: this process, or others of this machine

    @cached_property
    def devices(self) -> tuple[str, ...]:
        """The devices that the pictures are shared among."""
        return devices_named(self.device)

    @cached_property
    def digest(self) -> str:
        """Of all that an output depends on beside its source; needs the model's file, but not its networks.

        Not the capacity, which changes no more than roundings, and not rng's version: after an update nobody wants to
        do ten thousand pictures again unasked.
        """
        if self.cluster:
            return self.cluster.on_a_worker(_digest, replace(self, cluster=None))
        device, request, read = find_device(self.devices[0]), self.request, self.files.read
        always = {
            "model": file_hash(resolve(self.model)),
            "device": device.type,
            "precision": str(find_precision(device, self.precision)),
            "detail": [request.max_steps, request.steps, request.detail, request.seed] if request.generates else None,
            "format": self.format,
            "quality": self.files.write.quality,
            "strip": self.files.write.strip_metadata,
            "bright": read.raw_bright,
        }
        # What came to rng later counts only where it is used, so that outputs of older versions stay done.
        later = {
            "method": self.method or None,
            "recipe": self.recipe or None,
            "sigma": request.sigma,
            "noise scale": request.noise_scale if request.noise_scale != 1 else None,
            "banding": "kept" if request.keep_banding and not self.operator else None,
            "space": read.raw_space if read.raw_space != "srgb" else None,
            "hot": read.keep_hot_pixels or None,
            "strength": None if self.files.strength.full else astuple(self.files.strength),
        }
        return digest(always | {name: value for name, value in later.items() if value is not None})

    def pipeline(self) -> Pipeline:
        """The model's networks on the device, the first of several."""
        return Pipeline(load(self.model), self.devices[0], self.precision, self.capacity, self.method, self.operator)


def _digest(options: BatchOptions) -> str:
    return options.digest


def devices_named(names: str) -> tuple[str, ...]:
    """The devices that "auto", "cuda:1", "cpu,cpu" or "all" (every CUDA device, else what auto is) stand for.

    UsageError where they are of several kinds: which of them had a picture would show in its last bits.
    """
    if names == "all":
        return tuple(f"cuda:{i}" for i in range(torch.cuda.device_count())) or ("auto",)
    devices = tuple(name.strip() for name in names.split(","))
    if len(devices) > 1 and len({find_device(name).type for name in devices}) > 1:
        raise UsageError(f"--device {names} names devices of several kinds", "name devices of one kind")
    return devices
