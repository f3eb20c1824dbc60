"""`rng synth CLEAN OUT --camera PHOTOS`: pairs to train on, of a camera that never saw a clean picture."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated

import typer

from . import completion
from .options import MODEL, OUTPUT, PROCESS, REPORT, Debug, Quiet, finite

Clean = Annotated[Path, typer.Argument(metavar="CLEAN", help="A folder of clean photographs, of any camera.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="Where noisy/ and clean/ go, with a picture each.")]
Camera = Annotated[
    Path,
    typer.Option(metavar="DIR", help="Noisy photographs of the camera, as it made them.", rich_help_panel=PROCESS),
]
Ddpm = Annotated[
    bool,
    typer.Option(
        "--ddpm",
        help="Learn what the photographs look like, too: for cameras that reduce noise, sharpen and compress.",
        rich_help_panel=PROCESS,
    ),
]
Minutes = Annotated[
    float,
    typer.Option(
        metavar="MIN", min=0.01, callback=finite, help="With --ddpm: of training, in all.", rich_help_panel=PROCESS
    ),
]
Strength = Annotated[
    float,
    typer.Option(
        metavar="S", min=1.5, max=80, callback=finite, rich_help_panel=PROCESS,
        help="With --ddpm: how far into noise, as σ of 255: more of the camera's looks, less of the picture.",
    ),
]  # fmt: skip
Evaluations = Annotated[
    int,
    typer.Option(
        "--steps",
        metavar="N",
        min=1,
        max=1000,
        help="With --ddpm: evaluations on the way back.",
        rich_help_panel=PROCESS,
    ),
]
Crop = Annotated[
    int,
    typer.Option(
        metavar="PX", min=0, max=65536, help="A square of each picture; 0: all of it.", rich_help_panel=OUTPUT
    ),
]
Soft = Annotated[
    float,
    typer.Option(
        metavar="0..1", min=0, max=1, callback=finite, rich_help_panel=PROCESS,
        help="Share of the pairs to make as soft as a camera's own pixels; 0 where CLEAN was not made smaller.",
    ),
]  # fmt: skip
Seed = Annotated[int, typer.Option(metavar="N", help="Of noise, places and training.", rich_help_panel=PROCESS)]
Device = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda[:i]", help="Where to compute.", autocompletion=completion.devices, rich_help_panel=MODEL
    ),
]
Json = Annotated[bool, typer.Option("--json", help="What came of it on stdout.", rich_help_panel=REPORT)]


def synth(
    clean: Clean,
    out: Out,
    camera: Camera,
    ddpm: Ddpm = False,
    minutes: Minutes = 10.0,
    strength: Strength = 20.0,
    evaluations: Evaluations = 8,
    crop: Crop = 512,
    soft: Soft = 0.6,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make clean pictures noisy as a camera does, by its noisy photographs alone: pairs for `rng train`.

    Example: rng synth clean/ pairs/ --camera photos/

    Then: rng train reconstruct --from rng-s --pairs pairs/noisy pairs/clean --data clean/ --minutes 2 --run mine/
    """
    from .progress import Narrator, waiting

    with waiting("loading …", quiet):
        from ..batch.report import json_number
        from ..methods.synthesis import SynthesisSpec
        from ..training.host import hosted
        from ..training.synthetic_pairs import PairsSpec, SyntheticPairs

    with hosted(narrator := Narrator(quiet)) as host:
        synthesis = SynthesisSpec(strength / 255, evaluations)
        spec = PairsSpec(clean, camera, out, crop, soft, seed, synthesis, minutes if ddpm else None)
        made = SyntheticPairs(spec, device, host).make()
    narrator.say(f"{made.pairs} pairs in {out}, {made.new} of them new; detail slope {made.slope.value:.3f}")
    if json:
        facts = {
            "pairs": made.pairs,
            "new": made.new,
            "failed": len(made.failures),
            "detail_slope": json_number(made.slope.value),
        }
        typer.echo(json_text.dumps(facts))
    for failure in made.failures:
        typer.echo(f"rng: {failure}", err=True)
    raise typer.Exit(1 if made.failures else 0)
