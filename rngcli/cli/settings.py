"""From the options of the command line to those of a batch: what is out of range, or not known, is refused here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

from ..defaults import MOST_STEPS
from ..errors import UsageError
from ..images import Format, RawSpace, ReadOptions, WriteOptions, format_named
from .restoration import Restoration

if TYPE_CHECKING:
    from ..batch.batch_options import BatchOptions
    from ..batch.ray_cluster import Cluster
    from ..methods.contract import Request


def options_of(given: Mapping[str, Any], format: Format | None, to_dng: bool, restoration: Restoration) -> BatchOptions:
    """How pictures are done, read and written; UsageError where a word among it is not known."""
    from ..batch.batch_options import BatchOptions
    from ..batch.file_options import FileOptions
    from ..inference.strength import Strength

    files = FileOptions(
        ReadOptions(
            given["max_pixels"], given["raw_bright"], _raw_space(given["raw_space"]), to_dng, given["keep_hot_pixels"]
        ),
        WriteOptions(given["quality"], given["strip_metadata"]),
        fail_fast=given["fail_fast"],
        reference=given["reference"],
        step_maps=given["step_map"],
        masks=restoration.masks,
        strength=Strength(given["strength"] * given["luma"], given["strength"] * given["chroma"]),
    )
    return BatchOptions(
        _request(given), given["model"], given["device"], given["precision"], given["batch_size"] or None,
        format, files, given["overwrite"], given["method"], restoration.operator, restoration.recipe, _cluster(given),
    )  # fmt: skip


def _cluster(given: Mapping[str, Any]) -> Cluster | None:
    from ..batch.ray_cluster import Cluster

    if not given["ray"]:
        if given["workers"]:
            raise UsageError("--workers is about a cluster", "add --ray ADDRESS|local")
        return None
    if given["device"] != "auto":
        raise UsageError("--device is the cluster's own to choose with --ray", "leave it out")
    return Cluster(given["ray"], given["workers"])


def format_asked(name: str | None) -> Format | None:
    """What --format names, a format or a suffix of one."""
    meant = format_named(name)
    if meant is None or meant in get_args(Format):
        return meant  # type: ignore[return-value]
    raise UsageError(f"unknown --format {name!r}", f"use one of {', '.join(get_args(Format))}")


def _raw_space(name: str) -> RawSpace:
    if name in get_args(RawSpace):
        return name  # type: ignore[return-value]
    raise UsageError(f"unknown --raw-space {name!r}", f"use one of {', '.join(get_args(RawSpace))}")


def _request(given: Mapping[str, Any]) -> Request:
    from ..methods.contract import Request

    steps = given["steps"]
    if steps != "auto" and (not steps.isdecimal() or int(steps) > MOST_STEPS):
        raise UsageError(f"--steps {steps!r} is neither auto nor a number", f"give auto, or a number 0..{MOST_STEPS}")
    number = None if steps == "auto" else int(steps)
    return Request(given["max_steps"], number, given["detail"], given["seed"],
                   noise_scale=given["noise_scale"], sigma=_sigma(given["sigma"]),
                   keep_banding=given["keep_banding"])  # fmt: skip


def _sigma(text: str) -> float | None:
    """On the [0, 1] scale; None: estimated."""
    if text == "auto":
        return None
    try:
        sigma = float(text)
    except ValueError:
        sigma = -1.0
    if not 0 <= sigma <= 255:
        raise UsageError(f"--sigma {text!r} is neither auto nor a noise level", "give auto, or a number 0..255")
    return sigma / 255
