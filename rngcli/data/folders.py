"""Benchmarks from any folders: clean pictures with synthetic noise, and pairs matched by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..errors import NoInputError, PictureError, UsageError
from ..images import FORMAT_OF_SUFFIX, in_srgb, read
from ..images.walk import walk
from .benchmark import Benchmark, Pair, awgn
from .protocols import ALIKE, PROTOCOLS, check_noises, degraded, eight_bits

NOISY_WORDS = frozenset({"noisy", "real"})  # SIDD and others write NOISY and GT, PolyU and CC real and mean
CLEAN_WORDS = frozenset({"clean", "gt", "mean"})


def clean_folder(path: str | Path) -> list[Path]:
    """All readable pictures below `path`, sorted. Raises NoInputError where there are none."""
    folder = Path(path)
    if not folder.is_dir():
        raise NoInputError(f"{folder} is no folder", "give a folder of pictures")
    found = sorted(walk(folder).pictures)
    if not found:
        known = ", ".join(sorted(FORMAT_OF_SUFFIX))
        raise NoInputError(f"no pictures below {folder}", f"rng reads {known} and camera RAW")
    return found


def with_noise(folder: str | Path, sigmas: Sequence[float] = (), noises: Sequence[str] = ("awgn",)) -> list[Benchmark]:
    """Any folder of clean pictures made noisy: one benchmark for each noise, of white noise one for each σ."""
    check_noises(noises, sigmas)
    return noisy_sets(Path(folder).resolve().name, Path(folder), clean_folder(folder), sigmas, noises)


def noisy_sets(
    name: str, folder: Path, files: Sequence[Path], sigmas: Sequence[float], noises: Sequence[str]
) -> list[Benchmark]:
    """Clean `files` of `folder` with each noise: "awgn" and "awgn8" of each σ on the 0-255 scale, and `PROTOCOLS`."""
    return [
        benchmark
        for noise in noises
        for benchmark in (
            [_protocol_set(name, folder, files, noise)]
            if noise in PROTOCOLS
            else [_white_set(name, folder, files, sigma, as_file=noise == "awgn8") for sigma in sigmas]
        )
    ]


def _white_set(name: str, folder: Path, files: Sequence[Path], sigma: float, as_file: bool) -> Benchmark:
    """White noise of one σ, as 8-bit files hold it or as it is."""
    by_key = keyed(folder, files)

    def load(key: str) -> Pair:
        pixels = _pixels(by_key[key])
        noisy = awgn(pixels, sigma)
        return Pair(key, eight_bits(noisy) if as_file else noisy, pixels)

    protocol = (
        f"white Gaussian noise, σ = {sigma:g} on the 0-255 scale, NumPy RandomState(0) anew for each picture, "
        f"{'clipped and rounded to 8 bits' if as_file else 'neither clipped nor rounded'}; "
        f"PSNR on RGB over the clamped float output, mean over pictures"
    )
    name = f"{name} {'8-bit ' if as_file else ''}σ={sigma:g}"
    return _clean_set(name, protocol, folder, by_key, load, sigma)


def _protocol_set(name: str, folder: Path, files: Sequence[Path], noise: str) -> Benchmark:
    by_key = keyed(folder, files)

    def load(key: str) -> Pair:
        return Pair(key, *degraded(noise, _pixels(by_key[key]), key))

    protocol = f"{PROTOCOLS[noise].text}; {ALIKE}"
    return _clean_set(f"{name} {noise}", protocol, folder, by_key, load, None)


def _clean_set(
    name: str, protocol: str, folder: Path, by_key: dict[str, Path], load: Callable[[str], Pair], sigma: float | None
) -> Benchmark:
    return Benchmark(
        name, protocol, tuple(by_key), load, tuple(str(error) for error in walk(folder).errors), sigma=sigma,
        source=str(folder.resolve()), files=lambda key: (by_key[key],),
    )  # fmt: skip


def paired(noisy: str | Path, clean: str | Path, name: str = "pairs") -> Benchmark:
    """Pictures of two folders (or of one) matched by name, whatever the suffix and words such as NOISY and GT.

    What has no partner is named in `problems`; NoInputError where nothing matches.
    """
    pairs, problems = matched(Path(noisy), Path(clean))
    problems += [str(error) for side in dict.fromkeys((noisy, clean)) for error in walk(Path(side)).errors]
    return Benchmark(
        name,
        "noisy and clean pictures from files; PSNR on RGB over the clamped float output, mean over pictures",
        tuple(pairs),
        lambda key: _read_pair(key, *pairs[key]),
        tuple(problems),
        source=f"{Path(noisy).resolve()}, {Path(clean).resolve()}",
        files=lambda key: pairs[key],
    )


def matched(noisy: Path, clean: Path) -> tuple[dict[str, tuple[Path, Path]], list[str]]:
    """(noisy, clean) files of two folders, or of one, by what their names share; and a line for each without a partner.

    NoInputError where nothing matches.
    """
    left, right = _sides(noisy, clean)
    keys = sorted(left.keys() & right.keys())
    if not keys:
        raise NoInputError(f"no names match between {noisy} and {clean}", "pairs are matched by file name")
    problems = [f"{path}: no partner in {clean}" for key, path in sorted(left.items()) if key not in right]
    problems += [f"{path}: no partner in {noisy}" for key, path in sorted(right.items()) if key not in left]
    return {key: (left[key], right[key]) for key in keys}, problems


def _pixels(path: Path) -> np.ndarray:
    try:
        return in_srgb(read(path))
    except PictureError as error:
        raise PictureError(f"{path}: {error.cause}", error.remedy) from error


def _read_pair(key: str, noisy: Path, clean: Path) -> Pair:
    x, y = _pixels(noisy), _pixels(clean)
    if x.shape != y.shape:
        sizes = [f"{side.shape[1]}×{side.shape[0]}" for side in (x, y)]
        raise PictureError(f"{noisy} is {sizes[0]} px but its truth is {sizes[1]} px", "give pairs of one size")
    return Pair(key, x, y)


def _sides(noisy: Path, clean: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Both sides by matching key; one folder for both is split by the words in the names."""
    if noisy != clean:
        return _matching(noisy, clean_folder(noisy)), _matching(clean, clean_folder(clean))
    files = clean_folder(noisy)
    sides = [[p for p in files if words & set(_words(p))] for words in (NOISY_WORDS, CLEAN_WORDS)]
    return _matching(noisy, sides[0]), _matching(noisy, sides[1])


def _matching(folder: Path, files: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files:
        plain = "_".join(word for word in _words(path) if word not in NOISY_WORDS | CLEAN_WORDS) or path.stem.lower()
        key = (path.relative_to(folder).parent / plain).as_posix()
        if key in found:
            raise UsageError(f"{found[key]} and {path} would both be {key!r}", "give each picture a name of its own")
        found[key] = path
    return found


def _words(path: Path) -> list[str]:
    return path.stem.lower().replace("-", "_").split("_")


def keyed(folder: Path, files: Sequence[Path]) -> dict[str, Path]:
    """Files by their path below `folder` without the suffix, with it where it would be another file's name as well."""
    relative = [path.relative_to(folder) for path in files]
    whole, bare = ([path.as_posix() for path in paths] for paths in (relative, [p.with_suffix("") for p in relative]))
    count = Counter([*whole, *bare])
    keys = [name if count[key] > 1 else key for name, key in zip(whole, bare, strict=True)]
    return dict(zip(keys, files, strict=True))
