"""Training photographs: decoded once, kept as bytes on the device, cropped and flipped there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .errors import NoInputError

HELD_OUT = 32  # one file in so many is for validation only, chosen by its name


def is_held_out(path: Path) -> bool:
    """Whether a picture belongs to the validation slice; depends on its name alone, so never on the folder's size."""
    return int(hashlib.sha256(path.name.encode()).hexdigest(), 16) % HELD_OUT == 0


def _decode(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))  # (H, W, 3) uint8


class Pool:
    """Pictures of any size in one flat uint8 tensor; a batch of crops is a single gather, with no loader to wait for.

    Pictures smaller than `crop` on a side are left out.
    """

    def __init__(self, paths: Sequence[Path], crop: int, device: torch.device | str = "cpu") -> None:
        with ThreadPoolExecutor(4) as threads:
            pictures = [p for p in threads.map(_decode, paths) if min(p.shape[:2]) >= crop]
        if not pictures:
            raise NoInputError(
                f"no picture of at least {crop}×{crop} px among {len(paths)} files", "give a folder of photographs"
            )
        sizes = torch.tensor([p.shape[:2] for p in pictures])  # (P, 2)
        ends = (sizes[:, 0] * sizes[:, 1]).cumsum(0)
        self.crop = crop
        self.device = torch.device(device)
        self.sizes = sizes.to(device)
        self.starts = (ends - sizes[:, 0] * sizes[:, 1]).to(device)
        self.pixels = torch.from_numpy(np.concatenate([p.reshape(-1, 3) for p in pictures])).to(device)

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def megapixels(self) -> float:
        return len(self.pixels) / 1e6

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """n crops from pictures drawn with equal chance, flipped and turned; (N, 3, crop, crop) float in [0, 1]."""

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
