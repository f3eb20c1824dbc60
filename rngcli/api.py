"""rng from Python: arrays or files in, arrays out, by the engine and the worker that the command runs, bit for bit."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any, TypedDict, Unpack, cast, get_args

import numpy as np

from .batch.batch import Batch
from .batch.batch_options import BatchOptions
from .batch.file_options import FileOptions
from .batch.in_memory import denoised
from .batch.inputs import Naming, Outcome, is_dng, plan
from .defaults import DEFAULT_MODEL, MOST_STEPS
from .errors import UsageError
from .images import Format, Image, ReadOptions, WriteOptions, array_of, format_named, image_of, read, samples_like
from .inference.pipeline import Pipeline
from .inference.strength import Strength
from .methods.contract import Request
from .models.bundle import load, resolve

__all__ = ["Denoiser", "Outcome", "Picture", "Settings", "denoise", "denoise_folder"]

Picture = np.ndarray | str | os.PathLike[str]


class Settings(TypedDict, total=False):
    """How far denoising goes; the names, ranges and defaults are those of `denoise`."""

    detail: float
    strength: float
    luma: float
    chroma: float
    noise_scale: float
    keep_banding: bool
    max_steps: int | None
    steps: int | None
    seed: int
    sigma: float | None


def denoise(
    picture: Picture,
    *,
    detail: float = 1.0,
    strength: float = 1.0,
    luma: float = 1.0,
    chroma: float = 1.0,
    noise_scale: float = 1.0,
    keep_banding: bool = False,
    max_steps: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    sigma: float | None = None,
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    device: str = "auto",
    precision: str = "auto",
    method: str | None = None,
) -> np.ndarray:
    """One picture without its noise, equal to what `rng denoise` would write.

    `picture` is an array of samples: uint8, uint16, float32 or float64, (H, W), (H, W, 1), (H, W, 3) or (H, W, 4);
    integers have full scale at their greatest value, floats at 1. The result has its type and shape; what is one
    channel is grey, and the fourth, alpha, is left untouched. Float64 is computed, and comes back, with the accuracy
    of float32. The array is taken for sRGB, or for another space with a curve like that.

    Or it is the path of a picture, of any format that rng reads. The result then holds the samples that an output file
    would: (H, W), (H, W, 3) or (H, W, 4) of uint8, uint16 or float32, not turned by the picture's orientation tag; of a
    TIFF of several pages, those of the first.

    detail: share of the generated detail, 0..1; 0: reconstruction alone, which is the fastest, and invents nothing.
    strength: share of the noise that is taken away, 0..1; luma, chroma: the same for brightness and for colour alone.
    noise_scale: how many times as strong as it looks the noise is taken for, 0.25..4: more for film's grain.
    keep_banding: leave what whole rows and columns have in common, which is taken for the sensor's, and removed.
    max_steps: the most evaluations of the generator a tile, None: what suits the method, for rng 2; more take longer
    and may look a little better. steps: exactly so many, if max_steps allows; None: the controller decides.
    seed: of the generated detail. sigma: the noise's standard deviation, 0..255, for the methods that need it; None:
    estimated. model: a shipped model's name, or a bundle's path. device: auto, cpu, cuda, cuda:1 … or mps. precision:
    auto, fp32, bf16 or fp16. method: one of the model's, None for its first.

    The networks stay loaded until another model, device, precision or method is asked for.

    Raises UsageError (type, shape, setting), PictureError (NaN or infinite values, a file that cannot be read),
    ModelError (the model is not there, or cannot do it), EnvironmentFault (device, memory); all are RngErrors, and
    each says what to do.
    """
    settings = Settings(
        detail=detail, strength=strength, luma=luma, chroma=chroma, noise_scale=noise_scale,
        keep_banding=keep_banding, max_steps=max_steps, steps=steps, seed=seed, sigma=sigma,
    )  # fmt: skip
    path = resolve(os.fspath(model))
    return _kept(path, path.stat().st_mtime_ns, device, precision, method)(picture, **settings)


class Denoiser:
    """A model on a device, its networks loaded once, for any number of pictures. Any thread may call it, in turn."""

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        device: str = "auto",
        precision: str = "auto",
        method: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        """batch_size: tiles in a network call, None for what suits the device; the others as for `denoise`.

        Raises ModelError, UsageError and EnvironmentFault as `denoise` does.
        """
        self._pipeline = Pipeline(load(os.fspath(model)), device, precision, batch_size, method)
        self._lock = threading.Lock()  # the slots of a pipeline serve one run at a time

    def __call__(self, picture: Picture, **settings: Unpack[Settings]) -> np.ndarray:
        """One picture without its noise; picture, settings, result and errors are those of `denoise`."""
        return self.many([picture], **settings)[0]

    def many(self, pictures: Iterable[Picture], **settings: Unpack[Settings]) -> list[np.ndarray]:
        """All of them, in their order, each as if it were alone: its tiles share the network calls with the others'.

        For small pictures that fit into memory together; pictures are drawn when there is room for their tiles.
        Raises the error of the first that fails.
        """
        request, strength = _asked(**settings)
        given: list[Picture] = []

        def opened() -> Iterator[Image]:
            for picture in pictures:
                given.append(picture)
                yield _opened(picture)

        with self._lock:
            done = dict(denoised(opened(), self._pipeline, request, strength))
        return [_returned(done[number], picture) for number, picture in enumerate(given)]


def denoise_folder(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    format: str | None = None,
    suffix: str = "",
    quality: int | None = None,
    strip_metadata: bool = False,
    overwrite: bool = False,
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    device: str = "auto",
    precision: str = "auto",
    method: str | None = None,
    **settings: Unpack[Settings],
) -> Iterator[Outcome]:
    """Do what `rng denoise SOURCE… OUT` does, picture by picture: iterate over it to get it done.

    source: a folder, a picture, a glob, or several of them. Outputs mirror the tree below `out`; what was done before
    with these settings is left alone (`Outcome.before`), and no file is replaced that rng did not make, unless
    `overwrite`. format: jpeg, png, tiff, webp, avif, heic, jxl, dng; None: each source's own. suffix goes before the
    dot of each output's name. quality, 1..100: instead of each source's own compression. strip_metadata: keep the
    colour profile only. device: one, several with commas between them, or "all", which then share the pictures. The
    others as for `denoise`.

    A picture that fails stops no other: its Outcome holds the error. Raises at once UsageError, NoInputError,
    ModelError and EnvironmentFault, and while it runs EnvironmentFault, where the disk or the memory refuses.
    """
    request, strength = _asked(**settings)
    meant = format_named(format)
    if meant is not None and meant not in get_args(Format):
        raise UsageError(f"unknown format {format!r}", f"use one of {', '.join(get_args(Format))}")
    if quality is not None:
        _check("quality", quality, 1, 100)
    sources = [source] if isinstance(source, (str, os.PathLike)) else source
    naming = Naming(suffix, cast("Format | None", meant))
    inputs = plan([Path(path) for path in sources], Path(out), naming)
    reading = ReadOptions(raw_linear=is_dng(Path(out), naming))
    files = FileOptions(reading, WriteOptions(quality, strip_metadata), strength=strength)
    batch = Batch(inputs, BatchOptions(
        request, os.fspath(model), device, precision, format=cast("Format | None", meant), files=files,
        overwrite=overwrite, method=method,
    ))  # fmt: skip
    if batch.begins:
        batch.prepare()
    return _outcomes(batch)


def _outcomes(batch: Batch) -> Iterator[Outcome]:
    yield from batch.refused
    yield from batch.before()
    if batch.begins:
        with closing(batch.run()) as outcomes:
            yield from outcomes


@lru_cache(maxsize=1)
def _kept(path: Path, changed: int, device: str, precision: str, method: str | None) -> Denoiser:
    """The denoiser of the last call of `denoise`; `changed`, the file's time, so that another file is loaded anew."""
    return Denoiser(path, device=device, precision=precision, method=method)


def _opened(picture: Picture) -> Image:
    return read(Path(picture)) if isinstance(picture, (str, os.PathLike)) else image_of(picture)


def _returned(image: Image, picture: Picture) -> np.ndarray:
    return array_of(image) if isinstance(picture, (str, os.PathLike)) else samples_like(image, np.asarray(picture))


def _asked(
    detail: float = 1.0,
    strength: float = 1.0,
    luma: float = 1.0,
    chroma: float = 1.0,
    max_steps: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    sigma: float | None = None,
    noise_scale: float = 1.0,
    keep_banding: bool = False,
) -> tuple[Request, Strength]:
    """UsageError where a setting is out of its range."""
    shares: Mapping[str, Any] = {"detail": detail, "strength": strength, "luma": luma, "chroma": chroma}
    for name, value in shares.items():
        _check(name, value, 0, 1)
    _check("noise_scale", noise_scale, 0.25, 4)
    bounded = (("max_steps", max_steps, MOST_STEPS), ("steps", steps, MOST_STEPS), ("sigma", sigma, 255))
    for name, given, most in bounded:
        if given is not None:
            _check(name, given, 0, most)
    on_unit_scale = None if sigma is None else sigma / 255
    request = Request(max_steps, steps, detail, seed, noise_scale=noise_scale, sigma=on_unit_scale,
                      keep_banding=keep_banding)  # fmt: skip
    return request, Strength(strength * luma, strength * chroma)


def _check(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:  # false for NaN too
        raise UsageError(f"{name} is {value}", f"give a number from {least} to {most}")
