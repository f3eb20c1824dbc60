"""The card's saturated set: `python -m tests.saturated PICTURES OUT`.

Of the photographs below PICTURES that training holds out, those with the most pixels of which a channel lies at 0 or
255, written to OUT as PNG.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from rngcli.data.image_cache import is_held_out
from rngcli.data.photographs import developed_below


def saturation(picture: Image.Image) -> float:
    """The share of pixels of which a channel is black or white."""
    pixels = np.asarray(picture.convert("RGB"))
    return float(((pixels == 0) | (pixels == 255)).any(axis=2).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=12)
    given = parser.parse_args()
    shares = {}
    for path in filter(is_held_out, developed_below(given.pictures)):
        with Image.open(path) as picture:
            shares[path] = saturation(picture)
    given.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(shares, key=shares.__getitem__, reverse=True)[: given.count]:
        with Image.open(path) as picture:
            picture.convert("RGB").save(given.out / f"{path.stem}.png")
        print(f"{shares[path]:.3f}  {path.name}")


if __name__ == "__main__":
    main()
