"""Noise as a function of place, not a state: the Gaussian field N(seed, step, channel, y, x).

Each pixel's numbers are computed from its own coordinates by a counter-based generator, so a tile gets the same
noise whatever its neighbours, its batch, its device, or what was drawn before; where two tiles overlap they agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count, islice

import torch
from torch import Tensor

from ..methods.contract import Size

Words = tuple[Tensor, Tensor, Tensor, Tensor]

MASK = 0xFFFFFFFF


def philox4x32(counter: Words, key: tuple[int, int]) -> Words:
    """Philox4x32-10 (Salmon et al. 2011): four counter words -> four random words.

    int64 tensors that hold 32-bit unsigned words and broadcast with each other; bit-exact on every device.
    """
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        # int64 wraps modulo 2^64, so all 64 bits of a product are right; only the shift drags the sign along.
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1 = ((p1 >> 32) ^ c1 ^ k0) & MASK, p1 & MASK
        c2, c3 = ((p0 >> 32) ^ c3 ^ k1) & MASK, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def box_muller(words: Words) -> Iterator[Tensor]:
    """Four random words -> four standard normals, one after the other, float32.

    In float64, where libraries differ in the last bits at most, and rounded once: in float32 such a difference
    almost never shows. |z| < 6.77, the price of 32-bit uniforms.
    """
    u0, u1, u2, u3 = ((word + 0.5) / 2**32 for word in map(Tensor.double, words))  # in (0, 1)
    for u, v in ((u0, u1), (u2, u3)):
        radius, angle = (-2 * u.log()).sqrt(), 2 * math.pi * v
        yield (radius * angle.cos()).float()
        yield (radius * angle.sin()).float()


def gaussian_field(
    seed: int,
    step: int | Tensor,
    origins: Tensor,
    size: Size,
    channels: int = 3,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Standard normal noise for tiles of that height and width, (N, channels, *size) float32 on `device`.

    seed is taken modulo 2⁶⁴; step, one for all or (N,), modulo 2³²; origins (N, 2) int64 holds each tile's first
    (y, x) in the whole picture's coordinates, which may be negative. The key is the seed, the counter is
    (x, y, step, block), and the four normals of a block are channels 4·block … 4·block + 3: a channel's noise
    does not depend on how many are asked for.
    """
    home = torch.device(device)
    home = torch.device("cpu") if home.type == "mps" else home  # Metal has no float64
    down, across = (torch.arange(length, device=home) for length in size)
    y, x = origins.to(home)[:, :, None, None].unbind(1)  # (N, 1, 1) each
    y, x = (y + down[:, None]) & MASK, (x + across) & MASK  # (N, height, 1), (N, 1, width)
    steps = step.to(home) if isinstance(step, Tensor) else torch.full((1,), step, device=home)
    level = steps.reshape(-1, 1, 1) & MASK  # (1 or N, 1, 1)
    key = (seed & MASK, seed >> 32 & MASK)
    blocks = (philox4x32((x, y, level, torch.full_like(level, block)), key) for block in count())
    normals = (z for words in blocks for z in box_muller(words))
    return torch.stack(list(islice(normals, channels)), dim=1).to(device)
