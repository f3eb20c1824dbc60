"""What the shell offers at Tab: models, datasets and the choices of options, found without loading torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..models.model_zoo import available
from .presets import preset_names

Completion = Callable[[str], list[str]]


def _one_of(choices: Callable[[], Iterable[str]]) -> Completion:
    """Those of `choices` that begin with what is typed; they are asked for at Tab, not when rng starts."""
    return lambda incomplete: [name for name in choices() if name.startswith(incomplete)]


def _datasets() -> Iterable[str]:
    from ..data import NAMED

    return NAMED


def _formats() -> Iterable[str]:
    from ..images import SUFFIX_OF_FORMAT

    return SUFFIX_OF_FORMAT


def words(*choices: str) -> Completion:
    """Those of `choices` that begin with what is typed."""
    return _one_of(lambda: choices)


def _listed(choices: Iterable[str]) -> Completion:
    """The same for the last of several with commas between them."""

    def offered(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in choices if name.startswith(last)]

    return offered


models = _one_of(available)  # for a file the shell's own completion takes over
datasets = _one_of(_datasets)
formats = _one_of(_formats)
presets = _one_of(preset_names)
devices = words("auto", "cpu", "cuda", "mps")
device_lists = words("auto", "cpu", "cuda", "mps", "all")
clusters = words("auto", "local")
precisions = words("auto", "fp32", "bf16", "fp16")
methods = words("rng", "rddm", "diffpir")
noises = _listed(("awgn", "awgn8", "night", "film", "coarse", "jpeg", "bands"))
compared = _listed(("rng", "reconstruct", "fixed:", "budget:", "blend:", "grain:", "input", "nlm", "wavelet", "bm3d"))
metrics = _listed(("psnr", "ssim", "lpips", "lpips-alex", "lpips-vgg", "lpips-squeeze", "niqe",
                   "haarpsi", "placement", "flat", "spectrum", "brightest"))
