"""A method on a device: slots for its tiles, full batches, number format, keyed noise; knows no method by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..device import (
    exact_float32,
    find_device,
    find_precision,
    is_out_of_memory,
    keep_freed_memory,
    placed_bytes,
    tensors_kept,
    usual_capacity,
)
from ..diffusion.operators import Identity, Operator, Seen
from ..errors import EnvironmentFault
from ..methods import open_method
from ..methods.contract import STATE, Frame, Method, Request, Step
from ..models.bundle import Bundle
from ..nets.recorded import Recorded
from .banding import Banding
from .blending import Blending, Finished
from .canvas import Canvas, clamped
from .job import Rows
from .noise import gaussian_field
from .number_format import stays_finite
from .scheduler import TileState
from .slots import Slots, zeros
from .tiling import Grid, fitted, with_few_shapes
from .transfer import Fetch, sent
from .uploaded import Uploaded, cut

BEGIN = 2**32 - 1  # the step number of the starting noise; the steps themselves count from 0
KEPT = 4  # sizes of tiles whose slots are kept: pictures lie and stand, and two at a time may be in work


class Pipeline:
    """A method's networks on a device, and slots for its tiles, allocated once: memory does not depend on pictures.

    Every call of the method has the shape of `capacity` tiles, padded where there are fewer: a tile's result is then
    the same bit for bit whoever its neighbours are. No call waits for the device, but for the plans of started tiles.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str = "auto",
        precision: str = "auto",
        capacity: int | None = None,
        method: str | None = None,
        operator: Operator | None = None,
    ) -> None:
        """method: its name in the bundle, by default the first; operator: what but noise happened to the pictures."""
        self.bundle, self.precision = bundle, precision
        self.device = find_device(device)
        self.dtype = find_precision(self.device, precision)
        keep_freed_memory()
        self.name = method or next(iter(bundle.methods), "")
        self.operator = operator or Identity()
        self.method: Method = self._opened()
        if precision == "auto" and self.dtype == torch.float16 and not stays_finite(self.method, self.device):
            self.dtype = torch.bfloat16
            self.method = self._opened()
        self.frame = self.method.frame = self._framed_for_batches(self.method.frame)
        self.blending = Blending(self.frame, self.device)
        self.on_device = placed_bytes(self.device)  # the largest picture that is placed on the device [B]
        self._size(capacity or usual_capacity(self.device))

    def _framed_for_batches(self, frame: Frame) -> Frame:
        """On a GPU, whose batches are full where pictures share them, with few shapes of tiles."""
        return frame if self.device.type == "cpu" else with_few_shapes(frame)

    def _opened(self) -> Method:
        try:
            return open_method(self.bundle, self.name, self.device, self.dtype, self.operator)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            cause, remedy = f"the model does not fit into the memory of {self.device}", "close other programs"
            raise EnvironmentFault(cause, remedy) from error

    def _size(self, capacity: int) -> None:
        self.capacity = capacity
        # Started tiles wait in slots for their turn, so that starts and steps are full batches alike.
        self.slot_count = 1 if capacity == 1 else 2 * capacity
        self.release()

    def resized(self, capacity: int) -> Pipeline:
        """The same networks with slots for another number of tiles; this one's slots are let go first."""
        self.release()
        other = copy(self)
        other._size(capacity)
        return other

    def fitting(self, height: int, width: int) -> Pipeline:
        """The same networks with slots for tiles that fit a picture of that size; a few are kept for more of such."""
        return self._in(fitted(self.frame, height, width))

    def _in(self, frame: Frame) -> Pipeline:
        if frame == self.frame:
            return self
        other = self._framed.pop(frame, None)
        if other is None:
            other = copy(self)
            other.method = copy(self.method)
            other.method.frame = other.frame = frame
            other.blending = Blending(frame, self.device)
            other._size(self.capacity)
        self._framed[frame] = other  # the last one asked for is the last one in order
        if len(self._framed) > KEPT:
            del self._framed[next(iter(self._framed))]
        return other

    def halved(self) -> Pipeline:
        """The same networks with half the capacity."""
        return self.resized(max(1, self.capacity // 2))

    @property
    def can_shrink(self) -> bool:
        """Whether there is a way to need less of the device's memory."""
        return self.capacity > 1 or (self.device.type != "cpu" and self.on_device != 0)

    def shrunk(self) -> Pipeline:
        """In need of less memory: half the capacity, and where that is 1 already, no picture on the device."""
        smaller = self.halved()
        if self.capacity == 1:
            smaller.on_device = 0
        return smaller

    def with_method(self, name: str) -> Pipeline:
        """Another method of the same bundle, on the same device."""
        return Pipeline(self.bundle, str(self.device), self.precision, self.capacity, name, self.operator)

    def release(self) -> None:
        """Let the slots go; they are there again when the next tile starts."""
        self._slots: Slots | None = None
        self._stepped: Recorded | None = None
        self._spare: Pipeline | None = None
        self._framed: dict[Frame, Pipeline] = {}
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def slots(self) -> Slots:
        """What is held of the tiles in flight."""
        if self._slots is None:
            self._slots = Slots(self.method.holds, self.slot_count, self.capacity, self.device)
            self._stepped = Recorded(self._evaluate, self.device)
        return self._slots

    def require(self, request: Request) -> None:
        """UsageError where the method has no such option, ModelError where the bundle lacks what it needs for it."""
        request.refuse_beyond(self.method.understands, self.name)
        self.method.require(request)

    # --- pictures ----------------------------------------------------------------------------------------------

    def upload(
        self,
        pixels: np.ndarray,
        valid: np.ndarray | None = None,
        sigma: float = float("nan"),
        banding: Banding | None = None,
    ) -> Uploaded:
        """A picture (H, W, 3), on the device unless it is too large for it."""
        return Uploaded.of(pixels, valid, sigma, self.frame, self._home(pixels.shape), banding)

    def canvas(self, picture: Uploaded, rows: Rows | None = None) -> Canvas:
        """What the picture's tiles will be blended into, its values in [0, 1]; `rows` takes them where it is given."""
        grid = picture.grid.magnified(self.frame.scale)
        return Canvas(grid, device=picture.pixels.device, finished=clamped, rows=rows)

    def _home(self, shape: tuple[int, ...]) -> torch.device:
        small = self.on_device is None or 4 * shape[0] * shape[1] * 3 * self.frame.scale**2 <= self.on_device
        return self.device if small else torch.device("cpu")

    # --- prefill -----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def start(self, tiles: Sequence[TileState], pictures: Sequence[Uploaded | None], request: Request) -> None:
        """Start at most `capacity` tiles that have just got their slots, and set each one's plan.

        A tile whose picture is None has failed already, and starts on black.
        """
        with exact_float32(self.device), tensors_kept():
            held, plans = self.method.start(self._seen(tiles, pictures), request)
            self.slots.write(held, self.slots.of(tiles)[1])
            for tile, plan in zip(tiles, plans, strict=False):
                tile.plan = plan
            self._begin([tile for tile in tiles if tile.plan], request.seed)

    def _seen(self, tiles: Sequence[TileState], pictures: Sequence[Uploaded | None]) -> Seen:
        wide = self.frame.wide
        pixels, valid = (zeros((self.capacity, channels, *wide), self.device) for channels in (3, 1))
        cut(tiles, pictures, self.frame.context, (pixels, valid))
        sigmas = [picture.sigma if picture else math.nan for picture in pictures]
        return Seen(pixels, valid, self._sent(sigmas, np.float32))

    def _begin(self, tiles: Sequence[TileState], seed: int) -> None:
        if tiles:
            read, write = self.slots.of(tiles)
            origins = self._sent([tile.origin for tile in tiles], np.int64)
            levels = self._sent([tile.plan[0] for tile in tiles], np.float32)
            held = self.slots.read(read)
            drawn = self.method.draws_first_noise
            noise = self._noise(origins, BEGIN, seed) if drawn else torch.zeros_like(held[STATE])
            self.slots.write({STATE: self.method.begin(held, levels, noise)}, write)

    # --- decode ------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def step(self, tiles: Sequence[TileState], seed: int) -> None:
        """One evaluation of the network for at most `capacity` tiles, each at its own level."""
        numbers = self._sent([(tile.slot, *tile.origin, tile.done) for tile in tiles], np.int64)
        now = self._sent([tile.plan[tile.done] for tile in tiles], np.float32)
        after = self._sent([(*tile.plan, self.method.end)[tile.done + 1] for tile in tiles], np.float32)
        _, write = self.slots.of(tiles)
        assert self._stepped
        with exact_float32(self.device), tensors_kept():
            self._stepped(numbers, write, now, after, seed=seed)

    def _evaluate(self, numbers: Tensor, write: Tensor, now: Tensor, after: Tensor, seed: int) -> None:
        """Tensors in, the slots changed, and nothing of the host in between."""
        held = self.slots.read(numbers[:, 0])
        noise = torch.zeros_like(held[STATE])
        if self.method.stochastic:
            noise = self._noise(numbers[:, 1:3], numbers[:, 3], seed)
        self.slots.write({STATE: self.method.step(held, Step(now, after, noise))}, write)

    # --- finish ------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def finish(
        self, tiles: Sequence[TileState], pictures: Sequence[Uploaded], detail: float, also: Sequence[Tensor] = ()
    ) -> Finished:
        """At most `capacity` tiles whose plans are done, weighted for blending; `also` is fetched with what is told.

        Where a tile will blend with others, what is generated is emphasised by what their disagreement costs.
        """
        with exact_float32(self.device):
            base, generated = map(self.frame.middle, self.method.finish(self.slots.read(self.slots.of(tiles)[0])))
        planned = self._sent([[bool(tile.plan)] for tile in tiles], np.int64)[:, :, None, None].bool()
        grids = [picture.grid for picture in pictures]
        kinds = self._sent([_kinds(grid, tile.index) for grid, tile in zip(grids, tiles, strict=True)], np.int64)
        texture = self.blending.emphasis(kinds) * (detail * self.method.unit) * generated
        shown = (base + texture.where(planned, 0.0)).permute(0, 2, 3, 1)
        shares, colours = self.blending.weighted(shown, kinds)
        to_host = any(picture.pixels.device != shares.device for picture in pictures)
        asked = [colours, *([shares] if to_host else []), *also]
        return Finished(tiles, shares, Fetch(asked, self.device), to_host)

    def start_of(self, tile: TileState) -> float:
        """How far in the noise a tile starts, as a share of the fullest start, in [0, 1]."""
        return self.method.start_share(tile.plan[0]) if tile.plan else 0.0

    # --- once more, exactly ------------------------------------------------------------------------------------

    def again(self, tile: TileState, picture: Uploaded, request: Request) -> tuple[TileState, Finished] | None:
        """A tile that came out as no colours, once more in float32; None where it was computed so already."""
        if self.dtype == torch.float32:
            return None
        if self._spare is None:
            device = str(self.device)
            self._spare = Pipeline(self.bundle, device, "fp32", 1, self.name, self.operator)._in(self.frame)
        afresh = replace(tile, slot=0, plan=(), done=0)
        self._spare.start([afresh], [picture], request)
        while not afresh.finished:
            self._spare.step([afresh], request.seed)
            afresh.done += 1
        return afresh, self._spare.finish([afresh], [picture], request.detail)

    # --- batches -----------------------------------------------------------------------------------------------

    def _noise(self, origins: Tensor, step: int | Tensor, seed: int) -> Tensor:
        """Of the state's shape, by the places of its pixels in the output; origins (N, 2) of tiles without context."""
        channels, height, width = self.method.holds[STATE]
        first = (origins - self.frame.context) * self.frame.scale
        return gaussian_field(seed, step, first, (height, width), channels, self.device)

    def _sent(self, values: Sequence[object], kind: type[np.generic]) -> Tensor:
        """(capacity, …) on the device, padded by the first."""
        return sent(np.array([*values, *[values[0]] * (self.capacity - len(values))], kind), self.device)


def _kinds(grid: Grid, index: int) -> tuple[int, int]:
    row, col = divmod(index, grid.cols)
    return grid.y.kind(row), grid.x.kind(col)
