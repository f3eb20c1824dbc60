"""The field's benchmarks by name: where they lie below a root, and how to get those that do not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import NoInputError, UsageError
from ..images.walk import is_picture
from . import sidd
from .benchmark import Benchmark
from .folders import noisy_sets, paired
from .protocols import check_noises


@dataclass(frozen=True)
class NamedSet:
    """A public benchmark. Without `pairs` and `variables` it is a set of clean pictures."""

    folders: tuple[str, ...]  # below the root, most specific first; upper and lower case are alike
    count: int  # pictures in the official set
    page: str
    files: str
    size: str
    pairs: bool = False
    variables: tuple[str, ...] = ()  # SIDD's .mat files


NAMED = {
    "sidd": NamedSet(
        ("sidd",), 1280, "https://abdokamel.github.io/sidd/",
        "ValidationNoisyBlocksSrgb.mat and ValidationGtBlocksSrgb.mat", "40×32×256×256×3 uint8 each, 240 MiB decoded",
        variables=sidd.VALIDATION,
    ),
    "sidd-benchmark": NamedSet(
        ("sidd",), 1280, "https://abdokamel.github.io/sidd/",
        "BenchmarkNoisyBlocksSrgb.mat", "40×32×256×256×3 uint8, 240 MiB decoded", variables=sidd.BENCHMARK,
    ),
    "div2k": NamedSet(
        ("DIV2K_valid_HR", "div2k/DIV2K_valid_HR", "div2k"), 100, "https://data.vision.ee.ethz.ch/cvl/DIV2K/",
        "0801.png … 0900.png (DIV2K_valid_HR.zip)", "100 PNG of about 2040×1356",
    ),
    "cbsd68": NamedSet(
        ("cbsd68/original_png", "cbsd68"), 68, "https://github.com/clausmichele/CBSD68-dataset",
        "68 PNG (its folder original_png)", "481×321 or 321×481, 18 MB together",
    ),
    "kodak24": NamedSet(
        ("kodak24", "kodak"), 24, "http://r0k.us/graphics/kodak/",
        "kodim01.png … kodim24.png", "768×512 or 512×768, 15 MB together",
    ),
    "mcmaster": NamedSet(
        ("mcmaster", "mcm"), 18, "https://www4.comp.polyu.edu.hk/~cslzhang/CDM_Dataset.htm",
        "1.tif … 18.tif", "500×500",
    ),
    "urban100": NamedSet(
        ("urban100/HR", "urban100"), 100, "https://github.com/jbhuang0604/SelfExSR",
        "100 PNG (the high-resolution side)", "about 1024×768",
    ),
    "polyu": NamedSet(
        ("polyu/CroppedImages", "polyu"), 100, "https://github.com/csjunxu/PolyU-Real-World-Noisy-Images-Dataset",
        "*_real.JPG and *_mean.JPG (CroppedImages), or folders noisy and clean", "100 pairs of 512×512", pairs=True,
    ),
    "cc": NamedSet(
        ("cc",), 15, "https://github.com/csjunxu/MCWNNM-ICCV2017",
        "*_real.png and *_mean.png, or folders noisy and clean", "15 pairs of 512×512", pairs=True,
    ),
}  # fmt: skip


def named(
    name: str, root: str | Path | None = None, sigmas: Sequence[float] = (), noises: Sequence[str] = ()
) -> list[Benchmark]:
    """The benchmark `name` below `root` (else $RNG_DATA): one for each noise and σ where the set is of clean pictures.

    Raises NoInputError with the way to get the set where it is absent.
    """
    if name not in NAMED:
        raise UsageError(f"no dataset is called {name!r}", f"choose one of {', '.join(NAMED)}")
    entry = NAMED[name]
    real = entry.pairs or bool(entry.variables)
    if real and (sigmas or noises):
        raise UsageError(f"{name} has noise of its own", "leave out --sigma and --noise")
    if not real:
        noises = noises or ("awgn",)
        check_noises(noises, sigmas)
    place = root or os.environ.get("RNG_DATA")
    if not place:
        raise _absent(name, "ROOT", f"where {name} lies is not said (no --root, no RNG_DATA)")
    return _open(name, Path(place), sigmas, noises)


def _open(name: str, root: Path, sigmas: Sequence[float], noises: Sequence[str]) -> list[Benchmark]:
    entry = NAMED[name]
    folder = next((found for found in (_resolve(root, below) for below in entry.folders) if found), None)
    if entry.variables:
        place = folder or root
        missing = [f"{v}.mat" for v in entry.variables if not (place / f"{v}.mat").is_file()]
        if missing:
            raise _absent(name, root, f"{place} lacks {' and '.join(missing)}")
        return [sidd.blocks_of(place, entry.variables, name)]
    if folder is None:
        raise _absent(name, root, f"{name} is not below {root}")
    if entry.pairs:
        sides = _resolve(folder, "noisy"), _resolve(folder, "clean")
        return [_counted(paired(sides[0] or folder, sides[1] or folder, name), entry)]
    files = sorted(path for path in folder.iterdir() if is_picture(path.name) and path.is_file())
    if not files:
        raise _absent(name, root, f"{folder} holds no pictures")
    return [_counted(benchmark, entry) for benchmark in noisy_sets(name, folder, files, sigmas, noises)]


def _counted(benchmark: Benchmark, entry: NamedSet) -> Benchmark:
    """A set that is not whole says so in its protocol."""
    if len(benchmark.keys) == entry.count:
        return benchmark
    count = f"{len(benchmark.keys)} of the official {entry.count} pictures"
    return replace(benchmark, protocol=f"{benchmark.protocol}; {count}")


def _resolve(root: Path, below: str) -> Path | None:
    """The folder `below` under `root`, upper and lower case alike; `root` may be its first part already."""
    parts = below.split("/")
    place: Path | None = root
    for part in parts[1:] if root.name.lower() == parts[0].lower() else parts:
        folders = sorted(p for p in place.iterdir() if p.is_dir()) if place and place.is_dir() else []
        place = next((p for p in folders if p.name.lower() == part.lower()), None)
    return place if place and place.is_dir() else None


def _absent(name: str, root: str | Path, cause: str) -> NoInputError:
    entry = NAMED[name]
    return NoInputError(
        cause,
        f"get it from\n  page:   {entry.page}\n  files:  {entry.files}\n  size:   {entry.size}\n"
        f"  layout: {Path(root) / entry.folders[-1]}/ (then --root {root}, or RNG_DATA={root})",
    )
