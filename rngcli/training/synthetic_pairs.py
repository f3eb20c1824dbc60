"""Folders of synthetic pairs: clean pictures, and noisy partners as a camera would have made them, to train on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import images
from ..atomic import remove_parts, whole, write_bytes
from ..batch.report import json_number
from ..data.camera_noise import CameraNoise, measure
from ..data.degrade import DegradeSpec, to_8_bits
from ..data.folders import clean_folder, keyed
from ..data.image_cache import large_enough
from ..data.photographs import Photographs, developed_below
from ..data.random_fields import gaussian_blur, uniform
from ..device import find_device
from ..errors import NoInputError, PictureError, UsageError
from ..methods.synthesis import Synthesis, SynthesisSpec
from ..metrics.drift import DetailSlope
from ..nets.unet import UNet
from .host import Host
from .spec import TrainSpec
from .stages.unconditional import Unconditional

MOST_PHOTOGRAPHS = 64  # of the camera, evenly spread over the folder: more tell nothing new
MOST_PIXELS = 400_000_000  # of them that a network learns from: they are all kept in memory
NETWORK_CROP, NETWORK_BATCH = 64, 16
BLUR_RADIUS = 5  # [px] of the strongest
SIDES = ("noisy", "clean")
RECORD = "synthesis.json"  # in the folder of the pairs: how they were made, and what came of it


@dataclass(frozen=True)
class PairsSpec:
    """What pairs are made of and where they go.

    crop: [px] of each clean picture, 0: all of it. soft: the share of them that is made as soft as a camera's own
    pixels are; photographs that were made smaller are far sharper.
    """

    clean: Path
    camera: Path
    out: Path
    crop: int = 512
    soft: float = 0.6
    seed: int = 0
    synthesis: SynthesisSpec = field(default_factory=SynthesisSpec)
    minutes: float | None = None  # of training a network on the camera's photographs; None: measured noise alone

    def check(self) -> None:
        """Raises UsageError where what is made would be among what it is made from."""
        out = self.out.resolve()
        for source in (self.clean.resolve(), self.camera.resolve()):
            if out.is_relative_to(source) or any(source.is_relative_to(out / side) for side in SIDES):
                raise UsageError(f"{self.out} and {source} are not apart", "give another OUT")


@dataclass
class Made:
    """What came of it: pairs there are now, how many of them are new, what failed, and the slope of their detail."""

    pairs: int = 0
    new: int = 0
    slope: DetailSlope = field(default_factory=DetailSlope)
    failures: list[str] = field(default_factory=list)


class SyntheticPairs:
    """`OUT/noisy/NAME.png` and `OUT/clean/NAME.png` for every picture NAME below `clean`.

    What is there already is left, so that the same command goes on where it was stopped. Which pixels come out hangs
    on the seed, the camera's photographs and the picture's name alone.
    """

    def __init__(self, spec: PairsSpec, device: str = "auto", host: Host | None = None) -> None:
        spec.check()
        self.spec, self.host, self.device = spec, host or Host(), find_device(device)
        self.photographs = _spread(clean_folder(spec.camera), MOST_PHOTOGRAPHS)
        if not spec.clean.is_dir() or not (files := developed_below(spec.clean)):
            raise NoInputError(f"no pictures below {spec.clean}", "give a folder of clean photographs")
        self.sources = keyed(spec.clean, files)

    def make(self) -> Made:
        """All pairs that are not there yet. Raises UsageError where others are: of another seed, camera or network."""
        settings = self._settings()
        self._check_record(settings)
        measured, readable = self._measured()
        self._record(settings)
        synthesis = Synthesis(measured, self._network(readable), self.spec.synthesis, self.device)
        made = Made()
        for key in self.host.listener.track(sorted(self.sources), "synthesising", len(self.sources), "pairs"):
            try:
                made.slope.add(*self._pair(key, synthesis, made))
                made.pairs += 1
            except PictureError as error:
                made.failures.append(f"{self.sources[key]}: {error}")
        self._record(settings | {"pairs": made.pairs, "detail_slope": json_number(made.slope.value)})
        return made

    # --- one pair ----------------------------------------------------------------------------------------------

    def _pair(self, key: str, synthesis: Synthesis, made: Made) -> tuple[Tensor, Tensor]:
        """(noisy, clean), (3, H, W) each, written unless both are there."""
        places = [self.spec.out / side / f"{key}.png" for side in SIDES]
        if all(place.exists() for place in places):
            noisy, clean = (_pixels(place) for place in places)
            return noisy, clean
        rng = torch.Generator().manual_seed(_number(self.spec.seed, key))
        clean = _softened(_cut(_pixels(self.sources[key]), self.spec.crop, rng), self.spec.soft, rng)
        noisy = synthesis.partner(clean, rng)
        _write_both(places, [noisy, clean])
        made.new += 1
        return noisy, clean

    # --- the camera --------------------------------------------------------------------------------------------

    def _measured(self) -> tuple[list[CameraNoise], list[Path]]:
        """The noise of the photographs that can be read, and these."""
        readable: list[Path] = []
        noises = measure(self._read(readable))
        sigmas = torch.stack([noise.sigma for noise in noises]) * 255
        low, high = (float(sigmas.flatten(1).mean(dim=1).sort().values[end]) for end in (0, -1))
        self.host.listener.say(
            f"{len(self.photographs)} photographs of the camera, σ {low:.1f} to {high:.1f} of 255 in the mean"
        )
        return noises, readable

    def _read(self, readable: list[Path]) -> Iterator[Tensor]:
        for path in self.host.listener.track(self.photographs, "measuring", len(self.photographs), "photographs"):
            try:
                yield _pixels(path)
                readable.append(path)
            except PictureError as error:
                self.host.listener.say(f"{path} is left out: {error.cause}")

    def _network(self, files: Sequence[Path]) -> UNet | None:
        """A DDPM of the camera's photographs in `files`, trained for `minutes` in all, in OUT/ddpm."""
        if self.spec.minutes is None:
            return None
        sizes = large_enough(files, NETWORK_CROP)
        some = _spread(list(sizes), max(1, len(sizes) * MOST_PIXELS // sum(h * w for h, w in sizes.values())))
        photographs = Photographs.load(some, NETWORK_CROP, self.device, self.host.listener.track)
        torch.manual_seed(self.spec.seed)
        stage = Unconditional(photographs, NETWORK_BATCH, self.spec.synthesis.process)
        spec = TrainSpec(minutes=self.spec.minutes, lr=2e-3, ema=0.995, warmup=50, seed=self.spec.seed)
        trainer = self.host.trainer(stage, spec, self.spec.out / "ddpm")
        if spec.progress(trainer.step, trainer.minutes) < 1:
            self.host.train(trainer, NETWORK_BATCH)
        return trainer.average  # type: ignore[return-value]

    # --- the record --------------------------------------------------------------------------------------------

    def _settings(self) -> dict[str, Any]:
        spec = self.spec
        facts = [(path.name, path.stat().st_size) for path in self.photographs]
        return {
            "camera": hashlib.sha256(repr(facts).encode()).hexdigest()[:16],
            "crop": spec.crop,
            "soft": spec.soft,
            "seed": spec.seed,
            "ddpm": {"minutes": spec.minutes} | asdict(spec.synthesis) if spec.minutes is not None else None,
        }

    def _check_record(self, settings: dict[str, Any]) -> None:
        path = self.spec.out / RECORD
        if path.exists():
            before: dict[str, Any] = {}
            with suppress(ValueError):
                before = json.loads(path.read_bytes())
            if other := [name for name in settings if before.get(name) != settings[name]]:
                cause = f"{self.spec.out} holds pairs of another {' and '.join(other)}"
                raise UsageError(cause, "give another OUT, or the same options as before")
        for side in SIDES:
            for folder in {(self.spec.out / side / key).parent for key in self.sources}:
                remove_parts(folder)

    def _record(self, facts: dict[str, Any]) -> None:
        write_bytes(self.spec.out / RECORD, json.dumps(facts, indent=2).encode() + b"\n")


def _spread(files: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of them, evenly."""
    return list(files[:: -(-len(files) // most)])


def _number(seed: int, key: str) -> int:
    """A seed of its own for every picture."""
    return int.from_bytes(hashlib.sha256(f"{seed} {key}".encode()).digest()[:8], "little") >> 1


def _cut(picture: Tensor, side: int, rng: torch.Generator) -> Tensor:
    """A square of at most `side` px of (3, H, W), at a place drawn from `rng`; 0: all of it."""
    if not side:
        return picture
    spare = [max(0, length - side) for length in picture.shape[1:]]
    top, left = (int(torch.randint(room + 1, (1,), generator=rng)) for room in spare)
    return picture[:, top : top + side, left : left + side]


def _softened(clean: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """In a share of the cases, (3, H, W) blurred as lens, antialiasing filter and demosaic do, in steps of 1/255."""
    chance, sigma = uniform(1, 0, 1, rng), uniform(1, *DegradeSpec.blur, rng)
    if min(clean.shape[1:]) <= BLUR_RADIUS or float(chance) >= share:
        return clean
    return to_8_bits(gaussian_blur(clean[None], sigma, BLUR_RADIUS))[0]


def _pixels(path: Path) -> Tensor:
    """(3, H, W) sRGB in [0, 1] as 8 bits hold it."""
    pixels = images.in_srgb(images.read(path))
    return torch.from_numpy(np.rint(pixels * 255) / np.float32(255)).permute(2, 0, 1).contiguous()


def _write_both(places: Sequence[Path], pictures: Sequence[Tensor]) -> None:
    """Both files whole, one at once after the other; neither where one cannot be written."""
    encoded = [
        images.encode(images.Image(picture.permute(1, 2, 0).contiguous().numpy()), "png") for picture in pictures
    ]
    try:
        with whole(places[0]) as first, whole(places[1]) as second:
            first.write_bytes(encoded[0])
            second.write_bytes(encoded[1])
    except BaseException:
        for place in places:
            with suppress(OSError):
                place.unlink()
        raise
