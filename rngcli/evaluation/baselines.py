"""Classical denoisers from kept libraries, so that one sees what the networks buy: NLM, wavelets, BM3D."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType

import numpy as np

from ..errors import EnvironmentFault

# (x, σ) -> picture; (H, W, 3) float32, σ on the scale of [0, 1].
Baseline = Callable[[np.ndarray, float], np.ndarray]


def nlm(x: np.ndarray, sigma: float) -> np.ndarray:
    """Non-local means (Buades et al. 2005), scikit-image's fast form with patches of 5 px in windows of 13 px."""
    return _restoration().denoise_nl_means(
        x, patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma, fast_mode=True, channel_axis=-1
    )


def wavelet(x: np.ndarray, sigma: float) -> np.ndarray:
    """BayesShrink soft thresholding (Chang et al. 2000) in YCbCr, scikit-image."""
    # scikit-image refuses floats beyond ±1, which unclipped noise reaches; the method does not depend on scale.
    return 4 * _restoration().denoise_wavelet(
        x / 4, sigma=sigma / 4, method="BayesShrink", convert2ycbcr=True, rescale_sigma=True, channel_axis=-1
    )


def bm3d(x: np.ndarray, sigma: float) -> np.ndarray:
    """Colour BM3D (Dabov et al. 2007) with its own group's package, whose licence is for non-commercial use only."""
    try:
        from bm3d import bm3d_rgb
    except ImportError as error:
        raise _missing("bm3d") from error
    return bm3d_rgb(x, sigma)


BASELINES: dict[str, Baseline] = {"nlm": nlm, "wavelet": wavelet, "bm3d": bm3d}


def run(name: str, x: np.ndarray, sigma: float | None) -> np.ndarray:
    """One baseline on noisy pixels (H, W, 3); σ is on the 0-255 scale, None has it estimated from wavelets' median."""
    level = float(np.mean(_restoration().estimate_sigma(x, channel_axis=-1))) if sigma is None else sigma / 255
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-image tells of levels too many for small pictures
        return np.asarray(BASELINES[name](x, level), dtype=np.float32).clip(0, 1)


def _restoration() -> ModuleType:
    try:
        import pywt  # noqa: F401 - scikit-image imports it late, in the middle of a run
        from skimage import restoration
    except ImportError as error:
        raise _missing("scikit-image and PyWavelets") from error
    return restoration


def _missing(package: str) -> EnvironmentFault:
    return EnvironmentFault(f"this baseline needs {package}", "pip install 'rngcli[baselines]'")
