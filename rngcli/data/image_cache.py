"""Training pictures and pairs: decoded once, kept as bytes on the device, cropped and flipped there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import NoInputError, PictureError
from ..images import in_srgb, read, size_of, sniff

# Formats whose header has the size of what is decoded: others turn their pixels, or cut a sensor's margins off.
AS_STORED = {"avif", "jpeg", "png", "tiff", "webp"}
HELD_OUT = 32  # one file in so many is for validation only, chosen by its name

Source = Path | tuple[Path, Path]  # a picture, or a pair: noisy, clean
Track = Callable[[Iterable[Any], str, int, str], Iterable[Any]]  # work, what is done, how much there is of what


def untracked(work: Iterable[Any], doing: str, total: int, unit: str) -> Iterable[Any]:
    """Work that nobody watches; who does gives back the same items one by one."""
    return work


def is_held_out(source: Source) -> bool:
    """Whether it belongs to the validation slice; depends on the clean picture's name alone, never on the folder."""
    name = _files(source)[-1].name
    return int(hashlib.sha256(os.fsencode(name)).hexdigest(), 16) % HELD_OUT == 0


def large_enough(sources: Sequence[Source], crop: int) -> dict[Source, tuple[int, int]]:
    """Those of at least `crop` px on each side, with (height, width). Raises NoInputError where none is.

    Raises PictureError for what is no picture, and for a pair whose sides differ in size.
    """
    with ThreadPoolExecutor(4) as threads:
        sizes = list(threads.map(_size, sources))
    found = {source: size for source, size in zip(sources, sizes, strict=True) if min(size) >= crop}
    if not found:
        cause = f"no picture of at least {crop}×{crop} px among {len(sources)}"
        raise NoInputError(cause, "give larger ones, or a smaller --crop")
    return found


class Pool:
    """Pictures of any size in one flat uint8 tensor; a batch of crops is a single gather, with no loader to wait for.

    Pictures smaller than `crop` on a side are left out. A pair is a picture of six channels: noisy, then clean.
    """

    def __init__(
        self, sources: Sequence[Source], crop: int, device: torch.device | str = "cpu", track: Track = untracked
    ) -> None:
        found = large_enough(sources, crop)
        sources, sizes = list(found), torch.tensor(list(found.values()))  # (P, 2)
        ends = (sizes[:, 0] * sizes[:, 1]).cumsum(0)
        starts = ends - sizes[:, 0] * sizes[:, 1]
        self.crop = crop
        self.device = torch.device(device)
        self.sizes, self.starts = sizes.to(device), starts.to(device)
        self.pixels = torch.empty(int(ends[-1]), 3 * len(_files(sources[0])), dtype=torch.uint8, device=device)

        def place(i: int) -> None:
            self.pixels[starts[i] : ends[i]] = torch.from_numpy(_decode(sources[i])).to(device)

        with ThreadPoolExecutor(4) as threads:
            list(track(threads.map(place, range(len(sources))), "decoding", len(sources), "pictures"))

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def megapixels(self) -> float:
        return len(self.pixels) / 1e6

    @property
    def clean(self) -> Pool:
        """Of pairs, the clean pictures alone, in the same memory."""
        view = copy(self)
        view.pixels = self.pixels[:, -3:]
        return view

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """n crops from pictures drawn with equal chance, flipped and turned; (N, 3 or 6, crop, crop) in [0, 1]."""

        def draw() -> Tensor:
            return torch.rand(n, generator=rng, device=self.device)

        which = (draw() * len(self)).long()
        height, width = self.sizes[which].unbind(1)
        top = (draw() * (height - self.crop + 1)).long()
        left = (draw() * (width - self.crop + 1)).long()
        side = torch.arange(self.crop, device=self.device)
        y, x = self._turned(side, (draw() * 8).long())
        index = self.starts[which, None, None] + (top[:, None, None] + y) * width[:, None, None]
        index = index + left[:, None, None] + x
        return self.pixels[index].permute(0, 3, 1, 2).float() / 255

    def _turned(self, side: Tensor, symmetry: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates (N, crop, crop) of the square under each of its 8 symmetries (flips and quarter turns)."""
        last = len(side) - 1
        bits = symmetry[:, None, None]
        y = side[None, :, None].expand(len(symmetry), -1, len(side))
        x = side[None, None, :].expand(len(symmetry), len(side), -1)
        y, x = torch.where(bits & 1 == 1, x, y), torch.where(bits & 1 == 1, y, x)
        y = torch.where(bits & 2 == 2, last - y, y)
        x = torch.where(bits & 4 == 4, last - x, x)
        return y, x


def _files(source: Source) -> tuple[Path, ...]:
    return (source,) if isinstance(source, Path) else source


def _size(source: Source) -> tuple[int, int]:
    """(height, width) of the pixels as they are stored."""
    sizes = [_stored_size(path) for path in _files(source)]
    if sizes[0] != sizes[-1]:
        noisy, clean = (f"{width}×{height}" for height, width in sizes)
        cause = f"{_files(source)[0]} is {noisy} px but its truth is {clean} px"
        raise PictureError(cause, "give pairs of one size")
    return sizes[0]


def _stored_size(path: Path) -> tuple[int, int]:
    """By the header where that is sure to tell; else the picture is decoded."""
    try:
        if sniff(path.read_bytes()) in AS_STORED:
            return size_of(path)
    except PictureError:
        pass  # decoding says what it is
    height, width, _ = _bytes_of(path).shape
    return height, width


def _decode(source: Source) -> np.ndarray:
    """(H·W, 3 or 6) uint8."""
    sides = [_bytes_of(path) for path in _files(source)]
    return np.concatenate(sides, axis=2).reshape(-1, 3 * len(sides))


def _bytes_of(path: Path) -> np.ndarray:
    """(H, W, 3) uint8, sRGB, not turned by the orientation tag: crops are turned anyway."""
    try:
        pixels = in_srgb(read(path)) * 255
    except PictureError as error:
        raise PictureError(f"{path} cannot be decoded ({error.cause})", "leave it out") from error
    return np.rint(pixels, out=pixels).astype(np.uint8)
