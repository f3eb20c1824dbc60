"""What the scheduler is measured against: Algorithm 1 as it is printed, and batches that wait for the slowest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ...device import replica
from ...diffusion.operators import Seen
from ...errors import UsageError
from ...inference.canvas import Canvas, clamped
from ...inference.noise import gaussian_field
from ...inference.pipeline import BEGIN, Pipeline
from ...inference.scheduler import TileState
from ...inference.tiling import Grid, fitted
from ...methods.contract import STATE, Request, Step
from ...methods.rng import NAME, RnG, rng_of


class PlainLoop:
    """Algorithm 1 as it is printed: picture by picture, patch by patch, in float32, with the networks as trained."""

    def __init__(self, pipeline: Pipeline) -> None:
        if not isinstance(pipeline.method, RnG):
            raise UsageError(f"the plain loop is {NAME}'s", "leave --method out")
        self.device, self.frame = pipeline.device, pipeline.frame
        self.method = RnG(rng_of(pipeline.bundle, pipeline.name), self.device, torch.float32)
        parts = rng_of(pipeline.bundle, pipeline.name)
        self.method.nafnet = replica(parts.nafnet, self.device)
        self.method.generator = parts.generator and replica(parts.generator, self.device)

    @torch.inference_mode()
    def restore(self, pixels: np.ndarray, request: Request) -> np.ndarray:
        """One picture (H, W, 3)."""
        height, width = pixels.shape[:2]
        self.method.frame = fitted(self.frame, height, width)
        grid = Grid.of(height, width, self.method.frame)
        canvas = Canvas(grid, finished=clamped)
        for i in range(len(grid)):
            patch = torch.from_numpy(grid.crop(pixels, i, self.frame.context)).permute(2, 0, 1)[None]
            canvas.add(i, self._patch(patch.to(self.device), grid.origin(i), request))
        return canvas.finish()

    def _patch(self, x: torch.Tensor, origin: tuple[int, int], request: Request) -> np.ndarray:
        seen = Seen(x, torch.ones_like(x[:, :1]), torch.full((1,), torch.nan, device=self.device))
        frame = self.method.frame
        held, (plan,) = self.method.start(seen, request)
        place = torch.tensor([origin]) - frame.context
        levels = [torch.tensor([level], device=self.device) for level in (*plan, self.method.end)]
        if plan:
            noise = gaussian_field(request.seed, BEGIN, place, frame.wide, device=self.device)
            held[STATE] = self.method.begin(held, levels[0], noise)
            for k in range(len(plan)):
                drawn = gaussian_field(request.seed, k, place, frame.wide, device=self.device)
                held[STATE] = self.method.step(held, Step(levels[k], levels[k + 1], drawn))
        picture, generated = self.method.finish(held) if plan else (held["r"], 0.0)
        picture = picture + request.detail * self.method.unit * generated
        return frame.middle(picture)[0].permute(1, 2, 0).cpu().numpy()


def fixed_batches(pipeline: Pipeline, pictures: Sequence[np.ndarray], request: Request) -> tuple[int, int]:
    """Batches in the order of tiles, each stepped until its slowest is done: rows of steps that tiles needed, and all.

    What is computed is thrown away: only its time is of interest.
    """
    uploaded = [pipeline.upload(pixels) for pixels in pictures]
    waiting = [(TileState(k, i, picture.grid.origin(i)), picture) for k, picture in enumerate(uploaded)
               for i in range(len(picture.grid))]  # fmt: skip
    needed = stepped = 0
    for first in range(0, len(waiting), pipeline.capacity):
        tiles, seen = zip(*waiting[first : first + pipeline.capacity], strict=True)
        batch = [replace(tile, slot=slot) for slot, tile in enumerate(tiles)]
        pipeline.start(batch, seen, request)
        slowest = max(len(tile.plan) for tile in batch)
        needed += sum(len(tile.plan) for tile in batch)
        stepped += slowest * pipeline.capacity
        for k in range(slowest):
            for tile in batch:
                tile.plan = tile.plan or (max(t.plan for t in batch)[0],)
                tile.done = min(k, len(tile.plan) - 1)
            pipeline.step(batch, request.seed)
        pipeline.finish(batch, seen, request.detail).wait()
    return needed, stepped
