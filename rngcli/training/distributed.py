"""Training in several processes as `torchrun` starts them: which of them this is, and what they share.

DistributedDataParallel averages the gradients. What it has no word for stands here: rank 0 decides and writes, the
others hear of it; labels are gathered; and of several ranks that fail, the first one says why.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import EnvironmentFault, UsageError

T = TypeVar("T")

# A rank waits for rank 0 as long as that validates, labels or compiles; torchrun ends those that wait for a dead one.
_PATIENCE = timedelta(days=1)


class Ranks:
    """One process alone: the first of one, for which all sharing is nothing."""

    rank, size = 0, 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that decides, writes and tells."""
        return self.rank == 0

    def device_name(self, name: str) -> str:
        """What `--device NAME` means for this rank; it must be called, once, before anything is shared."""
        return name

    def parallel(self, net: nn.Module) -> nn.Module:
        """`net` with rank 0's weights; after a backward pass its gradients are the means over the ranks."""
        return net

    def alone(self, net: nn.Module) -> AbstractContextManager[None]:
        """Within, gradients of what `parallel` returned stay with their rank, to be added to those of its next pass."""
        return nullcontext()

    def together(self) -> AbstractContextManager[None]:
        """Within, what comes of another rank's end is said as such, by EnvironmentFault."""
        return nullcontext()

    def mean(self, number: float) -> float:
        """The mean over the ranks, on every rank."""
        return number

    def copy_rank0(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by rank 0's."""

    def all_gather(self, rows: Tensor) -> Tensor:
        """The ranks' rows, as many of each, one below the other in the order of the ranks; on every rank."""
        return rows

    def broadcast(self, *numbers: float) -> tuple[float, ...]:
        """Rank 0's numbers, on every rank."""
        return numbers

    def on_rank0(self, make: Callable[[], T]) -> T:
        """What rank 0 makes, on every rank; the others wait for it."""
        return make()

    def speaks(self) -> bool:
        """Whether this failing rank is the first to fail: what the others then meet is its consequence."""
        return True

    def leave(self) -> None:
        """To be called by all once nothing more is shared."""


class Joined(Ranks):
    """One of several processes."""

    def __init__(self) -> None:
        try:
            self.store, self.rank, self.size = next(distributed.rendezvous("env://"))
        except (ValueError, RuntimeError) as error:
            cause = f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but the processes do not meet ({error})"
            raise EnvironmentFault(cause, "start them by torchrun") from error
        self.local = int(os.environ.get("LOCAL_RANK", self.rank))
        self.device = torch.device("cpu")

    def device_name(self, name: str) -> str:
        if name not in ("auto", "cpu", "cuda"):
            raise UsageError(f"--device {name} is one device for {self.size} processes", "leave it out, or say cpu")
        on_gpu = name == "cuda" or (name == "auto" and torch.cuda.is_available())
        if on_gpu:
            if self.local >= torch.cuda.device_count():
                cause = f"process {self.local} has no GPU: there are {torch.cuda.device_count()}"
                raise EnvironmentFault(cause, "give torchrun fewer processes, or --device cpu")
            self.device = torch.device("cuda", self.local)
            torch.cuda.set_device(self.device)
        distributed.init_process_group(
            "nccl" if on_gpu else "gloo", store=self.store, rank=self.rank, world_size=self.size, timeout=_PATIENCE
        )
        return str(self.device)

    def parallel(self, net: nn.Module) -> nn.Module:
        # A 1×1 convolution of one output has two layouts that mean the same; DDP remarks on it, and nothing is slower.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        with self.together():
            return DistributedDataParallel(net)

    def alone(self, net: nn.Module) -> AbstractContextManager[None]:
        assert isinstance(net, DistributedDataParallel)
        return net.no_sync()

    @contextmanager
    def together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if not _is_of_connections(error):
                raise
            remedy = "its own message says why; the same command goes on from the last state"
            raise EnvironmentFault("another process of this run has ended", remedy) from error

    def mean(self, number: float) -> float:
        total = torch.tensor([number], dtype=torch.float64, device=self.device)
        with self.together():
            distributed.all_reduce(total)
        return total.item() / self.size

    @torch.no_grad()
    def copy_rank0(self, tensors: Sequence[Tensor]) -> None:
        flat = torch.cat([tensor.flatten() for tensor in tensors])  # one message, whatever the layouts
        with self.together():
            distributed.broadcast(flat, 0)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def all_gather(self, rows: Tensor) -> Tensor:
        rows = rows.contiguous().to(self.device)
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        with self.together():
            distributed.all_gather(parts, rows)
        return torch.cat(parts)

    def broadcast(self, *numbers: float) -> tuple[float, ...]:
        message = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        with self.together():
            distributed.broadcast(message, 0)
        return tuple(message.tolist())

    def on_rank0(self, make: Callable[[], T]) -> T:
        made = [make() if self.first else None]
        with self.together():
            distributed.broadcast_object_list(made, 0, device=self.device)
        return made[0]  # type: ignore[return-value]

    def speaks(self) -> bool:
        try:
            return self.store.add("failed", 1) == 1
        except RuntimeError:  # the store is gone, and with it whoever kept it
            return False

    def leave(self) -> None:
        # Together: a process that tears its connections down while another still writes may be aborted by its runtime.
        with self.together():
            distributed.barrier()
        distributed.destroy_process_group()


def find_ranks() -> Ranks:
    """This process among those that torchrun has started, by the environment that it sets."""
    return Joined() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Ranks()


def _is_of_connections(error: RuntimeError) -> bool:
    """Whether another process is to blame: NCCL's errors have a class of their own, Gloo's only their words."""
    words = str(error).lower()
    return isinstance(error, distributed.DistError) or "gloo" in words or "connection" in words
