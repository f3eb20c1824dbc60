"""`make demo`: real photographs, realistic noise, the real command, and what became of them side by side."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from PIL import ImageDraw, ImageFont
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor

from .. import images
from ..data.degrade import add_gaussian
from ..data.sensors import CameraSpec, add_camera_noise
from ..defaults import DEFAULT_MODEL
from ..errors import EnvironmentFault, ModelError, RngError
from ..metrics.fidelity import psnr
from ..metrics.lpips import LPIPS

Noise = Callable[[Tensor, torch.Generator], Tensor]  # (1, 3, H, W) in [0, 1] -> the same, noisy
Rows = Mapping[str, Mapping[str, Any]]  # of a report, by file name

DETAIL = 256  # [px] side of what is shown of each picture, pixel by pixel
GAP, LABEL = 6, 26  # [px] between the panels; above them


def gaussian(sigma: float) -> Noise:
    """White noise of `sigma` on the 0–255 scale."""
    return lambda clean, rng: add_gaussian(clean, (sigma, sigma), rng)


def camera(shot: float, jpeg_quality: int | None = None) -> Noise:
    """A sensor's noise, `shot` its variance per unit of light, developed and perhaps compressed."""
    quality = jpeg_quality or 100
    share = 0.0 if jpeg_quality is None else 1.0
    spec = CameraSpec(shot=(shot, shot), jpeg_share=share, jpeg_quality=(quality, quality))
    # Of a batch, the first half is seen through a colour mosaic, which is what a camera does.
    return lambda clean, rng: add_camera_noise(clean.repeat(2, 1, 1, 1), spec, rng)[:1]


@dataclass(frozen=True)
class Photograph:
    """A file among scikit-image's, the part of it that is used, what is done to it, and where to look."""

    file: str
    box: tuple[int, int, int, int]  # top, left, height, width [px]; the last two multiples of 16
    noise_name: str
    noise: Noise
    detail: tuple[int, int]  # top, left [px] inside the box

    @property
    def output(self) -> str:
        """The name of its PNGs."""
        return f"{Path(self.file).stem}.png"

    def clean(self, folder: Path) -> np.ndarray:
        """(H, W, 3) in [0, 1]."""
        top, left, height, width = self.box
        return images.read(folder / self.file).pixels[top : top + height, left : left + width]

    def noisy(self, clean: np.ndarray) -> np.ndarray:
        """The same on every machine; clipped, as a file is."""
        noisy = self.noise(_tensor(clean), torch.Generator().manual_seed(0))
        return noisy[0].permute(1, 2, 0).clamp(0, 1).numpy()


PHOTOGRAPHS = (
    Photograph("astronaut.png", (0, 0, 480, 480), "Gaussian, σ = 25", gaussian(25), (16, 96)),
    Photograph("chelsea.png", (0, 0, 288, 448), "camera, mild", camera(1.5e-3), (16, 112)),
    Photograph("coffee.png", (0, 64, 400, 480), "camera, strong", camera(8e-3), (140, 176)),
    Photograph("rocket.jpg", (11, 80, 416, 480), "camera and JPEG", camera(6e-3, 90), (140, 112)),
)


def run(out: Path, model: str, photographs: Sequence[Photograph] = PHOTOGRAPHS) -> None:
    """Write clean, noisy, reconstructed and denoised pictures, step maps and comparisons below `out`; print scores.

    Raises EnvironmentFault where scikit-image is not installed; ends with the command's own code where that fails.
    """
    before = prepare(out, photographs)
    reports = {
        "reconstruction": denoise(out, "reconstruction", model, "--detail", "0"),
        "rng": denoise(out, "denoised", model, "--step-map", str(out / "steps")),
    }
    for photograph in photographs:
        after = {method: rows[photograph.output]["psnr"] for method, rows in reports.items()}
        side_by_side(out, photograph, {"noisy": before[photograph.output], **after})
    tell(out, score_table(photographs, before, reports))


def prepare(out: Path, photographs: Sequence[Photograph]) -> Mapping[str, float]:
    """Write the clean and the noisy PNGs; PSNR [dB] of the noisy ones as they are on disk."""
    folder = photograph_folder()
    scores = {}
    for photograph in photographs:
        clean, noisy = (out / name / photograph.output for name in ("clean", "noisy"))
        images.write(clean, images.Image(pixels := photograph.clean(folder)))
        images.write(noisy, images.Image(photograph.noisy(pixels)))
        x, y = (_tensor(images.read(path).pixels) for path in (noisy, clean))
        scores[photograph.output] = float(psnr(x, y, data_range=1))
    return scores


def photograph_folder() -> Path:
    """Where scikit-image keeps the photographs that come inside its wheel: no network is asked."""
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise EnvironmentFault("the demo's photographs come with scikit-image", "pip install scikit-image")
    return Path(spec.submodule_search_locations[0]) / "data"


def denoise(out: Path, target: str, model: str, *options: str) -> Rows:
    """Run `rng denoise` as a user would; its report."""
    report = out / f"{target}.json"
    files = [str(out / "noisy"), str(out / target), "--reference", str(out / "clean"), "--report", str(report)]
    # What an earlier demo left there is not taken for this one's.
    arguments = ["denoise", *files, "--overwrite", "--model", model, *options]
    print("\n$ rng", " ".join(arguments), flush=True)
    code = subprocess.run([sys.executable, "-m", "rngcli", *arguments]).returncode
    if code:
        sys.exit(code)
    return {row["file"]: row for row in json.loads(report.read_text(encoding="utf-8"))}


# --- what it shows ---------------------------------------------------------------------------------------------


def side_by_side(out: Path, photograph: Photograph, scores: Mapping[str, float]) -> None:
    """noisy | reconstruction | rng | clean, a part of each at 100 %, titled with the whole picture's PSNR [dB]."""
    folders = {"noisy": "noisy", "reconstruction": "reconstruction", "rng": "denoised", "clean": "clean"}
    top, left = photograph.detail
    sheet = PIL.Image.new("RGB", (len(folders) * (DETAIL + GAP) - GAP, LABEL + DETAIL), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for i, (title, folder) in enumerate(folders.items()):
        with PIL.Image.open(out / folder / photograph.output) as picture:
            sheet.paste(picture.crop((left, top, left + DETAIL, top + DETAIL)), (i * (DETAIL + GAP), LABEL))
        label = f"{title}  {scores[title]:.2f} dB" if title in scores else title
        draw.text((i * (DETAIL + GAP) + 4, 4), label, fill="black", font=font)
    (out / "side-by-side").mkdir(exist_ok=True)
    sheet.save(out / "side-by-side" / photograph.output)


def score_table(photographs: Sequence[Photograph], before: Mapping[str, float], reports: Mapping[str, Rows]) -> Table:
    """Three rows a picture: as it came, the reconstruction alone, and with the generated detail."""
    table = Table("picture", "", box=SIMPLE_HEAD, padding=(0, 1), collapse_padding=True)
    for heading in ("PSNR", "SSIM", "LPIPS", "steps", "seconds"):
        table.add_column(heading, justify="right")
    for photograph in photographs:
        table.add_row(photograph.output, "noisy", f"{before[photograph.output]:.2f}")
        for first, (method, rows) in zip((photograph.noise_name, ""), reports.items(), strict=True):
            row = rows[photograph.output]
            lpips = f"{row['lpips']:.4f}" if "lpips" in row else "n/a"
            figures = (f"{row['psnr']:.2f}", f"{row['ssim']:.4f}", lpips, f"{row['steps']:.1f}")
            table.add_row(first, method, *figures, f"{row['seconds']:.1f}")
        table.add_section()
    return table


def tell(out: Path, table: Table) -> None:
    """The table, why a column is empty, and where the pictures are."""
    console = Console(highlight=False)
    console.print(table)
    print("PSNR [dB]; LPIPS (SqueezeNet): lower is better; steps: evaluations of the generator a tile")
    if reason := lpips_missing():
        print(f"LPIPS n/a: {reason}")
    print("\nLook at:", *sorted((out / "side-by-side").iterdir()), sep="\n  ")
    print(f"Whole pictures: {out / 'denoised'}   how much detail each tile got, bright is much: {out / 'steps'}")


def lpips_missing() -> str | None:
    """Why LPIPS was not measured; None where it was."""
    try:
        LPIPS.find("squeeze")
    except ModelError as error:
        return f"{error.cause}; name the folder of its two files in RNG_LPIPS"
    return None


def _tensor(pixels: np.ndarray) -> Tensor:
    """(H, W, 3) -> (1, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]


def main() -> None:
    """`python -m rngcli.cli.demo OUT [--model NAME|FILE]`."""
    parser = argparse.ArgumentParser(prog="python -m rngcli.cli.demo", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write into")
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME|FILE", help="see `rng models list`")
    given = parser.parse_args()
    try:
        run(given.out, given.model)
    except RngError as error:
        print(f"rng: {error}", file=sys.stderr)
        sys.exit(error.code)


if __name__ == "__main__":
    main()
