"""A process of its own around LibRaw: a raw file on stdin, one line of JSON and the developed picture on stdout.

LibRaw is native code that meets hostile files; if it dies or hangs, it must not take a batch of ten thousand with it.
Run by `raw`, as `python -m rngcli.images.libraw OPTIONS`, a `DevelopOptions` as JSON.
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

from rngcli.images.mosaic import mosaic_noise, replace_hot_pixels

_WIDEST = 65535
_LEAST_HOT = 1 / 500  # of full scale
# As sRGB's curve shows it. Above it AHD, which raw developers use, follows the noise: of photographs with 24 to 34 dB,
# one to three dB more are left after the denoising if DHT has demosaiced them.
_NOISY = 1 / 255
# Colour space, and (power, slope of the toe; 0: none) as LibRaw takes them; its default curve is BT.709's.
_SPACES = {
    "srgb": (rawpy.ColorSpace.sRGB, (2.4, 12.92)),
    "p3": (rawpy.ColorSpace.P3D65, (2.4, 12.92)),
    "prophoto": (rawpy.ColorSpace.ProPhoto, (1.8, 0)),
}


@dataclass(frozen=True)
class DevelopOptions:
    """What is wanted of a raw file; the fields are those of `ReadOptions`."""

    max_pixels: int
    bright: bool = False
    space: str = "srgb"
    linear: bool = False
    keep_hot_pixels: bool = False


def develop(data: bytes, options: DevelopOptions) -> tuple[dict[str, Any], np.ndarray | None]:
    """What LibRaw says of a raw file, and its picture, (H, W, 3 or 1) uint16; None where it has too many pixels."""
    with rawpy.imread(io.BytesIO(data)) as raw:
        said: dict[str, Any] = {"width": raw.sizes.iwidth, "height": raw.sizes.iheight}
        if said["width"] * said["height"] > options.max_pixels:
            return said, None
        said |= {"exposure": _exposure(raw), "thumbnail": _thumbnail(raw).hex(), "hot": 0}
        if not options.keep_hot_pixels and _is_bayer(raw):
            least = round(_LEAST_HOT * (_white_level(raw) or raw.white_level))
            said["hot"] = replace_hot_pixels(raw.raw_image_visible, max(1, least))
        flip = raw.sizes.flip  # forgotten when it is developed
        pixels = _linear(raw, data, said) if options.linear else _upright(_finished(raw, options), flip)
        return said | {"height": pixels.shape[0], "width": pixels.shape[1], "channels": pixels.shape[2]}, pixels


def _finished(raw: Any, options: DevelopOptions) -> np.ndarray:
    """Camera white balance; no automatic exposure unless `bright`, so that the frames of a series stay comparable."""
    space, gamma = _SPACES[options.space]
    balance: dict[str, Any] = {"user_wb": [1.0] * 4} if raw.num_colors == 1 else {"use_camera_wb": True}
    pixels = raw.postprocess(
        no_auto_bright=not options.bright,
        adjust_maximum_thr=0.0,
        output_bps=16,
        output_color=space,
        gamma=gamma,
        user_sat=_white_level(raw),
        user_flip=0,
        **balance,
    )
    top, left, height, width = _crop(raw, pixels)
    return pixels[top : top + height, left : left + width]


def _crop(raw: Any, pixels: np.ndarray) -> tuple[int, int, int, int]:
    """The camera's own frame in what LibRaw sees of the sensor: top, left, height, width [px]; all where none is."""
    sizes = raw.sizes
    top, left = sizes.crop_top_margin - sizes.top_margin, sizes.crop_left_margin - sizes.left_margin
    height, width = sizes.crop_height, sizes.crop_width
    stretched = pixels.shape[:2] != (sizes.height, sizes.width)
    inside = 0 <= top <= sizes.height - height and 0 <= left <= sizes.width - width
    if stretched or not inside or 2 * height < sizes.height or 2 * width < sizes.width:
        return 0, 0, *pixels.shape[:2]
    return top, left, height, width


def _upright(pixels: np.ndarray, flip: int) -> np.ndarray:
    """Turned by LibRaw's code: 1, columns mirrored; 2, rows mirrored; 4, then transposed."""
    pixels = pixels[:: -1 if flip & 2 else 1, :: -1 if flip & 1 else 1]
    return pixels.swapaxes(0, 1) if flip & 4 else pixels


def _linear(raw: Any, data: bytes, said: dict[str, Any]) -> np.ndarray:
    """White-balanced camera RGB, linear, neither turned nor cropped, and in `said` what is needed to understand it.

    LibRaw does nothing but demosaic: it would clip the noise below black, which then is no black, and the highlights.
    So the samples are balanced beforehand, and black and the brightest of them put inside of its 16 bits.
    """
    if raw.num_colors not in (1, 3) or raw.raw_image is None:
        raise ValueError(f"{raw.num_colors} colours of a kind of which no linear DNG can be made")
    gains = _gains(raw, data)
    balanced = _balanced(raw, gains)
    low, high = min(0.0, float(balanced.min())), float(balanced.max())
    light = (balanced - low) * (_WIDEST / max(high - low, 1e-6))
    said |= {"low": low, "high": high, "gains": gains[:3].tolist(), "flip": raw.sizes.flip}
    said["matrix"] = raw.rgb_xyz_matrix[:3].tolist()
    if _is_mosaic(raw) and raw.num_colors == 3:
        raw.raw_image_visible[:] = np.rint(light)
        pixels = _demosaiced(raw, noisy=_is_bayer(raw) and mosaic_noise(balanced) > _NOISY)
    else:
        pixels = np.rint(light).astype(np.uint16).reshape(*light.shape[:2], -1)
    said["crop"] = _crop(raw, pixels)
    return pixels


def _demosaiced(raw: Any, noisy: bool) -> np.ndarray:
    return raw.postprocess(
        demosaic_algorithm=rawpy.DemosaicAlgorithm.DHT if noisy else None,
        output_color=rawpy.ColorSpace.raw,
        output_bps=16,
        gamma=(1, 1),
        user_wb=[1.0] * 4,
        user_black=0,
        user_cblack=[0] * 4,
        user_sat=_WIDEST,
        user_flip=0,
        no_auto_scale=True,
        no_auto_bright=True,
        adjust_maximum_thr=0.0,
    )


def _is_mosaic(raw: Any) -> bool:
    return raw.raw_type == rawpy.RawType.Flat and raw.raw_image is not None


def _is_bayer(raw: Any) -> bool:
    return _is_mosaic(raw) and np.shape(raw.raw_pattern) == (2, 2)


def _gains(raw: Any, data: bytes) -> np.ndarray:
    """(4,) multipliers that make white of the camera's white, or of what LibRaw finds it to be; the smallest is 1."""
    if raw.num_colors == 1:
        return np.ones(4)
    gains = np.array(raw.camera_whitebalance, np.float64)
    if gains[:3].min() <= 0:
        with rawpy.imread(io.BytesIO(data)) as other:  # developing changes what is said of the samples
            other.postprocess(use_camera_wb=True, half_size=True)
            gains = np.array(other.auto_whitebalance, np.float64)  # those of this development, whatever they are of
    gains[3] = gains[3] if gains[3] > 0 else gains[1]
    return gains / gains[:3].min()


def _balanced(raw: Any, gains: np.ndarray) -> np.ndarray:
    """The samples, (H, W) or (H, W, 3) float32: black 0, white 1, then the gains."""
    black = np.array(raw.black_level_per_channel, np.float32)
    scale = (gains / np.maximum((_white_level(raw) or raw.white_level) - black, 1)).astype(np.float32)
    samples = raw.raw_image_visible
    if not _is_mosaic(raw):
        return (samples[..., :3] - black[:3]) * scale[:3]
    if raw.num_colors == 1:
        return (samples - black[0]) * scale[0]
    colours = raw.raw_colors_visible
    return (samples - black[colours]) * scale[colours]


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
        said, pixels = develop(sys.stdin.buffer.read(), DevelopOptions(**json.loads(sys.argv[1])))
    except (rawpy.LibRawError, MemoryError, ValueError) as error:
        message = error.args[0] if error.args else type(error).__name__
        said, pixels = {"error": message.decode() if isinstance(message, bytes) else str(message)}, None
    sys.stdout.buffer.write(json.dumps(said).encode() + b"\n")
    if pixels is not None:
        sys.stdout.buffer.write(np.ascontiguousarray(pixels).data)


if __name__ == "__main__":
    main()
