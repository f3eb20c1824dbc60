"""A cluster of machines by Ray: how it is reached, how many workers it has room for, and what one of them needs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import EnvironmentFault


@dataclass(frozen=True)
class Cluster:
    """Where the actors run: `address` as Ray knows it, or "local" for processes of this machine.

    `workers` None: one for each GPU, or, where there is none, for each CPU.
    """

    address: str
    workers: int | None = None

    def connect(self) -> None:
        """Begin to use it, once. EnvironmentFault where Ray is not installed, or answers to no such address."""
        ray = ray_module()
        if ray.is_initialized():
            return
        here: dict[str, Any] = {"include_dashboard": False} if self.address == "local" else {}
        if self.address == "local" and self.workers:
            here["num_cpus"] = self.workers
        before = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=self.address, log_to_driver=False, logging_level="ERROR", **here)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            cause = f"no Ray cluster answers at {self.address} ({next(iter(str(error).splitlines()), '')})"
            raise EnvironmentFault(cause, "start one, as docs/SCALING.md says, or use --ray local") from None
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)  # which ends a run in order; Ray's ends it at once

    def on_a_worker(self, function: Callable[..., str], *arguments: object) -> str:
        """What a function returns there: this machine may have other devices than the workers, or none."""
        self.connect()
        remote = ray_module().remote(function).options(**self._needs())
        return str(ray_module().get(remote.remote(*arguments)))

    def size(self, most: int) -> int:
        """How many workers there are for so many pictures."""
        resources = ray_module().cluster_resources()
        size = self.workers or int(resources.get("GPU", 0)) or int(resources.get("CPU", 1))
        return max(1, min(size, most))

    def actor(self, kind: type) -> Any:
        """Workers of a class. One that dies is replaced by who runs them, and what it was at given out by the queue.

        Not by Ray, which would tell of outcomes twice, and fails calls while it restarts an actor as if that had died.
        """
        options = {"max_restarts": 0, "max_task_retries": 0, "max_concurrency": 2, **self._needs()}
        return ray_module().remote(kind).options(**options)

    def _needs(self) -> dict[str, float]:
        gpus = ray_module().cluster_resources().get("GPU", 0)
        return {"num_gpus": 1, "num_cpus": 1} if gpus else {"num_cpus": 1}


def ray_module() -> Any:
    try:
        import ray
    except ImportError:
        raise EnvironmentFault("Ray is not installed", "pip install 'rngcli[ray]'") from None
    return ray
