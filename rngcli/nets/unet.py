"""The paper's generator g(d_t, γ_t, x): a U-Net of noise-level-conditioned NAFBlocks. Shipped: `fusion`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError
from .nafnet import ChannelNorm, check_shape, simple_gate, upsample

# What the network may see beside d_t, and its channels.
_CONDITIONS = {"noisy": 3, "reconstruction": 3, "both": 6, "nothing": 0}


@dataclass(frozen=True)
class UNetSpec:
    """Shape of a generator.

    `patch` folds patch×patch pixels into channels before the first level: the work per pixel stays, the
    memory traffic, which is what bounds small images on a CPU, falls by that factor.
    """

    width: int = 64
    encoder: tuple[int, ...] = (1, 1, 2)
    middle: int = 2
    decoder: tuple[int, ...] = (1, 1, 1)
    patch: int = 2
    condition: str = "both"  # "noisy": x (the paper); "reconstruction": r(x); "both": x and r(x); "nothing"
    embedding: int = 128

    def __post_init__(self) -> None:
        check_shape(self.width, self.encoder, self.middle, self.decoder)
        if self.patch not in (1, 2, 4, 8) or not 4 <= self.embedding <= 4096 or self.embedding % 2:
            cause = f"impossible generator of patch {self.patch} and embedding {self.embedding}"
            raise ModelError(cause, "use a patch of 1, 2, 4 or 8, and an even embedding of 4 to 4096")
        if self.condition not in _CONDITIONS:
            raise ModelError(f"unknown condition {self.condition!r}", f"use {', '.join(_CONDITIONS)}")

    @property
    def condition_channels(self) -> int:
        return _CONDITIONS[self.condition]

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this [px]."""
        return self.patch * 2 ** len(self.encoder)


class NoiseLevelEmbedding(nn.Module):
    """γ in (0, 1), (N,) -> (N, C): sinusoids of the log signal-to-noise ratio, then two linear layers.

    A continuous level, not a step number, so that the inference schedule may differ from the training one
    (WaveGrad; SR3; paper §3.1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.first, self.second = nn.Linear(channels, channels), nn.Linear(channels, channels)

    def forward(self, gamma: Tensor) -> Tensor:
        gamma = gamma.float()
        log_snr = torch.log(gamma / (1 - gamma))  # about -10 … 14
        half = self.channels // 2
        rates = torch.exp(-math.log(1e3) / (half - 1) * torch.arange(half, device=gamma.device)) * 4.0
        angles = log_snr[:, None] * rates
        waves = torch.cat([angles.sin(), angles.cos()], dim=1)
        return F.silu(self.second(F.silu(self.first(waves.to(self.first.weight.dtype)))))


class ConditionalNAFBlock(nn.Module):
    """A NAFBlock whose two norms are scaled and shifted by the noise level (Refusion; NAF-DPM).

    Without the channel attention: its pooled average would make a pixel depend on the tile it lies in.
    """

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        c = channels
        self.beta = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.norm1, self.norm2 = ChannelNorm(c), ChannelNorm(c)
        self.modulation = nn.Linear(embedding, 4 * c)
        self.conv1 = nn.Conv2d(c, 2 * c, 1)
        self.conv2 = nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c)
        self.conv3 = nn.Conv2d(c, c, 1)
        self.conv4 = nn.Conv2d(c, 2 * c, 1)
        self.conv5 = nn.Conv2d(c, c, 1)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        scale1, shift1, scale2, shift2 = self.modulation(level)[:, :, None, None].chunk(4, dim=1)
        z = simple_gate(self.conv2(self.conv1(self.norm1(x) * (1 + scale1) + shift1)))
        y = x + self.beta.to(x.dtype) * self.conv3(z)
        z = simple_gate(self.conv4(self.norm2(y) * (1 + scale2) + shift2))
        return y + self.gamma.to(x.dtype) * self.conv5(z)


class Level(nn.ModuleList):
    """Blocks one after the other, all at one noise level."""

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        for block in self:
            x = block(x, level)
        return x


class UNet(nn.Module):
    """(d_t, condition, γ) -> prediction.

    d_t (N, 3, H, W), unit variance by construction; condition (N, 3, 6 or 0, H, W) in [0, 1]; γ (N,) in (0, 1).
    H and W must be multiples of `spec.multiple`. What is predicted (ε, v) is the process's choice.
    """

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        self.spec = spec
        c, p = spec.width, spec.patch
        self.level = NoiseLevelEmbedding(spec.embedding)
        self.intro = nn.Conv2d((3 + spec.condition_channels) * p * p, c, 3, padding=1)
        self.ending = nn.Conv2d(c, 3 * p * p, 3, padding=1)
        nn.init.zeros_(self.ending.weight)
        self.encoders, self.downs = nn.ModuleList(), nn.ModuleList()
        for blocks in spec.encoder:
            self.encoders.append(self._stage(c, blocks))
            self.downs.append(nn.Conv2d(c, 2 * c, 2, stride=2))
            c *= 2
        self.middle = self._stage(c, spec.middle)
        self.ups, self.decoders = nn.ModuleList(), nn.ModuleList()
        for blocks in spec.decoder:
            self.ups.append(upsample(c))
            c //= 2
            self.decoders.append(self._stage(c, blocks))

    def _stage(self, channels: int, blocks: int) -> Level:
        return Level(ConditionalNAFBlock(channels, self.spec.embedding) for _ in range(blocks))

    def condition(self, noisy: Tensor, reconstruction: Tensor) -> Tensor:
        """What the network sees beside d_t, by its spec: x, r(x), both or nothing; (N, 3, 6 or 0, H, W)."""
        parts = {"noisy": [noisy], "reconstruction": [reconstruction], "both": [noisy, reconstruction]}
        return torch.cat(parts.get(self.spec.condition, [noisy[:, :0]]), dim=1)

    def forward(self, d_t: Tensor, condition: Tensor, gamma: Tensor) -> Tensor:
        level = self.level(gamma)
        # Colours around zero: the residual is zero-mean, so the condition should be as well.
        features = torch.cat([d_t, (condition - 0.5) * 2], dim=1)
        features = self.intro(F.pixel_unshuffle(features, self.spec.patch).to(self.intro.weight.dtype))
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            features = encoder(features, level)
            skips.append(features)
            features = down(features)
        features = self.middle(features, level)
        for decoder, up in zip(self.decoders, self.ups, strict=True):
            features = decoder(up(features) + skips.pop(), level)
        return F.pixel_shuffle(self.ending(features), self.spec.patch)
