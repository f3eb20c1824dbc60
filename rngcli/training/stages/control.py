"""Stage 3: the budgets, and the controller that learns which of them each patch should have (paper §3.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...data.crops import Batches
from ...data.image_cache import Track, untracked
from ...device import channels_last, placed
from ...diffusion.schedule import Budget
from ...errors import UsageError
from ...methods.rng import StepController, rng_of, with_rng
from ...models.bundle import Bundle
from ...nets.bands import BandController, BandSpec
from ...nets.controller import Controller, ControllerSpec
from ..labels import CLASSES, Labels, patches
from ..sampler import Sampler
from ..schedule_search import Trial, with_trial

VIEW = 0.75  # of a patch's side is what the controller sees at a time in training
PRICE = 0.03  # of a decibel, in shares of the reconstruction's LPIPS: what hardly helps is not worth its PSNR
LOGITS = 10.0  # what the logit of a budget rises by that takes away all of the LPIPS
HELD_OUT = 0.2  # of the labelled patches: a controller and one budget for all differ by a few thousandths


def ladder(start: float, evaluations: int, last: float, lowest: float = 0.12) -> tuple[Budget, ...]:
    """CLASSES budgets from nothing to (start, evaluations): starts evenly spaced in log σ, one density of steps.

    The starting level limits how much detail there can be, since a tile that starts at σ has the spread of σ
    instead of √(1 + σ²); so the ladder is one of detail, and the cheap rungs are cheap as well.
    """
    rungs = CLASSES - 1
    starts = [start * (lowest / start) ** (1 - (k + 1) / rungs) for k in range(rungs)]
    density = (evaluations - 1) / max(torch.tensor(start / last).log().item(), 1e-6)
    steps = [1 + max(0, round(density * torch.tensor(s / last).log().item())) for s in starts]
    return (Budget(starts[0], 0), *(Budget(round(s, 4), n) for s, n in zip(starts, steps, strict=True)))


def as_found(bundle: Bundle, best: Trial) -> Bundle:
    """The bundle with the process and the budgets that a search's trial asks for."""
    budgets = ladder(best.setting.start, best.setting.evaluations, best.setting.last)
    return with_rng(bundle, process=with_trial(rng_of(bundle).process, best), budgets=budgets)


def controller_that_sees(what: str) -> StepController:
    """A controller with random weights that goes by "bands", or the paper's, on the "parts" or on the "noisy" tile."""
    if what not in ("bands", "parts", "noisy"):
        raise UsageError(f"unknown controller {what!r}", "use bands, parts or noisy")
    return BandController(BandSpec()) if what == "bands" else Controller(ControllerSpec(condition=what))


class Control:
    """Stage 3: the controller learns to choose each patch's budget (paper §3.2).

    Its logits learn what each budget saves against none, so that the highest is the best buy. The paper's cross-entropy
    with the best budget as the label asks for the winner, however close the others are; here a narrow miss is a small
    one.
    """

    def __init__(
        self, net: StepController, labels: Labels, batches: Batches, sampler: Sampler, track: Track = untracked
    ) -> None:
        self.labels, self.size = labels, batches.size
        self.net: nn.Module = placed(net, batches.device)
        # In shares of what the reconstruction leaves on the whole: where a patch is nearly clean, the price decides.
        distance = labels.lpips / labels.lpips[:, 0].mean()
        self.costs = (distance + PRICE * (labels.psnr[:, :1] - labels.psnr)).to(batches.device)
        numbers = track(range(len(labels)), "looking at them as the controller does", len(labels), "patches")
        noisy = (patches([i], batches)[1] for i in numbers)
        self.seen = torch.cat([net.condition(x, sampler.reconstruct(x)).half() for x in noisy])
        self.held_out = max(1, round(HELD_OUT * len(labels)))

    def loss(self, forward: Callable[..., Any], rng: torch.Generator) -> Tensor:
        n = len(self.seen) - self.held_out
        which = torch.randint(n, (self.size,), generator=rng, device=rng.device)
        logits = forward(channels_last(self._view(self.seen[which].float(), rng))).float()
        saved = LOGITS * (self.costs[which, :1] - self.costs[which])
        return (logits - logits[:, :1] - saved).square().mean()

    def _view(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """The whole batch in one of its 8 symmetries, and most of it: labels are few, and tell of what is typical."""
        side = round(VIEW * x.shape[-1])
        top, left = torch.randint(x.shape[-1] - side + 1, (2,), generator=rng, device=rng.device).tolist()
        turn, flip = torch.randint(4, (2,), generator=rng, device=rng.device).tolist()
        x = torch.rot90(x[..., top : top + side, left : left + side], turn, (2, 3))
        return x.flip(3) if flip % 2 else x

    @torch.no_grad()
    def validate(self, net: nn.Module) -> dict[str, float]:
        """On held-out patches: LPIPS and PSNR by the controller's choice, the best single budget, the oracle."""
        seen = channels_last(self.seen[-self.held_out :].float())
        choice = torch.cat([net(part).argmax(1) for part in seen.split(16)]).cpu()
        lpips, fidelity = self.labels.lpips[-self.held_out :], self.labels.psnr[-self.held_out :]
        rows = torch.arange(len(lpips))
        single = int(lpips.mean(0).argmin())
        return {
            "lpips": float(lpips[rows, choice].mean()),
            "lpips_single": float(lpips[:, single].mean()),
            "lpips_oracle": float(lpips.min(1).values.mean()),
            "lpips_none": float(lpips[:, 0].mean()),
            "psnr": float(fidelity[rows, choice].mean()),
            "psnr_single": float(fidelity[:, single].mean()),
            "mean_class": float(choice.float().mean()),
        }
