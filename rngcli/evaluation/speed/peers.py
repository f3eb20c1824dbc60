"""What one would take instead: the same pixels by BM3D and by two non-local means, where they are installed."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ...errors import EnvironmentFault
from .. import baselines

SIDE = 256  # [px] of what they are given: their cost is proportional to the pixels, and high


def _opencv(x: np.ndarray, sigma: float) -> np.ndarray:
    try:
        import cv2
    except ImportError as error:
        raise EnvironmentFault("this needs opencv", "pip install opencv-python-headless") from error
    eight_bits = np.rint(x.clip(0, 1) * 255).astype(np.uint8)
    denoised: np.ndarray = cv2.fastNlMeansDenoisingColored(eight_bits, None, 0.8 * sigma, 0.8 * sigma, 5, 13)
    return denoised


PEERS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "bm3d": lambda x, sigma: baselines.run("bm3d", x, sigma),
    "scikit-image NLM": lambda x, sigma: baselines.run("nlm", x, sigma),
    "OpenCV NLM": _opencv,
}


def peer_speeds(pixels: np.ndarray, sigma: float = 25.0) -> dict[str, float | None]:
    """Mpx/s of each peer on the middle of noisy `pixels`; None where it is not installed. σ on the 0-255 scale."""
    top, left = (max(0, (length - SIDE) // 2) for length in pixels.shape[:2])
    part = np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE])
    return {name: _speed(run, part, sigma) for name, run in PEERS.items()}


def _speed(run: Callable[[np.ndarray, float], np.ndarray], part: np.ndarray, sigma: float) -> float | None:
    begun = time.perf_counter()
    try:
        run(part, sigma)
    except EnvironmentFault:
        return None
    return part.size / 3e6 / (time.perf_counter() - begun)
