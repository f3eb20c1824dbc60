"""The sets of docs/DIFFPIR.md, and what is to be beaten on them: `python -m tests.restoration PICTURES SETS`.

From the middles of the first COUNT photographs it writes SETS/truth-512 (truth-510 for ×3) and, 8-bit, what
`rng restore` is to undo: blur, motion (σ_n = 5 of 255), x2, x3, x4 (σ_n = 1), and holes with its masks. Then it scores
the usual remedies: a bicubic enlargement, a filling from around, and Wiener's filter with the constant that is best
over the whole set.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from rngcli.diffusion.kernels import gaussian, motion
from rngcli.diffusion.operators import Blur, Decimate, filled, interpolated
from rngcli.metrics.fidelity import psnr
from rngcli.metrics.lpips import LPIPS

SIDE = 512
KERNELS = {"blur": gaussian(1.6), "motion": motion(15, 30)}
NOISE = {"blur": 5, "motion": 5, "x2": 1, "x3": 1, "x4": 1}  # σ_n of 255
CONSTANTS = 10 ** np.linspace(-4, -1, 13)  # of Wiener's filter
RIM = 64  # [px] of the reflection that is filtered with a picture, since a kernel reaches beyond it


def truths(pictures: Path, count: int, side: int) -> dict[str, Tensor]:
    """The middles of the first photographs by name, (1, 3, side, side) in [0, 1]."""
    found = {}
    for path in sorted(p for p in pictures.rglob("*") if p.suffix.lower() in (".png", ".jpg"))[:count]:
        pixels = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
        top, left = ((length - side) // 2 for length in pixels.shape[:2])
        found[path.stem] = torch.from_numpy(pixels[top : top + side, left : left + side]).permute(2, 0, 1)[None]
    return found


def seen(y: Tensor, kind: str, rng: np.random.Generator) -> Tensor:
    """What is left of y, with noise, not yet rounded: (1, 3, H, W)."""
    if kind in KERNELS:
        x = reflected(y, Blur(KERNELS[kind]).apply)
    else:
        scale = int(kind[1:])
        operator = Decimate(gaussian(scale / 2), scale)
        x = reflected(y, operator.apply)[..., : y.shape[-1] // scale, : y.shape[-1] // scale]
    noise = rng.standard_normal(x.shape, np.float32) * NOISE[kind] / 255
    return x + torch.from_numpy(noise)


def reflected(x: Tensor, change: Callable[[Tensor], Tensor], rim: int = 60) -> Tensor:
    """`change` of a picture that goes on as its reflection, cut to what it makes of the picture itself."""
    changed = change(F.pad(x, (rim, rim, rim, rim), mode="reflect"))
    before = rim * changed.shape[-1] // (x.shape[-1] + 2 * rim)
    inner = changed[..., before:, before:]
    return inner[..., : x.shape[-2], : x.shape[-1]]


def wiener(x: Tensor, kernel: Tensor, constant: float) -> Tensor:
    """H̄/(|H|² + constant), of a picture that goes on as its reflection."""

    def filter_(wide: Tensor) -> Tensor:
        otf = Blur(kernel).spectrum(wide)
        return torch.fft.irfft2(torch.fft.rfft2(wide) * otf.conj() / (otf.abs().square() + constant), wide.shape[-2:])

    return reflected(x, filter_, RIM)


def make(pictures: Path, out: Path, count: int) -> None:
    by_three = SIDE // 3 * 3
    for name, y in truths(pictures, count, SIDE).items():
        rng = np.random.default_rng(int.from_bytes(name.encode()[-4:]))
        for side in (SIDE, by_three):
            save(y[..., :side, :side], out / f"truth-{side}" / f"{name}.png")
        for kind in NOISE:
            side = by_three if kind == "x3" else SIDE
            save(seen(y[..., :side, :side], kind, rng), out / kind / f"{name}.png")
        holes = torch.from_numpy(rng.random(y.shape[-2:]) < 0.5)
        save(torch.where(holes, 0.0, y), out / "holes" / f"{name}.png")
        save(holes.float().expand(1, 3, -1, -1), out / "masks" / f"{name}.png")


def save(x: Tensor, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((x[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()).save(path)


def read(path: Path) -> Tensor:
    return torch.from_numpy(np.asarray(Image.open(path), np.float32) / 255).permute(2, 0, 1)[None]


def remedies(out: Path) -> dict[str, dict[str, Callable[[Path], Tensor]]]:
    """By set and by remedy: what it makes of one of the set's files."""
    found: dict[str, dict[str, Callable[[Path], Tensor]]] = {}
    for kind, kernel in KERNELS.items():
        found[kind] = {"nothing": read} | {
            f"Wiener {constant:.1g}": lambda p, k=kernel, c=constant: wiener(read(p), k, c) for constant in CONSTANTS
        }  # type: ignore[misc]
    for scale in (2, 3, 4):
        found[f"x{scale}"] = {"bicubic": lambda p, s=scale: interpolated(read(p), s)}  # type: ignore[misc]
    found["holes"] = {"filled": lambda p: filled(read(p), 1 - read(out / "masks" / p.name)[:, :1])}
    return found


def score(out: Path, lpips: LPIPS) -> None:
    """Print PSNR [dB] and LPIPS of every remedy, of Wiener's filters that of the best."""
    for kind, by_name in remedies(out).items():
        best: dict[str, tuple[float, float, str]] = {}
        for name, remedy in by_name.items():
            rows = []
            for path in sorted((out / kind).glob("*.png")):
                restored = (remedy(path).clamp(0, 1) * 255).round() / 255
                truth = read(out / f"truth-{restored.shape[-1]}" / path.name)
                rows.append((float(psnr(restored, truth, 1.0)), float(lpips(restored, truth))))
            row = (fmean(r[0] for r in rows), fmean(r[1] for r in rows), name)
            best[name.split()[0]] = max(best.get(name.split()[0], row), row)
        for fidelity, distance, name in best.values():
            print(f"{kind:8} {name:14} {fidelity:6.2f} dB  LPIPS {distance:.3f}", flush=True)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("pictures", type=Path)
    asked.add_argument("sets", type=Path)
    asked.add_argument("--count", type=int, default=20)
    given = asked.parse_args()
    make(given.pictures, given.sets, given.count)
    with torch.inference_mode():
        score(given.sets, LPIPS.load("squeeze"))


if __name__ == "__main__":
    main()
