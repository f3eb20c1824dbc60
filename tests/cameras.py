"""Three cameras for the tests and the figures of pair synthesis; `rngcli.data.degrade` does nothing of what they do."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage


def grainy(clean: np.ndarray, seed: int) -> np.ndarray:
    """C1: grain correlated over neighbours and colours, strongest in the middle tones, and rows that are off.

    sRGB (H, W, 3) in [0, 1] -> the same in steps of 1/255.
    """
    rng = np.random.default_rng(seed)

    def grain(channels: int) -> np.ndarray:
        field = ndimage.gaussian_filter(rng.standard_normal((*clean.shape[:2], channels)), (0.8, 0.8, 0), mode="wrap")
        return field / field.std()

    light = clean.mean(axis=2, keepdims=True)
    strength = 0.02 + 0.09 * np.sqrt(light * (1 - light))
    noise = strength * (np.sqrt(0.5) * grain(1) + np.sqrt(0.5) * grain(3))
    noise += 0.012 * rng.standard_normal((clean.shape[0], 1, 1))
    return np.rint((clean + noise).clip(0, 1) * 255) / 255


def cored(clean: np.ndarray, seed: int) -> np.ndarray:
    """C2: a mosaic-like noise, then a camera that shrinks small details, with faint texture among them, and sharpens.

    Written as JPEG 75. sRGB (H, W, 3) in [0, 1] -> the same as decoded.
    """
    rng = np.random.default_rng(seed)
    light = clean.mean(axis=2, keepdims=True)
    field = ndimage.gaussian_filter(rng.standard_normal(clean.shape), (0.5, 0.5, 0), mode="wrap")
    noisy = clean + np.sqrt(0.02**2 + 0.005 * light) * field / field.std()
    opponent = noisy @ _OPPONENT.T
    reduced = np.stack([_shrunk(opponent[..., c], t) for c, t in enumerate((0.05, 0.07, 0.07))], axis=2)
    rgb = reduced @ np.linalg.inv(_OPPONENT).T
    sharp = rgb + 0.8 * (rgb - ndimage.gaussian_filter(rgb, (1.0, 1.0, 0)))
    file = io.BytesIO()
    Image.fromarray(np.rint(sharp.clip(0, 1) * 255).astype(np.uint8)).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file), np.float64) / 255


def herringbone(clean: np.ndarray, seed: int) -> np.ndarray:
    """C3: analogue video with interference: a slanted weave of about four pixels, which waxes and wanes, in light.

    Noise of a narrow band of frequencies, as a carrier that leaks into the picture leaves, and faint white noise.
    sRGB (H, W, 3) in [0, 1] -> the same in steps of 1/255.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(clean.shape[:2])
    carrier = np.exp(2j * np.pi * (0.21 * columns + 0.12 * rows))
    waxing = rng.standard_normal((2, *clean.shape[:2]))
    waxing = ndimage.gaussian_filter(waxing, (0, 6, 6), mode="wrap")
    weave = ((waxing[0] + 1j * waxing[1]) * carrier).real
    noise = 0.07 * weave[..., None] / weave.std() + 0.015 * rng.standard_normal(clean.shape)
    return np.rint((clean + noise).clip(0, 1) * 255) / 255


_OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [0.5, -1, 0.5]]) / np.sqrt([[3], [2], [1.5]])


def _shrunk(plane: np.ndarray, threshold: float) -> np.ndarray:
    """Two bands of detail, each soft-thresholded towards nothing: what is faint goes, whether noise or texture."""
    for sigma in (0.9, 2.0):
        base = ndimage.gaussian_filter(plane, sigma)
        detail = plane - base
        plane = base + detail * np.maximum(0, 1 - threshold / np.maximum(np.abs(detail), 1e-9)) ** 0.5
        threshold *= 0.6
    return plane


CAMERAS = {"grainy": grainy, "cored": cored, "herringbone": herringbone}


def main(camera: str, clean: str, out: str, crop: int, count: int) -> None:
    """Noisy pictures of `out`/noisy and their truths in `out`/clean: `count` centre crops of the folder `clean`."""
    found = [path for path in sorted(Path(clean).iterdir()) if min(Image.open(path).size) >= crop]
    for number, path in enumerate(found[:: max(1, len(found) // count)][:count]):
        picture = Image.open(path).convert("RGB")
        left, top = ((side - crop) // 2 for side in picture.size)
        picture = picture.crop((left, top, left + crop, top + crop))
        noisy = CAMERAS[camera](np.asarray(picture) / 255, number)
        for side, pixels in (("clean", picture), ("noisy", Image.fromarray(np.rint(noisy * 255).astype(np.uint8)))):
            (Path(out) / side).mkdir(parents=True, exist_ok=True)
            pixels.save(Path(out) / side / f"{path.stem}.png")


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5]))
