"""From the host to a device and back without waiting: page-locked memory, and one wait for all that is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def sent(values: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """The values on the device; the host does not wait for a CUDA device to have taken them."""
    tensor = torch.as_tensor(values)
    if device.type == "cuda" and tensor.device.type == "cpu":
        # torch keeps page-locked memory from being used again before the copy that was asked for has happened.
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class Fetch:
    """Tensors on their way from a device to the host: all are asked for at once, and waited for once."""

    def __init__(self, tensors: Sequence[Tensor], device: torch.device) -> None:
        self._event: torch.cuda.Event | None = None
        if device.type != "cuda" or not tensors:
            self._values = [tensor.cpu() for tensor in tensors]
            return
        self._values = [torch.empty_like(tensor, device="cpu", pin_memory=True) for tensor in tensors]
        for value, tensor in zip(self._values, tensors, strict=True):
            value.copy_(tensor, non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record(torch.cuda.current_stream(device))

    def wait(self) -> list[Tensor]:
        """The tensors on the host."""
        if self._event is not None:
            self._event.synchronize()
        return self._values
