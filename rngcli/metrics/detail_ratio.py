"""How much detail is generated beside how much is missing: a generator that has learned too little gives too little."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

BLOCK = 16  # [px], the side of the blocks that are told apart
TEXTURES = ("flat", "medium", "rich")


def spread(d: Tensor, missing: Tensor) -> float:
    """Standard deviation of the generated residual over that of the true one, y − r(x)."""
    return float(d.std() / missing.std())


def spread_by_texture(d: Tensor, missing: Tensor, clean: Tensor) -> dict[str, float]:
    """The same for three equal parts of the pictures' blocks, by the standard deviation of what is in them.

    All (N, 3, H, W), H and W at least BLOCK; what is left of whole blocks at the borders does not count.
    """
    order = _blocks(clean).std(dim=1).argsort()
    parts = order.tensor_split(len(TEXTURES))
    ours, theirs = _blocks(d), _blocks(missing)
    return {name: spread(ours[part], theirs[part]) for name, part in zip(TEXTURES, parts, strict=True)}


def _blocks(pictures: Tensor) -> Tensor:
    """(N, 3, H, W) -> (blocks, 3·BLOCK²)."""
    columns = F.unfold(pictures, BLOCK, stride=BLOCK)
    return columns.transpose(1, 2).reshape(-1, columns.shape[1])
