"""Mutated files of every format against `decode`: `python -m tests.fuzz_images [COUNT] [SEED]`.

Each file must decode or be refused with a PictureError, within SLOW seconds; anything else is printed with what
repeats it, and the exit status is 1. Raws take a process each and so get a hundredth of the files.
"""

from __future__ import annotations

import io
import sys
import time
from collections import Counter

import imagecodecs
import numpy as np
from PIL import Image as Pillow

from rngcli import images
from rngcli.errors import PictureError
from tests.fuzz import TIFF_KINDS, tiff_of
from tests.test_images import picture, smooth
from tests.test_images_carried import long_xmp, with_note
from tests.test_images_metadata import IPTC
from tests.test_images_metadata import picture as tagged
from tests.test_images_raw import dng

SLOW = 5.0
RAW_SHARE = 100


def seeds() -> dict[str, bytes]:
    """A small good file of each kind that readers treat differently."""
    files = {name: images.encode(tagged(name), name) for name in images.SUFFIX_OF_FORMAT if name != "dng"}
    files |= {f"{name} 16": images.encode(picture(16, alpha=True), name) for name in ("png", "tiff")}
    files["tiff float"] = images.encode(picture(32), "tiff")
    for name in ("tiff_lzw", "packbits", "zstd", "tiff_lzma", "jpeg"):
        file = io.BytesIO()
        Pillow.fromarray(smooth()).save(file, "TIFF", compression=name)
        files[f"tiff {name}"] = file.getvalue()
    files |= {f"tiff {kind}": tiff_of(smooth(), **more) for kind, more in TIFF_KINDS.items()}
    for kind, depth in (("avif", 10), ("heic", 12), ("jxl", 16)):
        files[f"{kind} {depth}"] = images.encode(picture(depth, alpha=True), kind)
    files |= {f"jpeg {bits}": lossless_jpeg(bits) for bits in (8, 12, 16)}
    files["jpeg pair"] = files["jpeg"] + files["jpeg 12"]
    words = images.Metadata(with_note()[0], long_xmp(70_000), IPTC, text=((b"tEXt", b"Author\0Anna"),))
    files |= {f"{name} words": images.encode(picture(metadata=words), name) for name in ("jpeg", "png", "tiff")}
    files["jxl lossless"] = images.encode(picture(16, encoding=images.Encoding(lossless=True)), "jxl")
    return files


def lossless_jpeg(bits: int) -> bytes:
    array = np.rint(smooth() * ((2**bits - 1) / 255)).astype(np.uint8 if bits == 8 else np.uint16)
    return bytes(imagecodecs.jpeg8_encode(array, bitspersample=bits, lossless=True))


def mutated(data: bytes, generator: np.random.Generator) -> bytes:
    """One of: bytes changed (mostly near the beginning), a piece cut out, doubled, zeroed, or the end cut off."""
    body = np.frombuffer(data, np.uint8).copy()
    span = len(body) if generator.random() < 0.5 else min(len(body), 300)
    start, stop = sorted(generator.integers(0, span, 2))
    kind = generator.integers(0, 6)
    if kind < 2:
        places = generator.integers(0, span, generator.integers(1, 16))
        body[places] = generator.choice((0, 1, 0x7F, 0x80, 0xFF, generator.integers(0, 256)), len(places))
    elif kind == 2:
        body = np.delete(body, slice(start, stop))
    elif kind == 3:
        body = np.concatenate([body[:stop], body[start:]])
    elif kind == 4:
        body[start:stop] = 0
    else:
        body = body[: generator.integers(0, len(body))]
    return body.tobytes()


def main(count: int = 2000, seed: int = 0) -> int:
    """Run `count` files; the number of those that did neither decode nor raise PictureError in time."""
    generator = np.random.default_rng(seed)
    files = seeds()
    outcomes: Counter[str] = Counter()
    begun = time.monotonic()
    for number in range(count):
        raw = number % RAW_SHARE == 0
        name = "raw" if raw else generator.choice(list(files))
        data = mutated(dng() if raw else files[name], generator)
        outcomes[outcome(data, f"file {number} of seed {seed} ({name})")] += 1
    print(f"{count} files in {time.monotonic() - begun:.0f} s: {dict(outcomes)}")
    return outcomes["bad"]


def outcome(data: bytes, label: str) -> str:
    begun = time.process_time()
    try:
        image = images.decode(data, images.ReadOptions(max_pixels=10**6))
        target = ("jpeg", "png", "tiff", "webp")[len(data) % 4]
        images.losses(image, target)
        images.encode(image, target)
        result = "decoded"
    except PictureError:
        result = "refused"
    except Exception as error:  # the very thing that is looked for
        print(f"{label}: {error!r}")
        return "bad"
    if time.process_time() - begun > SLOW:
        print(f"{label}: took {time.process_time() - begun:.1f} s")
        return "bad"
    return result


if __name__ == "__main__":
    sys.exit(min(1, main(*map(int, sys.argv[1:]))))
