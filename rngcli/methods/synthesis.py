"""Pair synthesis: noisy partners of clean pictures, as a camera would have made them (after Yang et al. 2023).

The camera's measured noise is added. Where there is a network that has learned what the camera's noisy pictures look
like, it takes the result a little way into noise and back, which adds what no formula says: the traces of the camera's
own noise reduction, sharpening and compression. Its price is drift: the finest detail is no longer that of the clean
picture (`detail_slope`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.camera_noise import CameraNoise
from ..data.degrade import to_8_bits
from ..data.random_fields import normal
from ..device import channels_last, find_precision, replica
from ..diffusion.ddpm import DDPM, DDPMSpec
from ..errors import UsageError
from ..nets.unet import UNet

TILE, CONTEXT = 512, 32  # [px] the network sees so much at a time, and so much around it


@dataclass(frozen=True)
class SynthesisSpec:
    """How far into noise a picture is taken, as σ on the [0, 1] scale, and in how many evaluations it comes back."""

    strength: float = 20 / 255
    evaluations: int = 8
    process: DDPMSpec = field(default_factory=DDPMSpec)

    def __post_init__(self) -> None:
        low, high = self.process.quietest, self.process.noisiest
        if not low <= self.strength <= high or self.evaluations < 1:
            cause = f"a strength of {255 * self.strength:g} in {self.evaluations} evaluations is not possible"
            raise UsageError(cause, f"give {255 * low:g} to {255 * high:g} of 255, in 1 or more")


class Synthesis:
    """The noise of a camera's photographs, and perhaps a network that has learned them, on a device."""

    def __init__(
        self, noises: Sequence[CameraNoise], net: UNet | None, spec: SynthesisSpec, device: torch.device
    ) -> None:
        self.noises, self.spec, self.device = noises, spec, device
        self.net = net and replica(net, device, find_precision(device))
        self.process = DDPM(spec.process)

    @torch.inference_mode()
    def partner(self, clean: Tensor, rng: torch.Generator) -> Tensor:
        """The noisy partner of sRGB (3, H, W) in [0, 1], in steps of 1/255; with the noise of one photograph.

        Everything is drawn from `rng`, a generator of the CPU, so that it is the same whatever the device.
        """
        noise = self.noises[int(torch.randint(len(self.noises), (1,), generator=rng))]
        noisy = noise.add_to(clean[None], rng)
        return (self._brought_back(noisy, rng) if self.net else noisy)[0].cpu()

    def _brought_back(self, noisy: Tensor, rng: torch.Generator) -> Tensor:
        """Noised to the strength, and denoised by ancestral steps."""
        levels = torch.tensor(self.process.levels(self.spec.strength, self.spec.evaluations), device=self.device)
        state = self.process.begin(levels[:1], normal(noisy.shape, rng).to(self.device), noisy.to(self.device))
        for level, after in zip(levels, [*levels[1:], levels.new_tensor(self.process.end)], strict=True):
            noise = normal(noisy.shape, rng).to(self.device)
            answer = self._answer(state, level[None])
            state = self.process.step(state, answer, level[None], after[None], noise)
        return to_8_bits(state)

    def _answer(self, state: Tensor, level: Tensor) -> Tensor:
        """The network's, tile by tile; each sees enough of its neighbours to know nothing of the grid."""
        assert self.net is not None
        height, width = state.shape[2:]
        multiple = self.net.spec.multiple
        inner = [min(TILE, -(-side // multiple) * multiple) for side in (height, width)]
        extent = [-(-side // tile) * tile for side, tile in zip((height, width), inner, strict=True)]
        margins = [CONTEXT, CONTEXT + extent[1] - width, CONTEXT, CONTEXT + extent[0] - height]
        wide = F.pad(self.process.scaled(state, level), margins, mode="replicate")
        answer = torch.empty(*state.shape[:2], *extent, device=state.device)
        for top in range(0, extent[0], inner[0]):
            for left in range(0, extent[1], inner[1]):
                tile = wide[..., top : top + inner[0] + 2 * CONTEXT, left : left + inner[1] + 2 * CONTEXT]
                seen = self.net(channels_last(tile), tile[:, :0], self.process.gamma(level)).float()
                middle = seen[..., CONTEXT:-CONTEXT, CONTEXT:-CONTEXT]
                answer[..., top : top + inner[0], left : left + inner[1]] = middle
        return answer[..., :height, :width]
