"""The generator as a denoiser of two observations: the noisy picture x, and the one that d_t stands for.

d_t at level γ is the same as z = r(x) + σ_d·d_t/√γ = y + σ_z·ε with σ_z = σ_d·√((1 − γ)/γ): the clean picture under
fresh white noise. The camera's x = y + n is another view of the same picture. Of two such views with white noise, the
average weighted by their precisions keeps all there is to know about y, so E[y | x, z] is what a denoiser answers to
that average: the reconstruction's own network, with its own weights, is already nearly the generator that is looked
for. Stage 2 starts from it, and learns where noise is not white and what the last levels need.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from .nafnet import NAFNet, NAFNetSpec, without_attention
from .windows import window_mean

WINDOW = 17  # [px], in which the noise of x is measured


@dataclass(frozen=True)
class FusionSpec(NAFNetSpec):
    """Shape of the denoiser (it sees the fused picture, x, r(x) and the noise left) and scale of the residual."""

    inputs: int = 12
    sigma_d: float = 0.03  # what one unit of d_t is on the [0, 1] scale


def local_variance(noise: Tensor) -> Tensor:
    """Mean square in a window around each pixel, per channel; (N, 3, H, W) -> the same shape."""
    return window_mean(noise.square(), WINDOW // 2)


class FusionNet(nn.Module):
    """(d_t, condition, γ) -> v = √γ ε − √(1 − γ) d̃_0, as the conditional U-Net answers it.

    d_t (N, 3, H, W) in units of σ_d; condition (N, 6, H, W): x and r(x) in [0, 1]; γ (N,) in (0, 1); all float32.
    """

    def __init__(self, spec: FusionSpec) -> None:
        super().__init__()
        self.spec = spec
        self.denoiser = NAFNet(spec)

    @classmethod
    def from_reconstruction(cls, nafnet: NAFNet, sigma_d: float, examples: Tensor) -> FusionNet:
        """The reconstruction's weights; what it did not see before starts with none.

        Without its channel attention, which is fixed at its mean over noisy `examples` (N, 3, H, W): where two tiles
        overlap, each attends by what else it holds, and their fine detail, not quite the same, would average out.
        """
        shape = asdict(nafnet.spec) | {"inputs": FusionSpec.inputs, "attention": False}
        net = cls(FusionSpec(**shape, sigma_d=sigma_d))
        weights = without_attention(nafnet, examples).state_dict()
        wide = torch.zeros_like(net.denoiser.intro.weight)
        wide[:, :3] = weights["intro.weight"]
        net.denoiser.load_state_dict({**weights, "intro.weight": wide})
        return net

    def condition(self, noisy: Tensor, reconstruction: Tensor) -> Tensor:
        """What the network sees beside d_t: x and r(x), (N, 6, H, W)."""
        return torch.cat([noisy, reconstruction], dim=1)

    def forward(self, d_t: Tensor, condition: Tensor, gamma: Tensor) -> Tensor:
        x, r = condition.chunk(2, dim=1)
        signal, noise = (part.sqrt()[:, None, None, None] for part in (gamma.float(), 1 - gamma.float()))
        z = r + self.spec.sigma_d * d_t / signal
        variance_z = (self.spec.sigma_d * noise / signal).square()
        variance_x = local_variance(x - r)
        share = variance_z / (variance_z + variance_x + 1e-9)  # of x in the fused picture
        fused = z + share * (x - z)
        left = (share * variance_x + 1e-9).sqrt()  # standard deviation of the fused picture's noise
        y = self.denoiser(torch.cat([fused, x, r, 8 * left], dim=1))  # the factor brings `left` to the pictures' scale
        d_0 = (y - r) / self.spec.sigma_d
        return (signal * d_t - d_0) / noise
