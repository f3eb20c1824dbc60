"""Mutated files of every readable format in one batch: `python -m tests.fuzz --count 2000 --seed 0`.

One `rng denoise --detail 0` with an identity model must end by itself, with an outcome for every file, with exit code 1
where some have failed, and those named at the end; whole outputs for the done ones, none for the others, nothing
unfinished, and the inputs as they were.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image as Pillow

from rngcli import images
from rngcli.models.bundle import save
from tests.test_images_raw import IPTC, LIGHTROOM, block, dng
from tests.tiny import identity_bundle

RAW_SHARE = 100  # LibRaw gets a process for each raw, so raws are one of so many
LARGEST = 100_000  # [px] of a picture that a mutated header may ask for
PATIENCE = 120, 2.0  # [s] for the run, and for each file


TIFF_KINDS = {
    "zstd": {"compression": "zstd"}, "lzma": {"compression": "lzma"}, "tiled": {"tile": (16, 16)},
    "planar": {"planarconfig": "separate"}, "webp": {"compression": "webp"}, "jxl": {"compression": "jpegxl"},
    "jpeg tiled": {"compression": "jpeg", "tile": (16, 16)}, "predictor": {"compression": "zlib", "predictor": True},
}  # fmt: skip


def tiff_of(array: np.ndarray, **more: Any) -> bytes:
    """A TIFF of an (H, W, 3) array by tifffile."""
    file = io.BytesIO()
    array = np.moveaxis(array, 2, 0) if "planarconfig" in more else array
    tifffile.imwrite(file, array, photometric="rgb", **more)
    return file.getvalue()


def seeds() -> dict[str, bytes]:
    """A small good file of each kind, by suffix or suffix and kind."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (24, 32, 3), np.uint8)
    picture = images.Image(noise.astype(np.float32) / 255)
    deep = images.Image(generator.random((24, 32, 3), np.float32), depth=16)
    float_ = images.Image(generator.random((24, 32, 3), np.float32), depth=32)
    files = {suffix: images.encode(picture, name) for name, suffix in images.SUFFIX_OF_FORMAT.items() if name != "dng"}
    files |= {f"{suffix} 16": images.encode(deep, images.FORMAT_OF_SUFFIX[suffix]) for suffix in (".png", ".tif")}
    files[".tif float"] = images.encode(float_, "tiff")
    for kind, depth in ((".avif 10", 10), (".heic 10", 10), (".jxl 16", 16)):
        files[kind] = images.encode(replace(deep, depth=depth), images.FORMAT_OF_SUFFIX[kind.split()[0]])
    files[".jxl lossless"] = images.encode(replace(picture, encoding=images.Encoding(lossless=True)), "jxl")
    for kind, more in TIFF_KINDS.items():
        files[f".tif {kind}"] = tiff_of(noise, **more)
    shot = Pillow.Exif()
    shot[0x0112], shot[0x010F] = 6, "Kamerawerk"
    for kind, options in {
        ".tif lzw": {"compression": "tiff_lzw"}, ".tif packbits": {"compression": "packbits"},
        ".tif jpeg": {"compression": "jpeg"}, ".png palette": {}, ".jpg exif": {"exif": shot}, ".webp lossless":
        {"lossless": True}, ".jpg progressive": {"progressive": True},
    }.items():  # fmt: skip
        file, suffix = io.BytesIO(), kind.split()[0]
        image = Pillow.fromarray(noise)
        image = image.convert("P") if "palette" in kind else image
        image.save(file, Pillow.registered_extensions()[suffix], **options)
        files[kind] = file.getvalue()
    return files


def mutated(data: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    """One of: bits flipped, header bytes set, a size field made absurd, the end cut off, spliced with another file."""
    body = bytearray(data)
    kind = generator.integers(0, 5)
    if kind == 0:
        for at in generator.integers(0, len(body), generator.integers(1, 24)):
            body[at] ^= 1 << generator.integers(0, 8)
    elif kind == 1:
        for at in generator.integers(0, min(len(body), 128), generator.integers(1, 8)):
            body[at] = generator.choice((0, 1, 0x7F, 0x80, 0xFF))
    elif kind == 2:
        at, size = generator.integers(0, max(1, min(len(body) - 4, 400))), int(generator.choice((2, 4)))
        number = int(generator.choice((0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF))) % (1 << 8 * size)
        body[at : at + size] = number.to_bytes(size, str(generator.choice(("big", "little"))))  # type: ignore[arg-type]
    elif kind == 3:
        del body[generator.integers(0, len(body)) :]
    else:
        cut, from_ = generator.integers(0, len(body)), generator.integers(0, len(other))
        body[cut:] = other[from_:]
    return bytes(body)


def fill(folder: Path, count: int, seed: int) -> dict[str, bytes]:
    """`count` mutated files in `folder`, and what was written, by name."""
    generator = np.random.default_rng(seed)
    good, raw = seeds(), dng(more={0x2BC: block(LIGHTROOM), 0x83BB: block(IPTC)})
    kinds = sorted(good)
    written = {}
    for number in range(count):
        kind = str(generator.choice(kinds))
        source = raw if number % RAW_SHARE == 0 else good[kind]
        name = f"{number:05}{'.dng' if source is raw else kind.split()[0]}"
        written[name] = mutated(source, good[str(generator.choice(kinds))], generator)
        (folder / name).write_bytes(written[name])
    return written


@dataclass
class Figures:
    """What a run of the command came to; `faults` must be empty."""

    files: int
    seconds: float
    statuses: Counter[str]
    faults: list[str]


def fuzz(place: Path, count: int, seed: int) -> Figures:
    """One batch over `count` files below `place`, judged."""
    source, out, model = place / "in", place / "out", place / "identity.safetensors"
    source.mkdir()
    save(identity_bundle(), model)
    written = fill(source, count, seed)
    command = [sys.executable, "-m", "rngcli", "denoise", str(source), str(out), "--model", str(model), "--detail", "0",
               "--json", "--quiet", "--device", "cpu", "--batch-size", "1", "--max-pixels", str(LARGEST)]  # fmt: skip
    begun = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE[0] + PATIENCE[1] * count, check=False)
    except subprocess.TimeoutExpired:
        return Figures(count, time.monotonic() - begun, Counter(), ["the run hangs"])
    seconds = time.monotonic() - begun
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    found = {row["file"]: row for row in rows if "file" in row}
    failed = [name for name, row in found.items() if row["status"] == "failed"]
    said = done.stderr.decode().splitlines()
    faults = [] if done.returncode == bool(failed) else [f"exit code {done.returncode}: {said[-3:]}"]
    named = {line.removeprefix("failed: ").partition(": ")[0] for line in said}
    faults += [f"{name} is not named at the end" for name in failed if name not in named]
    faults += [f"{name} has no outcome" for name in written.keys() - found.keys()]
    faults += [f"{name} was changed" for name, data in written.items() if (source / name).read_bytes() != data]
    faults += [f"{row['file']}: {row['error']}" for row in found.values() if "unexpected" in (row["error"] or "")]
    faults += _of_outputs(out, {row["output"] for row in found.values() if row["status"] == "done"})
    return Figures(count, seconds, Counter(row["status"] for row in found.values()), faults)


def _of_outputs(out: Path, done: set[str]) -> list[str]:
    there = {str(path) for path in out.rglob("*") if path.is_file() and ".rng" not in path.parts}
    faults = [f"{path} belongs to no done picture" for path in there - done]
    faults += [f"{path} is missing" for path in done - there]
    for path in there & done:
        try:
            images.read(Path(path))
        except Exception as error:
            faults.append(f"{path} cannot be read again: {error!r}")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        figures = fuzz(Path(place), given.count, given.seed)
    print(f"{figures.files} files, seed {given.seed}: {dict(figures.statuses)} in {figures.seconds:.0f} s")
    print(*figures.faults or ["no crash, no hang, no partial output"], sep="\n")
    return bool(figures.faults)


if __name__ == "__main__":
    sys.exit(main())
