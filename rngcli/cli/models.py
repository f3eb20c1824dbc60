"""`rng models list|show|verify|import|export`: which weights there are, where they come from, where they may go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..defaults import DEFAULT_MODEL
from .options import ModelArgument, Precision

if TYPE_CHECKING:
    from ..inference.pipeline import Pipeline

ENOUGH = 45.0  # [dB]: a level of 255 and a half; bfloat16 has more

models = typer.Typer(help="List, show, verify, import and export models.", no_args_is_help=True)


@models.command("list")
def list_models() -> None:
    """The shipped models: name, size in MB, SHA-256."""
    from ..models.bundle import file_hash
    from ..models.model_zoo import available

    for path in available().values():
        mark = "  (default)" if path.stem == DEFAULT_MODEL else ""
        typer.echo(f"{path.stem}  {path.stat().st_size / 1e6:.1f} MB  {file_hash(path)[:12]}{mark}")


@models.command()
def show(
    name: ModelArgument = DEFAULT_MODEL,
    json_out: Annotated[bool, typer.Option("--json", help="All of it, as JSON.")] = False,
) -> None:
    """Methods, networks and provenance of a model; the first method is the one that `rng denoise` takes."""
    from ..methods import methods_of
    from ..models.bundle import kind_of, load, spec_of
    from .model_page import page

    bundle = load(name)
    networks = {
        key: {
            "kind": kind_of(net),
            "parameters": sum(p.numel() for p in net.parameters()),
            "spec": spec_of(net),
        }
        for key, net in bundle.networks.items()
    }
    methods = {
        key: {"kind": method.kind, "networks": dict(method.networks), **method.settings}
        for key, method in methods_of(bundle).items()
    }
    facts = {"file": str(bundle.path), "sha256": bundle.hash, "methods": methods, "networks": networks}
    facts |= {"provenance": dict(bundle.provenance)}
    typer.echo(json.dumps(facts, indent=2) if json_out else page(facts))


@models.command()
def verify(
    name: ModelArgument = DEFAULT_MODEL,
    device: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="Also compare a tile on this device with the CPU in float32.")
    ] = None,
    precision: Precision = "auto",
) -> None:
    """Load every weight, compare the file with its published SHA-256 (the .sha256 beside it), and run one tile."""
    from ..errors import ModelError
    from ..inference.pipeline import Pipeline
    from ..models.bundle import file_hash, load

    bundle = load(name)
    path = bundle.path or Path(name)
    found, published = file_hash(path), path.with_suffix(".sha256")
    if published.is_file() and published.read_bytes().split()[:1] != [found.encode()]:
        raise ModelError(f"{path} is not what was published (SHA-256 {found[:12]} …)", "install it again")
    for method in bundle.methods:
        _run_one_tile(Pipeline(bundle, "cpu", method=method))
    known = "as published" if published.is_file() else "no published hash beside it"
    typer.echo(f"{path.stem}: whole, runs; SHA-256 {found[:12]} {known}")
    if device:
        for method in bundle.methods:
            _compare(Pipeline(bundle, device, precision, method=method), Pipeline(bundle, "cpu", "fp32", 1, method))


@models.command("import")
def import_nafnet(
    source: Annotated[Path, typer.Argument(metavar="FILE.pth", help="A NAFNet checkpoint of its authors.")],
    out: Annotated[Path, typer.Argument(metavar="FILE.safetensors", help="The bundle to write.")],
) -> None:
    """Make a bundle of a published NAFNet; use it with --detail 0, or train a generator on top."""
    from ..errors import UsageError
    from ..methods.rng import RnGParts
    from ..models.authors import from_authors
    from ..models.bundle import save

    if out.suffix != ".safetensors":
        raise UsageError(f"{out} does not end in .safetensors", "name it so")
    if out.exists():
        raise UsageError(f"{out} exists", "name another file, or remove it first")
    net = from_authors(source)
    save(RnGParts(net).bundle().with_provenance("reconstruct", {"imported": source.name}), out)
    typer.echo(
        f"{out}: NAFNet of width {net.spec.width}, {sum(p.numel() for p in net.parameters()) / 1e6:.2f} M parameters"
    )


@models.command()
def export(
    name: ModelArgument = DEFAULT_MODEL,
    onnx: Annotated[
        Path | None, typer.Option(metavar="FILE.onnx", help="Where to write it; needs the extra rng[onnx].")
    ] = None,
) -> None:
    """Write a model's reconstruction, what --detail 0 gives of a tile, as ONNX, and check that it computes the same.

    Example: rng models export rng-s --onnx rng-s.onnx

    `noisy` (N, 3, height, width), RGB float32 in [0, 1], becomes `reconstruction`, of the same shape, not clamped.
    """
    from ..errors import ModelError, UsageError
    from ..methods import methods_of
    from ..models.bundle import load
    from ..models.onnx_export import export as export_onnx

    if onnx is None or onnx.suffix != ".onnx":
        raise UsageError("an .onnx file must be named", "rng models export rng-s --onnx rng-s.onnx")
    if onnx.exists():
        raise UsageError(f"{onnx} exists", "name another file, or remove it first")
    bundle = load(name)
    nets = (spec.networks.get("reconstruct") for spec in methods_of(bundle).values())
    key = next(filter(None, nets), None)
    if key is None:
        raise ModelError("this model has no reconstruction", "see `rng models show`")
    about = {"model": Path(name).stem, "sha256": bundle.hash, "network": key, "input": "RGB in [0, 1], (N, 3, H, W)"}
    difference = export_onnx(bundle.networks[key], onnx, about)
    typer.echo(f"{onnx}: {onnx.stat().st_size / 1e6:.1f} MB; differs from the network by {difference:.1g} at most")


def _compare(there: Pipeline, here: Pipeline) -> None:
    """Say how far a tile of noise on a ramp is from the CPU's in float32; ModelError where that is another picture."""
    from ..errors import ModelError
    from ..inference.comparison import decibels, one_tile

    for request, (one, other) in one_tile(there, here).items():
        distance = decibels(one, other)
        worst = abs(one - other).max() * 255
        typer.echo(f"{there.name} on {there.device} in {str(there.dtype).removeprefix('torch.')}, {request}: "
                   f"{distance:.1f} dB from the CPU in float32, {worst:.2f} levels of 255 at most")  # fmt: skip
        if not distance > ENOUGH:
            raise ModelError(f"{there.device} does not compute what the CPU does", "try --precision fp32")


def _run_one_tile(pipeline: Pipeline) -> None:
    """A grey picture in one step, or in none where the model has no generator yet; ModelError if it comes out other."""
    import numpy as np

    from ..errors import ModelError
    from ..inference.engine import Job, denoise
    from ..methods.contract import Request

    request = Request(steps=1)
    try:
        pipeline.require(request)
    except ModelError:
        request = Request(detail=0)
    (result,) = denoise([Job("grey", np.full((64, 64, 3), 0.5, np.float32))], pipeline, request)
    if result.error or abs(float(result.pixels.mean()) - 0.5) > 0.1:
        raise ModelError("the model does not leave a grey picture grey", "install it again")
