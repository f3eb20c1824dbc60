"""Stage 2: the generator, on the residuals that the frozen reconstruction leaves (paper §3.3, eqs. 2 and 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ...data.crops import Batches
from ...device import channels_last, find_precision, placed, replica
from ...diffusion.residual import ProcessSpec, ResidualDiffusion, measure_sigma_d
from ...diffusion.schedule import Budget, ScheduleSpec
from ...methods.rng import first_noise
from ...metrics.detail_ratio import flat_excess, misplacement, spread, spread_by_texture
from ...metrics.fidelity import psnr
from ...nets.fusion import FusionNet
from ...nets.nafnet import NAFNet
from ...nets.unet import UNet, UNetSpec
from ..perceptual import PERCEPTUAL_UP_TO, Perceptual
from ..sampler import residual


def sigma_d_of(reconstruct: Callable[[Tensor], Tensor], batches: Batches) -> float:
    """σ_d of the residuals that `reconstruct` leaves, over 32 batches as training draws them."""
    rng = torch.Generator(batches.device).manual_seed(1)
    pairs = (batches.draw(rng) for _ in range(32))
    return measure_sigma_d(torch.cat([clean - reconstruct(noisy) for clean, noisy in pairs]))


# v's squared error is d̃_0's times 1/(1 − γ), without bound where there is hardly any noise left; this bounds it (the
# idea of min-SNR weights, Hang et al. 2023).
MOST_WEIGHT = 10.0
# The share of crops that LPIPS is learned on as a budget begins, where d_t is noise alone, without the residual. There
# the level says nothing about the residual; so it says how much LPIPS counts beside the error: more, the noisier.
BEGINNINGS = 0.75
# The share of crops that go on from the network's own answer, as the second and later evaluations of a budget do: what
# they learn is what that answer still lacks. Without it, further evaluations change little (they were trained on states
# that hold the true residual, which sampling never meets). So many rounds of it: a quarter of the crops has gone two
# steps, a half one.
AGAIN, ROUNDS = 0.5, 2
# LPIPS counts so many times as much after such a step. Without it, later evaluations give back what the first has won:
# the PSNR it has cost, and with that its looks.
LOOKS_LATER = 3.0
# What counts beside LPIPS is that detail lies where it is missing: LPIPS pays for any grain, and puts it into sky too.
PLACED = 20.0
# And that flat places get no more of it than the truth has: where detail lies says nothing of how much there is.
NOT_EXCEEDED = 20.0
LATER = (0.2, 1.0)  # the levels they go on at: σ in shares of that of the first
MANY_STEPS = ("25_8bit", "50_8bit")  # held-out noise that is scored with four evaluations as well …
LAST = 0.2  # … down to this σ
# Beside LPIPS, the squared error counts as a share of what is missing, so that detail costs as many decibels at strong
# noise as at weak; where less than this is missing [σ_d²], as a share of this.
LEAST_MISSING = 0.1


# The levels that are learned, and the fullest budget until stage 3 knows better. From σ = 0.03: below, nothing is left
# to learn. To 2.6: above, a residual of unit variance is drowned. LPIPS is learned where budgets begin.
ERROR_ALONE = (ScheduleSpec(quietest=20, noisiest=900, crowding=2.0), Budget(1.5, 6))
WITH_PERCEPTUAL = (ScheduleSpec(quietest=20, noisiest=500), Budget(PERCEPTUAL_UP_TO, 1))


class Generate:
    """Stage 2: the generator on the residuals that the frozen reconstruction leaves (paper eqs. 2 and 5).

    With `prediction="eps"` the loss has the paper's p = 1; with "v", p = 2: the absolute error's optimum is the
    conditional median, which shrinks a heavy-tailed residual towards zero, and detail is what would be lost.
    `origin`: what the generator is made from: a trained one, whose weights it starts from; the spec of a UNet; or None
    for a FusionNet that starts from the reconstruction's weights.
    """

    def __init__(
        self,
        origin: UNet | FusionNet | UNetSpec | None,
        process: ProcessSpec,
        nafnet: NAFNet,
        batches: Batches,
        perceptual: Perceptual | None = None,
    ) -> None:
        self.batches, self.perceptual = batches, perceptual
        self.dtype = find_precision(batches.device)
        self.nafnet = replica(nafnet, batches.device, self.dtype)
        self.process = ResidualDiffusion(replace(process, sigma_d=sigma_d_of(self._reconstruct, batches)))
        self.net: nn.Module = placed(self._generator(origin, nafnet), batches.device)

    def _generator(self, origin: UNet | FusionNet | UNetSpec | None, nafnet: NAFNet) -> UNet | FusionNet:
        sigma_d = self.process.spec.sigma_d  # this stage's own, whatever a trained generator had
        if origin is None:
            _, examples = self.batches.draw(torch.Generator(self.batches.device).manual_seed(1))
            return FusionNet.from_reconstruction(nafnet, sigma_d, examples.to(nafnet.ending.weight.device))
        if isinstance(origin, UNetSpec):
            return UNet(origin)
        if isinstance(origin, UNet):
            net: UNet | FusionNet = UNet(origin.spec)
        else:
            net = FusionNet(replace(origin.spec, sigma_d=sigma_d))
        net.load_state_dict(origin.state_dict())
        return net

    @torch.inference_mode()
    def _reconstruct(self, noisy: Tensor) -> Tensor:
        return self.nafnet(noisy)

    def loss(self, forward: Callable[..., Any], rng: torch.Generator) -> Tensor:
        clean, noisy = self.batches.draw(rng)
        r = self._reconstruct(noisy).clone()  # a normal tensor again, so that autograd may save it
        d0 = (clean - r) / self.process.spec.sigma_d
        gamma = self.process.spec.schedule.draw(len(d0), rng)
        noise = channels_last(torch.randn(d0.shape, generator=rng, device=d0.device))
        condition = self.net.condition(noisy, r)  # type: ignore[operator]
        d_t = self.process.corrupt(d0, gamma, noise)
        if self.perceptual:
            begun = self.process.begin(gamma, first_noise(self.process.spec, noise, noisy, r))
            return self._perceptual_loss(forward, (clean, r, condition), (d_t, begun, gamma), rng)
        answer = forward(d_t, condition, gamma).float()
        if self.process.spec.prediction == "eps":
            return (answer - noise).abs().mean()
        d_hat, _ = self.process.estimate(d_t, answer, gamma)
        error = (d_hat - d0).square().mean(dim=(1, 2, 3))
        return ((1 / (1 - gamma)).clamp(max=MOST_WEIGHT) * error).mean()

    def _perceptual_loss(
        self,
        forward: Callable[..., Any],
        tiles: tuple[Tensor, Tensor, Tensor],
        state: tuple[Tensor, Tensor, Tensor],
        rng: torch.Generator,
    ) -> Tensor:
        """Of d̂_0 on `tiles` (y, r(x), condition): its squared error, as a share of what is missing, and how what
        it restores looks. `state`: d_t, what a walk begins with instead, γ.
        """
        assert self.perceptual
        (clean, r, condition), (d_t, begun, gamma) = tiles, state
        begins = torch.rand(len(d_t), generator=rng, device=rng.device) < BEGINNINGS
        d_t = torch.where(begins[:, None, None, None], begun, d_t)
        weight = torch.where(begins, MOST_WEIGHT, (1 / (1 - gamma)).clamp(max=MOST_WEIGHT))
        perceptual = torch.where(begins, 1 - gamma, 1.0)  # by where a budget begins, however far it has come
        begun_at = gamma
        for _ in range(ROUNDS):
            d_t, gamma = self._again(forward, condition, d_t, gamma, rng)
        perceptual = torch.where(gamma != begun_at, LOOKS_LATER * perceptual, perceptual)
        d_0 = (clean - r) / self.process.spec.sigma_d
        d_hat, _ = self.process.estimate(d_t, forward(d_t, condition, gamma).float(), gamma)
        missing = d_0.square().mean(dim=(1, 2, 3)).clamp(min=LEAST_MISSING)
        error = (d_hat - d_0).square().mean(dim=(1, 2, 3)) / missing
        restored = r + self.process.spec.sigma_d * d_hat
        looks = self.perceptual(restored, r, clean, rng)
        looks = looks + PLACED * misplacement(restored - r, clean - r) + NOT_EXCEEDED * flat_excess(restored, clean)
        return (weight * (error + perceptual * looks)).mean()

    @torch.no_grad()
    def _again(
        self, forward: Callable[..., Any], condition: Tensor, d_t: Tensor, gamma: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """(d_t, γ), a share of them a step further, by what the network answers by now."""
        which = torch.randperm(len(d_t), generator=rng, device=rng.device)[: round(AGAIN * len(d_t))]
        low, high = LATER
        share = low * (high / low) ** torch.rand(len(which), generator=rng, device=rng.device)
        before = gamma[which]
        after = 1 / (1 + (1 / before - 1) * share.square())  # σ times `share`
        answer = forward(channels_last(d_t[which]), channels_last(condition[which]), before).float()
        further = self.process.step(d_t[which], answer, before, after, torch.zeros_like(answer))
        return channels_last(d_t.index_copy(0, which, further)), gamma.index_copy(0, which, after)

    @torch.no_grad()
    def validate(self, net: nn.Module) -> dict[str, float]:
        """After 6 evaluations from σ = 1.5, or one where LPIPS is learned: the change in PSNR [dB], the generated
        residual's spread over the true one's, also by texture; LPIPS over the reconstruction's, of some after
        4 evaluations too.
        """
        scores, seen = {}, []
        for name, (clean, noisy) in self.batches.examples(16).items():
            r = self._reconstruct(noisy).clone()
            d = self._sample(net, noisy, r)
            missing = clean - r
            before, after = (psnr(p.clamp(0, 1), clean, data_range=1.0).mean() for p in (r, r + d))
            scores[f"dpsnr_{name}"] = float(after - before)
            scores[f"spread_{name}"] = spread(d, missing)
            seen.append((d, missing, clean))
            if self.perceptual:
                distance = self.perceptual.lpips
                scores[f"lpips_{name}"] = float(distance(r + d, clean).mean() / distance(r, clean).mean())
                if name in MANY_STEPS:
                    d = self._sample(net, noisy, r, 4)
                    scores[f"lpips_{name}_4"] = float(distance(r + d, clean).mean() / distance(r, clean).mean())
                    scores[f"dpsnr_{name}_4"] = float(psnr((r + d).clamp(0, 1), clean, data_range=1.0).mean() - before)
        by_texture = spread_by_texture(*(torch.cat(side) for side in zip(*seen, strict=True)))
        return scores | {f"spread_{texture}": value for texture, value in by_texture.items()}

    @torch.no_grad()
    def samples(self, net: nn.Module) -> Tensor:
        """x, r(x), r(x) with the generated residual, and y beside one another."""
        rows = []
        for y, x in self.batches.examples(2).values():
            r = self._reconstruct(x).clone()
            d = self._sample(net, x, r)
            rows.append(torch.stack([x, r, r + d, y], dim=1))
        return torch.cat(rows)

    def _sample(self, net: nn.Module, noisy: Tensor, r: Tensor, evaluations: int = 0) -> Tensor:
        """What the generator adds to r(x), (N, 3, H, W), from the fullest budget's start; as many evaluations as that
        has, if not told.
        """
        _, fullest = WITH_PERCEPTUAL if self.perceptual else ERROR_ALONE
        evaluations = evaluations or fullest.evaluations
        plan = replace(fullest, evaluations=evaluations).plan(
            LAST if evaluations > 1 else self.process.spec.last, evaluations
        )
        return residual(self.process, net, (noisy, r), plan, seed=2)
