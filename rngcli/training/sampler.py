"""A bundle's networks on a device, for whole batches of patches: what training validates, labels and searches with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..device import channels_last, find_precision, replica
from ..diffusion.residual import ResidualDiffusion, sample
from ..errors import ModelError
from ..methods.rng import first_noise, rng_of
from ..models.bundle import Bundle


class Sampler:
    """The reconstruction and the generator of a bundle, for patches (N, 3, H, W) that share one plan."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle, self.device = bundle, device
        dtype, parts = find_precision(device), rng_of(bundle)
        self.nafnet = replica(parts.nafnet, device, dtype)
        self.generator = parts.generator and replica(parts.generator, device, dtype)
        self.process = ResidualDiffusion(parts.process)

    @torch.inference_mode()
    def reconstruct(self, noisy: Tensor) -> Tensor:
        """r(x), float32."""
        return self.nafnet(noisy)

    @torch.inference_mode()
    def generate(
        self, noisy: Tensor, r: Tensor, plan: Sequence[float], seed: int, process: ResidualDiffusion | None = None
    ) -> Tensor:
        """The generated residual σ_d·d̃_0, without the gain, by `process` or the bundle's own.

        The noise is the same for every plan and every network. Raises ModelError where there is no generator.
        """
        if self.generator is None:
            raise ModelError("this model has no generator yet", "run `rng train generate` first")
        return residual(process or self.process, self.generator, (noisy, r), plan, seed)


def residual(
    process: ResidualDiffusion,
    generator: Callable[..., Tensor],
    tiles: tuple[Tensor, Tensor],
    plan: Sequence[float],
    seed: int,
) -> Tensor:
    """σ_d·d̃_0 (N, 3, H, W) for `tiles`, the noisy ones and their reconstructions, along the levels γ of `plan`."""
    noisy, r = tiles
    condition = generator.condition(noisy, r)  # type: ignore[attr-defined]
    rng = torch.Generator(noisy.device).manual_seed(seed)

    def predict(d_t: Tensor, gamma: Tensor) -> Tensor:
        return generator(d_t, condition, gamma).float()

    def draw() -> Tensor:
        return channels_last(torch.randn(r.shape, generator=rng, device=r.device))

    def first(fresh: Tensor) -> Tensor:
        return first_noise(process.spec, fresh, noisy, r)

    return process.spec.sigma_d * sample(process, predict, plan, draw, first)
