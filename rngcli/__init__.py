"""rng: reconstruct-and-generate denoising of photographs, in batches.

`rngcli.denoise`, `rngcli.Denoiser` and `rngcli.denoise_folder` do in Python what the command `rng denoise` does:
docs/API.md. They load torch when they are first asked for; `import rngcli` does not.
"""

import os
from importlib import import_module
from typing import Any

from .errors import EnvironmentFault, ModelError, NoInputError, PictureError, RngError, UsageError

__version__ = "0.1.0"

# Read by torch when it first takes memory: large tensors then lie in pages of 2 MiB, one fault each, if Linux can.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# Read by oneDNN, which else keeps 1024 operations made for a shape of tiles, 25 MB a shape; a shape needs a hundred.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")

_LATE = ("Denoiser", "Outcome", "Settings", "denoise", "denoise_folder")  # of rngcli.api
__all__ = [
    "Denoiser", "EnvironmentFault", "ModelError", "NoInputError", "Outcome", "PictureError", "RngError", "Settings",
    "UsageError", "denoise", "denoise_folder",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(import_module(".api", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
