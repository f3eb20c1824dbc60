"""A network as an ONNX file, for programs that have no torch; checked against the network itself before it is kept."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from ..atomic import whole
from ..errors import EnvironmentFault, ModelError

SIZES = ((1, 64, 96), (2, 53, 71))  # (N, height, width) of what both are compared on; one of no network's multiple
MOST = 1e-4  # difference that roundings explain
NEEDS = ("onnx", "onnxruntime")


def export(net: nn.Module, path: Path, about: Mapping[str, str]) -> float:
    """Write `net`, (N, 3, H, W) float32 in [0, 1] -> the same, for any N, H and W; returns the largest difference seen.

    `about`: texts that the file carries. EnvironmentFault where the extra rng[onnx] is missing or the disk refuses;
    ModelError, and no file, where ONNX Runtime gives other values than the network.
    """
    if missing := [name for name in NEEDS if find_spec(name) is None]:
        raise EnvironmentFault(f"this needs {' and '.join(missing)}", "pip install 'rngcli[onnx]'")
    axes = {0: "n", 2: "height", 3: "width"}
    with whole(path) as part:
        with warnings.catch_warnings():
            # By tracing: torch.export's successor fixes height and width to multiples, and takes minutes.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                net, (torch.rand(SIZES[0][0], 3, *SIZES[0][1:]),), str(part), dynamo=False, opset_version=18,
                input_names=["noisy"], output_names=["reconstruction"],
                dynamic_axes={"noisy": axes, "reconstruction": axes},
            )  # fmt: skip
        _describe(part, about)
        difference = _difference(net, part)
        if not difference <= MOST:
            raise ModelError(f"ONNX Runtime differs from the network by {difference:.2g}", "update onnxruntime")
    return difference


def _describe(path: Path, about: Mapping[str, str]) -> None:
    import onnx

    model = onnx.load(str(path))
    for key, value in about.items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _difference(net: nn.Module, path: Path) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    most = 0.0
    for seed, (n, height, width) in enumerate(SIZES):
        noisy = torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed))
        with torch.inference_mode():
            expected = net(noisy)
        (found,) = session.run(None, {"noisy": noisy.numpy()})
        most = max(most, float((torch.from_numpy(found) - expected).abs().max()))
    return most
