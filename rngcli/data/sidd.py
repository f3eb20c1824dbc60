"""SIDD's official .mat files (Abdelhamed et al. 2018): 40 pictures × 32 blocks, in and, for the benchmark, out."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np

from ..errors import EnvironmentFault, NoInputError
from ..images import write_bytes
from .benchmark import Benchmark, Pair

VALIDATION = ("ValidationNoisyBlocksSrgb", "ValidationGtBlocksSrgb")
BENCHMARK = ("BenchmarkNoisyBlocksSrgb",)  # its truth is withheld


def blocks_of(folder: Path, variables: tuple[str, ...], name: str) -> Benchmark:
    """The blocks of the files named after `variables`, noisy first; keys are "picture-block".

    Each file's bytes are read once, when the first block is asked for, and stay as uint8 (240 MiB a file).
    """
    sources = [_Blocks(folder / f"{variable}.mat") for variable in variables]
    if len({source.shape for source in sources}) > 1:
        raise NoInputError(f"{' and '.join(str(s.path) for s in sources)} differ in shape", "fetch them again")
    images, blocks, side = sources[0].shape[:3]
    truth = "PSNR per block on RGB over the clamped float output" if len(sources) == 2 else "no truth, so no PSNR"
    return Benchmark(
        name,
        f"the official {images}×{blocks} blocks of {side} px; {truth}, mean of blocks; SSIM as MATLAB's of H×W×3",
        tuple(f"{i:02d}-{b:02d}" for i in range(images) for b in range(blocks)),
        partial(_load, sources),
        ssim="matlab-3d",
        source=str(folder.resolve()),
        files=lambda key: tuple(source.path for source in sources),
    )


def write_submission(path: Path, denoised: np.ndarray, seconds_per_megapixel: float, method: str) -> None:
    """The file that SIDD's server takes, from denoised blocks (40, 32, 256, 256, 3) uint8."""
    about = {"MethodName": method, "Authors": "", "PaperTitle": "", "Venue": ""}
    contents = {"DenoisedBlocksSrgb": denoised, "TimeMPSrgb": seconds_per_megapixel, "OptionalData": about}
    sink = io.BytesIO()
    _scipy_io().savemat(sink, contents, do_compression=True)
    write_bytes(path, sink.getvalue())


class _Blocks:
    """One variable of a .mat file: its shape at once, its bytes when first needed."""

    def __init__(self, path: Path) -> None:
        self.path, self.variable = path, path.stem
        try:
            shapes = {name: shape for name, shape, _ in _scipy_io().whosmat(path)}
        except (ValueError, OSError, NotImplementedError) as error:
            raise NoInputError(f"{path} is not a readable .mat file ({error})", "fetch it again") from error
        self.shape: tuple[int, ...] = shapes.get(self.variable, ())
        if len(self.shape) != 5 or self.shape[-1] != 3:
            raise NoInputError(f"{path} holds no {self.variable} of pictures×blocks×H×W×3", "fetch it again")
        self._bytes: np.ndarray | None = None

    def pixels(self, image: int, block: int) -> np.ndarray:
        """One block, (H, W, 3) float32 in [0, 1]."""
        if self._bytes is None:
            self._bytes = _scipy_io().loadmat(self.path, variable_names=[self.variable])[self.variable]
        return np.ascontiguousarray(self._bytes[image, block], dtype=np.float32) / 255


def _load(sources: list[_Blocks], key: str) -> Pair:
    image, block = (int(part) for part in key.split("-"))
    pixels = [source.pixels(image, block) for source in sources]
    return Pair(key, pixels[0], pixels[1] if len(pixels) == 2 else None)


def _scipy_io() -> ModuleType:
    try:
        import scipy.io
    except ImportError as error:
        raise EnvironmentFault("reading .mat files needs scipy", "pip install 'rngcli[eval]'") from error
    return scipy.io
