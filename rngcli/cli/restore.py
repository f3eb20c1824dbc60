"""`rng restore deblur|upscale|inpaint IN OUT`: what more than noise has happened to pictures, by DiffPIR."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError
from . import completion
from .denoise import run_command
from .like_denoise import like_denoise
from .options import PROCESS
from .restoration import Restoration

restore = typer.Typer(help="Undo blur, lack of pixels, or holes, by DiffPIR.", no_args_is_help=True)

# What a command of this group decides itself.
_DECIDED = {"detail": 1.0, "method": "diffpir", "strength": 1.0, "luma": 1.0, "chroma": 1.0, "noise_scale": 1.0,
            "keep_banding": True, "preview": None, "preset": None, "config": None}  # fmt: skip

Kernel = Annotated[
    str,
    typer.Option(
        metavar="FILE|gaussian:S|motion:L,A",
        help="The blur: a picture of it, a Gaussian of S px, or a line of L px at A degrees.",
        rich_help_panel=PROCESS,
    ),
]


@restore.command()
@like_denoise(_DECIDED)
def deblur(kernel: Kernel, **given: Any) -> Any:
    """Undo a blur that is known, and the noise.

    Example: rng restore deblur photos/ sharp/ --kernel gaussian:1.6

    The kernel reaches 60 px at most. Without noise, a blur is undone as far as noise of 2 (of 255) would allow.
    """

    def restoration() -> Restoration:
        from ..diffusion.operators import Blur

        found = _kernel(kernel)
        return Restoration(Blur(found), f"deblur {_digest(found)}")

    return run_command(given, restoration)


@restore.command()
@like_denoise(_DECIDED)
def upscale(
    scale: Annotated[
        int,
        typer.Option(
            metavar="2|3|4",
            min=2,
            max=4,
            help="Along each side.",
            autocompletion=completion.words("2", "3", "4"),
            rich_help_panel=PROCESS,
        ),
    ],
    kernel: Annotated[
        str,
        typer.Option(
            metavar="auto|FILE|gaussian:S|motion:L,A",
            autocompletion=completion.words("auto", "gaussian:", "motion:"),
            help="The blur before pixels were left out, in px of the large picture; auto: gaussian:SCALE/2.",
            rich_help_panel=PROCESS,
        ),
    ] = "auto",
    **given: Any,
) -> Any:
    """Make pictures twice, three or four times as large, and take away their noise.

    Example: rng restore upscale photos/ large/ --scale 2

    Pixel i of a picture is taken to lie at pixel SCALE·i of the large one.
    """

    def restoration() -> Restoration:
        from ..diffusion.operators import Decimate

        found = _kernel(f"gaussian:{scale / 2}" if kernel == "auto" else kernel)
        return Restoration(Decimate(found, scale), f"upscale {scale} {_digest(found)}")

    return run_command(given, restoration)


@restore.command()
@like_denoise(_DECIDED, sigma="0")
def inpaint(
    mask: Annotated[
        Path,
        typer.Option(
            metavar="DIR|FILE",
            help="Masks of the same names (or NAME.png), or one for all: white where pixels are missing.",
            rich_help_panel=PROCESS,
        ),
    ],
    **given: Any,
) -> Any:
    """Fill holes from what is around them; with --sigma 0 all other pixels stay as they are.

    Example: rng restore inpaint photos/ whole/ --mask masks/

    Scratches, dust and missing pixels; large holes are filled smoothly, never with things.
    """

    def restoration() -> Restoration:
        from ..diffusion.operators import Mask

        return Restoration(Mask(), f"inpaint {_state(mask)}", mask)

    return run_command({**given, "mask": mask}, restoration)


def _kernel(text: str) -> Any:
    from ..diffusion import kernels

    if not Path(text).is_file():
        return kernels.named(text)
    from ..images import read

    return kernels.from_picture(read(Path(text)).pixels)


def _digest(kernel: Any) -> str:
    return hashlib.sha256(kernel.numpy().tobytes()).hexdigest()[:16]


def _state(mask: Path) -> str:
    """Changes with any of the masks."""
    if not mask.exists():
        raise UsageError(f"there is no mask {mask}", "give a picture, or a folder of pictures")
    files = sorted(path for path in (mask.rglob("*") if mask.is_dir() else [mask]) if path.is_file())
    stamps = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]
