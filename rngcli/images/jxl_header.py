"""The header of a JPEG XL codestream (ISO 18181-1, annex D), read and written: size, bits, channels and colours.

By hand, since imagecodecs tells nothing of it, and calls everything linear sRGB that has more than 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from rngcli.errors import PictureError
from rngcli.images.chromaticity import BT709, BT2020, D65, P3, XY

_SHAPES = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width to height, from 1 on
_RGB, _GREY, _CUSTOM = 0, 1, 2
_ALPHA, _SPOT, _FILTER_ARRAY = 0, 2, 5  # kinds of extra channels
_WHITES: dict[int, XY] = {1: D65, 10: (1 / 3, 1 / 3), 11: (0.314, 0.351)}
_PRIMARIES = {1: BT709, 9: BT2020, 11: P3}
SRGB, PQ, HLG = 13, 16, 18  # transfers by their numbers in ITU-T H.273
_BRIGHTEST = {PQ: 0x70E2, HLG: 0x63D0}  # 10000 and 1000 cd/m², as halves
# How U32 numbers are told: two bits choose (what is added, to how many further bits).
_SIDE, _ENUM = ((1, 9), (1, 13), (1, 18), (1, 30)), ((0, 0), (1, 0), (2, 4), (18, 6))
_DEPTH, _FLOAT_DEPTH = ((8, 0), (10, 0), (12, 0), (1, 6)), ((32, 0), (16, 0), (24, 0), (1, 6))
_XY, _CHANNELS = ((0, 19), (524288, 19), (1048576, 20), (2097152, 21)), ((0, 0), (1, 0), (2, 4), (1, 12))
_SHIFT, _NAME = ((0, 0), (3, 0), (4, 0), (1, 3)), ((0, 0), (0, 4), (16, 5), (48, 10))
_FILTER = ((1, 0), (0, 2), (3, 4), (19, 8))
_Ways = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Colours:
    """White and primaries (CIE xy); `transfer` is a number of ITU-T H.273, or a curve's exponent as a float."""

    grey: bool = False
    white: XY = D65
    primaries: tuple[XY, XY, XY] = BT709
    transfer: int | float = SRGB


@dataclass(frozen=True)
class Header:
    """What a codestream says of its picture; `profiled` where an ICC profile within says what its colours are."""

    width: int
    height: int
    bits: int = 8
    floats: bool = False
    alpha: bool = False
    alpha_bits: tuple[bool, int] = (False, 8)
    premultiplied: bool = False
    animated: bool = False
    lossless: bool = False
    profiled: bool = False
    narrow: bool = True  # 16 bits do for the decoder's own integers
    colours: Colours = field(default_factory=Colours)
    end: int = 0  # bytes of the header


class _Bits:
    """The bits of a codestream, the lowest of each byte first."""

    def __init__(self, data: bytes = b"") -> None:
        self.number, self.size, self.at = int.from_bytes(data, "little"), 8 * len(data), 0

    def take(self, count: int) -> int:
        self.at += count
        if self.at > self.size:
            raise PictureError("a JPEG XL whose header ends too early", "the file is truncated")
        return self.number >> (self.at - count) & ((1 << count) - 1)

    def flag(self) -> bool:
        return bool(self.take(1))

    def choice(self, ways: _Ways) -> int:
        offset, count = ways[self.take(2)]
        return offset + self.take(count)

    def xy(self) -> XY:
        x, y = (self.choice(_XY) for _ in "xy")
        return (x >> 1 ^ -(x & 1)) / 1e6, (y >> 1 ^ -(y & 1)) / 1e6

    def put(self, value: int, count: int = 1) -> None:
        self.number |= int(value) << self.at
        self.at += count

    def put_choice(self, value: int, ways: _Ways) -> None:
        number = next(n for n, (offset, count) in enumerate(ways) if 0 <= value - offset < 1 << count)
        self.put(number, 2)
        self.put(value - ways[number][0], ways[number][1])

    def put_xy(self, point: XY) -> None:
        for value in point:
            whole = round(value * 1e6)
            self.put_choice(2 * whole if whole >= 0 else -2 * whole - 1, _XY)


def read_header(stream: bytes) -> Header:
    """The header of a codestream, with the two bytes of its mark."""
    bits = _Bits(stream)
    bits.take(16)
    header = Header(*_size(bits))
    header = header if bits.flag() else _described(bits, header)
    return replace(header, end=(bits.at + 1 + 7) // 8)  # one more bit: the transform, by default


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.flag()
    height = 8 * (bits.take(5) + 1) if small else bits.choice(_SIDE)
    shape = bits.take(3)
    if shape:
        return height * _SHAPES[shape - 1][0] // _SHAPES[shape - 1][1], height
    return (8 * (bits.take(5) + 1) if small else bits.choice(_SIDE)), height


def _described(bits: _Bits, header: Header) -> Header:
    extra = bits.flag()
    if extra:
        bits.take(3)  # orientation, which the decoder honours
        if bits.flag():
            _size(bits)  # as which it means to be shown
        if bits.flag():
            raise PictureError("a JPEG XL with a preview", "convert it to TIFF or PNG first")
        if bits.flag():
            return replace(header, animated=True)
    floats, depth = _sample(bits)
    header = replace(header, floats=floats, bits=depth, narrow=bits.flag())
    for _ in range(bits.choice(_CHANNELS)):
        header = _with_channel(bits, header)
    header = replace(header, lossless=not bits.flag())
    header = _coloured(bits, header)
    if extra and not bits.flag():
        bits.take(49)  # tone mapping
    bits.take(2)  # extensions: none
    return header


def _sample(bits: _Bits) -> tuple[bool, int]:
    floats = bits.flag()
    depth = bits.choice(_FLOAT_DEPTH if floats else _DEPTH)
    bits.take(4 if floats else 0)
    return floats, depth


def _with_channel(bits: _Bits, header: Header) -> Header:
    if bits.flag():  # all is default: straight alpha of 8 bit
        return replace(header, alpha=True)
    kind, depth = bits.choice(_ENUM), _sample(bits)
    bits.choice(_SHIFT)
    bits.take(8 * bits.choice(_NAME))
    if kind == _ALPHA:
        return replace(header, alpha=True, alpha_bits=depth, premultiplied=bits.flag())
    bits.take(64 if kind == _SPOT else 0)
    if kind == _FILTER_ARRAY:
        bits.choice(_FILTER)
    return header


def _coloured(bits: _Bits, header: Header) -> Header:
    if bits.flag():
        return header
    profiled, space = bits.flag(), bits.choice(_ENUM)
    colours = Colours(grey=space == _GREY)
    if profiled:
        return replace(header, profiled=True, colours=colours)
    if space not in (_RGB, _GREY):
        raise PictureError("a JPEG XL in colours that are not RGB", "convert it to RGB first")
    white = bits.choice(_ENUM)
    colours = replace(colours, white=bits.xy() if white == _CUSTOM else _WHITES[white])
    if not colours.grey:
        primaries = bits.choice(_ENUM)
        custom = primaries == _CUSTOM
        colours = replace(colours, primaries=(bits.xy(), bits.xy(), bits.xy()) if custom else _PRIMARIES[primaries])
    transfer = 1e7 / max(1, bits.take(24)) if bits.flag() else bits.choice(_ENUM)
    bits.choice(_ENUM)  # rendering intent
    return replace(header, colours=replace(colours, transfer=transfer))


def write_header(header: Header) -> bytes:
    """The header of a codestream, with the two bytes of its mark."""
    bits = _Bits()
    bits.put(0x0AFF, 16)
    bits.put(0)
    bits.put_choice(header.height, _SIDE)
    bits.put(0, 3)
    bits.put_choice(header.width, _SIDE)
    brightest = _BRIGHTEST.get(header.colours.transfer, 0)  # type: ignore[arg-type]
    bits.put(0)
    bits.put(bool(brightest))
    bits.put(0, 6 if brightest else 0)  # upright, no other size, no preview, no animation
    _put_sample(bits, header.floats, header.bits)
    bits.put(header.narrow)
    bits.put_choice(int(header.alpha), _CHANNELS)
    if header.alpha:
        bits.put(0)
        bits.put_choice(_ALPHA, _ENUM)
        _put_sample(bits, *header.alpha_bits)
        bits.put(0, 4)  # of full size, without a name
        bits.put(header.premultiplied)
    bits.put(not header.lossless)
    _put_colours(bits, header.colours)
    if brightest:
        bits.put(0)
        bits.put(brightest, 49)
    bits.put(0b100, 3)  # no extensions; the transform by default
    return bits.number.to_bytes((bits.at + 7) // 8, "little")


def _put_sample(bits: _Bits, floats: bool, depth: int) -> None:
    bits.put(floats)
    bits.put_choice(depth, _FLOAT_DEPTH if floats else _DEPTH)
    bits.put(7 if floats else 0, 4 if floats else 0)  # exponents of 8 bit


def _put_colours(bits: _Bits, colours: Colours) -> None:
    bits.put(0, 2)  # not by default, no profile
    bits.put_choice(_GREY if colours.grey else _RGB, _ENUM)
    named = next((number for number, white in _WHITES.items() if white == colours.white), _CUSTOM)
    bits.put_choice(named, _ENUM)
    if named == _CUSTOM:
        bits.put_xy(colours.white)
    named = next((number for number, corners in _PRIMARIES.items() if corners == colours.primaries), _CUSTOM)
    if not colours.grey:
        bits.put_choice(named, _ENUM)
        for point in colours.primaries if named == _CUSTOM else ():
            bits.put_xy(point)
    bits.put(isinstance(colours.transfer, float))
    if isinstance(colours.transfer, float):
        bits.put(round(1e7 / colours.transfer), 24)
    else:
        bits.put_choice(colours.transfer, _ENUM)
    bits.put_choice(1, _ENUM)  # rendering intent: relative colorimetric
