"""Pictures in memory, denoised as those on disk are: what comes through a pipe, and what Python hands over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..images import Image
from ..inference.engine import Job, denoise
from ..inference.pipeline import Pipeline
from ..inference.strength import Strength
from ..methods.contract import Request


def denoised(
    pictures: Iterable[Image], pipeline: Pipeline, request: Request, strength: Strength
) -> Iterator[tuple[int, Image]]:
    """Each picture with its number, as it is finished; drawn only when the device has room for more.

    Raises the PictureError of one that fails, ModelError and UsageError where the method cannot do what is asked,
    EnvironmentFault where not even one tile fits into memory.
    """
    flying: dict[str, Image] = {}

    def jobs() -> Iterator[Job]:
        for number, picture in enumerate(pictures):
            flying[str(number)] = picture
            yield Job(str(number), picture.pixels)

    for result in denoise(jobs(), pipeline, request):
        if result.error:
            raise result.error
        picture = flying.pop(result.key)
        yield int(result.key), picture.with_pixels(strength.blended(picture.pixels, result.pixels))
