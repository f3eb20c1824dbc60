"""`rng denoise … --preview`: one part of a picture as it is and with more and more detail, side by side, at 100 %."""

from __future__ import annotations

import base64
import glob
import html
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import PIL.Image
from PIL import ImageDraw, ImageFont

from .. import images
from ..batch.batch_options import BatchOptions
from ..batch.inputs import expanded
from ..batch.report import as_line
from ..errors import ModelError, NoInputError, UsageError
from ..images.walk import pictures_below
from ..inference.engine import Job, Result, denoise
from ..inference.estimate import Pace
from ..inference.noise_level import noise_level
from ..inference.noisiest import noisiest
from ..inference.pipeline import Pipeline
from ..methods.contract import Request
from . import progress
from .forecast import told
from .reporter import Reporter
from .window import Window

MARGIN = 32  # [px] denoised around the part, so that its edges see what they see in the whole picture
GAP, LABEL = 8, 28  # [px] between the panes; above them
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>rng preview: {name}</title>
<style>
{style}
body {{ max-width: none; }}
#panes {{ display: flex; flex-wrap: wrap; gap: 8px; margin-top: 1rem; }}
figure {{ margin: 0; max-width: 100%; overflow-x: auto; }}
</style></head>
<body>
<h1>{name}</h1>
{lines}
<div id="panes">
{figures}
</div>
</body></html>
"""


@dataclass(frozen=True)
class Pane:
    """What is shown, (H, W, 3) float32 sRGB in [0, 1], and what it is."""

    title: str
    pixels: np.ndarray


def preview(paths: Sequence[Path], window: Window, file: Path, options: BatchOptions, tell: Reporter) -> None:
    """Write the preview of the first picture to `file`; how noisy it is, and how long all will take, is told, too.

    Raises NoInputError, PictureError, UsageError where the part lies beyond the picture, and what the model raises.
    """
    sources = _pictures(paths)
    picture = images.read(sources[0], options.files.read)
    pixels = images.turned(picture.pixels, picture.metadata.orientation)
    top, left = _place(window, pixels)
    part = Part(replace(picture, alpha=None, extras=None), pixels, top, left, window.size)
    with progress.waiting("denoising a part …", tell.quiet):
        panes, pace = _panes(part, options)
    lines = [
        f"{pixels.shape[1]} by {pixels.shape[0]} px, here {window.size} px at {left},{top}",
        f"noise {255 * noise_level(pixels):.1f} of 255, here {255 * noise_level(part.inner(pixels)):.1f}",
        told(sources, pace),
    ]
    if file.suffix == ".png":
        images.write(file, images.Image(_sheet(panes, sources[0].name, lines)))
    else:
        images.write_bytes(file, _page(panes, sources[0].name, lines).encode())
    for line in (f"{sources[0]} -> {file}", *lines):
        tell.say(line)


def _pictures(paths: Sequence[Path]) -> list[Path]:
    """Of all inputs; a last argument that is not there yet is the OUT of the run that is to come."""
    inputs = list(paths)
    if len(inputs) > 1 and not os.path.lexists(inputs[-1]) and not glob.has_magic(str(inputs[-1])):
        inputs.pop()
    there = [path for source in inputs for path in expanded(source)]
    found = [picture for path in there for picture in (pictures_below(path) if path.is_dir() else [path])]
    if not found:
        raise NoInputError("there is no picture to look at", "rng denoise IN --preview 512 preview.png")
    return found


def _place(window: Window, pixels: np.ndarray) -> tuple[int, int]:
    """(top, left); UsageError where nothing of the picture lies there."""
    if window.at is None:
        return noisiest(pixels, window.size)
    (left, top), (height, width) = window.at, pixels.shape[:2]
    if left >= width or top >= height:
        raise UsageError(f"the picture ends at {width},{height}", "choose a place within it, or none")
    return top, left


@dataclass(frozen=True)
class Part:
    """A part of an upright picture, `size` px or what there is of it, which is denoised with what lies around it."""

    picture: images.Image
    pixels: np.ndarray
    top: int
    left: int
    size: int

    @property
    def wide(self) -> np.ndarray:
        """The part with MARGIN around it, where the picture goes on."""
        y, x = max(self.top - MARGIN, 0), max(self.left - MARGIN, 0)
        return np.ascontiguousarray(self.pixels[y : self.top + self.size + MARGIN, x : self.left + self.size + MARGIN])

    def inner(self, pixels: np.ndarray) -> np.ndarray:
        """The part of the whole picture's pixels."""
        return pixels[self.top : self.top + self.size, self.left : self.left + self.size]

    def shown(self, wide: np.ndarray) -> np.ndarray:
        """Of the part with its margin, the part itself, as people see it: in sRGB."""
        y, x = min(self.top, MARGIN), min(self.left, MARGIN)
        inner = np.ascontiguousarray(wide[y : y + self.size, x : x + self.size])
        return images.in_srgb(replace(self.picture, pixels=inner))


def _panes(part: Part, options: BatchOptions) -> tuple[list[Pane], Pace]:
    """The input, the details that the model can give, and what is asked for, where that is none of them."""
    pipeline, noisy, asked = options.pipeline(), part.wide, options.request.detail
    results = {
        detail: _denoised(pipeline, noisy, replace(options.request, detail=detail))
        for detail in _details(pipeline, options.request)
    }
    panes = [Pane("input", part.shown(noisy))]
    panes += [Pane(f"detail {detail:g}", part.shown(results[detail].pixels)) for detail in sorted(results)]
    if not (strength := options.files.strength).full:
        title = f"detail {asked:g}, luma {strength.luma:g}, chroma {strength.chroma:g}"
        panes.append(Pane(title, part.shown(strength.blended(noisy, results[asked].pixels))))
    return panes, Pace.of(results[asked].seconds / results[asked].steps.size, noisy, pipeline.frame)


def _details(pipeline: Pipeline, request: Request) -> list[float]:
    """Without a generator there is none but 0; the one that is asked for comes last, when all is warm."""
    try:
        pipeline.require(replace(request, detail=1.0))
    except ModelError:
        pipeline.require(request)
        return [request.detail]
    return [*sorted({0.0, 0.5, 1.0} - {request.detail}), request.detail]


def _denoised(pipeline: Pipeline, pixels: np.ndarray, request: Request) -> Result:
    (result,) = denoise([Job("part", pixels)], pipeline, request)
    if result.error:
        raise result.error
    return result


def _sheet(panes: Sequence[Pane], name: str, lines: Sequence[str]) -> np.ndarray:
    """All panes in a row below the words, (H, W, 3) float32; large ones in two rows."""
    height, width = (max(pane.pixels.shape[axis] for pane in panes) for axis in (0, 1))
    columns = len(panes) if width * len(panes) <= 4096 else 2
    rows = -(-len(panes) // columns)
    head = LABEL * (1 + len(lines))
    size = (columns * (width + GAP) - GAP, head + rows * (LABEL + height + GAP) - GAP)
    sheet = PIL.Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for i, line in enumerate((name, *lines)):
        draw.text((4, 4 + i * LABEL), as_line(line), fill="black", font=font)
    for i, pane in enumerate(panes):
        x, y = (i % columns) * (width + GAP), head + (i // columns) * (LABEL + height + GAP)
        draw.text((x + 4, y + 4), pane.title, fill="black", font=font)
        sheet.paste(_as_image(pane), (x, y + LABEL))
    return np.asarray(sheet, np.float32) / 255


def _as_image(pane: Pane) -> PIL.Image.Image:
    return PIL.Image.fromarray(np.rint(255 * pane.pixels).astype(np.uint8))


def _page(panes: Sequence[Pane], name: str, lines: Sequence[str]) -> str:
    style = files("rngcli.pages").joinpath("common.css").read_text(encoding="utf-8")
    words = "\n".join(f"<p>{html.escape(line)}</p>" for line in lines)
    name = html.escape(as_line(name))
    return _PAGE.format(name=name, style=style, lines=words, figures="\n".join(_figures(panes)))


def _figures(panes: Sequence[Pane]) -> Iterator[str]:
    for pane in panes:
        data = io.BytesIO()
        _as_image(pane).save(data, "PNG")
        source = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
        title, (height, width) = html.escape(pane.title), pane.pixels.shape[:2]
        shown = f'<img alt="{title}" width="{width}" height="{height}" src="{source}">'
        yield f"<figure><figcaption>{title}</figcaption>{shown}</figure>"
