"""A process of its own around LibRaw: a raw file on stdin, one line of JSON and the developed picture on stdout.

LibRaw is native code that meets hostile files; if it dies or hangs, it must not take a batch of ten thousand with it.
Run by `raw`, as `python -m rngcli.images.libraw REQUEST`, a `Request` as JSON.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import rawpy

_WIDEST = 65535
# Colour space, and (power, slope of the toe; 0: none) as LibRaw takes them; its default curve is BT.709's.
_SPACES = {
    "srgb": (rawpy.ColorSpace.sRGB, (2.4, 12.92)),
    "p3": (rawpy.ColorSpace.P3D65, (2.4, 12.92)),
    "prophoto": (rawpy.ColorSpace.ProPhoto, (1.8, 0)),
}


@dataclass(frozen=True)
class Request:
    """What is wanted of a raw file; the fields are those of `ReadOptions`."""

    max_pixels: int
    bright: bool = False
    space: str = "srgb"


def develop(data: bytes, request: Request) -> tuple[dict[str, Any], np.ndarray | None]:
    """What LibRaw says of a raw file, and its picture, (H, W, 3) uint16; None where it has too many pixels.

    Camera white balance; no automatic exposure unless `bright`, so that the frames of a series stay comparable.
    """
    with rawpy.imread(io.BytesIO(data)) as raw:
        said: dict[str, Any] = {"width": raw.sizes.iwidth, "height": raw.sizes.iheight}
        if said["width"] * said["height"] > request.max_pixels:
            return said, None
        said |= {"exposure": _exposure(raw), "thumbnail": _thumbnail(raw).hex()}
        space, gamma = _SPACES[request.space]
        pixels = raw.postprocess(
            use_camera_wb=True,
            no_auto_bright=not request.bright,
            adjust_maximum_thr=0.0,
            output_bps=16,
            output_color=space,
            gamma=gamma,
            user_sat=_white_level(raw),
        )
        return said | {"width": pixels.shape[1], "height": pixels.shape[0]}, pixels


def _white_level(raw: Any) -> int | None:
    """The white level to use instead of LibRaw's, where the data exceed that by far: film scanners, for one."""
    image = raw.raw_image
    return _WIDEST if image is not None and 2 * raw.white_level < int(image.max()) else None


def _exposure(raw: Any) -> dict[str, Any]:
    shot = ("iso_speed", "shutter_speed", "aperture", "focal_length", "timestamp", "artist")
    lens = {f"lens_{name}": value for name, value in _told(raw, "lens", ("make", "model"))}
    return dict(_told(raw, "other", shot)) | lens


def _told(raw: Any, part: str, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name in names:
        value = getattr(getattr(raw, part, None), name, None)
        if value:
            yield name, value if isinstance(value, (int, float, str)) else value.strftime("%Y:%m:%d %H:%M:%S")


def _thumbnail(raw: Any) -> bytes:
    """The first 64 KiB of the embedded JPEG, in which its EXIF lies; b'' where there is none."""
    with suppress(rawpy.LibRawError):
        thumbnail = raw.extract_thumb()
        if thumbnail.format == rawpy.ThumbFormat.JPEG:
            return bytes(thumbnail.data[: 2**16])
    return b""


def main() -> None:
    """Develop stdin to stdout; what LibRaw refuses is told in the line, as `error`."""
    try:
        said, pixels = develop(sys.stdin.buffer.read(), Request(**json.loads(sys.argv[1])))
    except (rawpy.LibRawError, MemoryError, ValueError) as error:
        message = error.args[0] if error.args else type(error).__name__
        said, pixels = {"error": message.decode() if isinstance(message, bytes) else str(message)}, None
    sys.stdout.buffer.write(json.dumps(said).encode() + b"\n")
    if pixels is not None:
        sys.stdout.buffer.write(np.ascontiguousarray(pixels).data)


if __name__ == "__main__":
    main()
