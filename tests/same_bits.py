"""Two revisions of rng, the same pictures: `python tests/same_bits.py OLD_CHECKOUT NEW_CHECKOUT [--model FILE]`.

Ten small pictures of several tiles, one of each format and depth that both write, go through `rng denoise` of both, in
processes of their own, as the user's options ask: reconstruction only, the default, four steps, batches of four tiles.
What other programs read in the outputs must be the same: samples bit for bit, colour profile, EXIF, XMP, resolution.
Prints a table; exit code 1 where anything differs. For a change of structure, which must not change a picture.
"""

from __future__ import annotations

import argparse
import io
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, ImageCms

OPTIONS = {"detail 0": ("--detail", "0"), "default": (), "steps 4": ("--steps", "4"), "batch 4": ("--batch-size", "4")}
HEIGHT, WIDTH = 200, 300  # [px], two tiles; the first picture is higher, and has four
LAID_OUT = {  # TIFF tags that say how samples are stored, not what they mean
    "StripOffsets", "StripByteCounts", "RowsPerStrip", "Compression", "Predictor", "PlanarConfiguration",
    "TileOffsets", "TileByteCounts", "TileWidth", "TileLength", "NewSubfileType", "ImageWidth", "ImageLength",
    "SampleFormat", "ExifTag", "GPSTag",
}  # fmt: skip


# --- pictures --------------------------------------------------------------------------------------------------


def photograph(seed: int, channels: int, height: int = HEIGHT) -> np.ndarray:
    """A noisy photograph of a kind: clouds, an edge, stripes; (H, W, C) in [0, 1]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 216, (6, 9, 3), np.uint8)
    clouds = np.asarray(Image.fromarray(coarse).resize((WIDTH, height), Image.Resampling.BICUBIC)) / 255
    y, x = np.mgrid[:height, :WIDTH]
    stripes = 0.08 * np.sin(x / 2 + y / 5)[..., None] * (y > height / 2)[..., None]
    picture = clouds + stripes + 0.2 * (x + y > 260)[..., None]
    noisy = picture + rng.normal(0, 0.02 + 0.02 * (seed % 4), picture.shape)
    return noisy[..., :channels].clip(0, 1)


def exif() -> Image.Exif:
    """What a camera says, turned by a quarter, with a place."""
    tags = Image.Exif()
    tags.update({0x10F: "Maker", 0x110: "Model X", 0x112: 6, 0x132: "2024:05:06 07:08:09", 0x13B: "An artist"})
    tags.get_ifd(0x8769).update({0x829A: (1, 250), 0x8827: 3200, 0x9003: "2024:05:06 07:08:09"})
    tags.get_ifd(0x8825).update({1: "N", 2: (47.0, 22.0, 1.5)})
    return tags


def wide_profile() -> bytes:
    """LittleCMS's sRGB profile with the primaries of Adobe RGB."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    adobe = {b"rXYZ": (0.60974, 0.31111, 0.01947), b"gXYZ": (0.20528, 0.62567, 0.06087),
             b"bXYZ": (0.14919, 0.06322, 0.74457)}  # fmt: skip
    for name, xyz in adobe.items():
        (at,) = struct.unpack_from(">I", data, data.index(name, 128) + 4)
        struct.pack_into(">3i", data, at + 8, *(round(value * 65536) for value in xyz))
    return bytes(data)


def write_pictures(folder: Path) -> None:
    """Ten pictures, each of another format or depth."""

    def samples(seed: int, channels: int, depth: int, height: int = HEIGHT) -> np.ndarray:
        scaled = np.rint(photograph(seed, channels, height) * (2**depth - 1))
        array = scaled.astype(np.uint8 if depth == 8 else np.uint16)
        return array[..., 0] if channels == 1 else array

    def eight(name: str, array: np.ndarray, **settings: Any) -> None:
        Image.fromarray(array).save(folder / name, exif=exif().tobytes(), **settings)

    alpha = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))
    eight("jpeg.jpg", samples(0, 3, 8, 290), quality=90, dpi=(240, 240))
    eight("jpeg-profile.jpg", samples(1, 3, 8), quality=95, subsampling=0, icc_profile=wide_profile())
    eight("jpeg-grey.jpg", samples(2, 1, 8), quality=85)
    eight("png-alpha.png", np.dstack([samples(3, 3, 8), alpha]))
    (folder / "png16.png").write_bytes(imagecodecs.png_encode(samples(4, 3, 16)))
    (folder / "png16-grey.png").write_bytes(imagecodecs.png_encode(samples(5, 1, 16)))
    tags = [(0x10F, "s", 0, "Maker", True), (0x112, "H", 1, 8, True)]
    tifffile.imwrite(folder / "tiff16.tif", samples(6, 3, 16), photometric="rgb", iccprofile=wide_profile(),
                     extratags=tags, metadata=None)  # fmt: skip
    tifffile.imwrite(folder / "tiff-float.tif", photograph(7, 3).astype(np.float32), photometric="rgb", metadata=None)
    eight("webp.webp", samples(8, 3, 8), lossless=True)
    eight("avif.avif", samples(9, 3, 8), quality=90)


# --- what other programs find ----------------------------------------------------------------------------------


def found(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """The samples as stored, and what goes with them."""
    if path.suffix == ".tif":
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            tags = {tag.name: tag.value for tag in page.tags if tag.name not in LAID_OUT}
            return page.asarray(), tags | {"exif": directories(path.read_bytes())}
    data = path.read_bytes()
    picture = Image.open(io.BytesIO(data))
    deep = data[1:4] == b"PNG" and data[24] == 16
    pixels = imagecodecs.png_decode(data) if deep else np.asarray(picture)
    kept = {key: picture.info.get(key) for key in ("icc_profile", "dpi", "xmp", "gamma", "srgb")}
    return pixels, kept | {"exif": directories(picture.getexif().tobytes()), "mode": picture.mode}


def directories(block: bytes) -> dict[str, Any]:
    """The tags of an EXIF block, or of a TIFF file, and of the directories below."""
    tags = Image.Exif()
    tags.load(block)
    below = {f"{at:x}": dict(tags.get_ifd(at)) for at in (0x8769, 0x8825)}
    return {"camera": {key: value for key, value in tags.items() if key in (0x10F, 0x110, 0x112, 0x132, 0x13B)}} | below


def difference(old: Path, new: Path) -> str:
    """In a few words what differs between two files; empty where nothing does."""
    if not (old.exists() and new.exists()):
        return "" if old.exists() == new.exists() else f"only {old if old.exists() else new} is there"
    (before, said_before), (after, said_after) = found(old), found(new)
    if before.shape != after.shape or before.dtype != after.dtype:
        return f"{before.dtype}{before.shape} became {after.dtype}{after.shape}"
    differ = before != after
    most = np.abs(before.astype(float) - after).max()
    text = [f"{differ.mean():.2%} of samples, by up to {most:g}"] * bool(differ.any())
    keys = said_before.keys() | said_after.keys()
    text += [f"{key} differs" for key in sorted(keys) if said_before.get(key) != said_after.get(key)]
    return "; ".join(text)


# --- both revisions --------------------------------------------------------------------------------------------


def denoise(checkout: Path, source: Path, out: Path, *options: str) -> str:
    """`rng denoise` of a checkout in a process of its own; what it said where it failed."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, "-m", "rngcli", "denoise", str(source), str(out), "--quiet", *options]
    ended = subprocess.run(command, env=environment, cwd=source, capture_output=True, text=True)
    return ended.stderr.strip() if ended.returncode else ""


def compared(old: Path, new: Path, model: Path, place: Path) -> Iterator[tuple[str, str, str]]:
    """(options, picture, what differs) of every output."""
    source = place / "in"
    source.mkdir()
    write_pictures(source)
    for number, (label, options) in enumerate(OPTIONS.items()):
        outs = [place / f"{name}{number}" for name in ("old", "new")]
        for checkout, out in zip((old, new), outs, strict=True):
            if failed := denoise(checkout, source, out, "--model", str(model), "--device", "cpu", *options):
                yield label, str(checkout), failed
        for path in sorted(source.iterdir()):
            yield label, path.name, difference(*(out / path.name for out in outs))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--model", type=Path, help="a bundle that both can read; by default OLD's rng-s")
    arguments = parser.parse_args()
    old, new = arguments.old.resolve(), arguments.new.resolve()
    model = (arguments.model or old / "models" / "rng-s.safetensors").resolve()
    different = total = 0
    with tempfile.TemporaryDirectory() as place:
        for label, picture, what in compared(old, new, model, Path(place)):
            print(f"{label:9}  {picture:18}  {what or 'the same'}", flush=True)
            different, total = different + bool(what), total + 1
    print(f"{total - different} of {total} outputs are the same")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
