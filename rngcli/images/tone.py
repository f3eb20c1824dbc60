"""Stored values of any curve and any range as the code values in [0, 1] that the networks know, and exactly back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rngcli.images.spaces import SRGB_CURVE, Curve

_LEAST_SLOPE = 0.25  # so that black, too, comes back from float32, and with no more than four times a network's error
_WHITE = 0.7  # diffuse white lies here or above, however bright the highlights are
LINEAR = Curve()


@dataclass(frozen=True)
class ToneMap:
    """How one picture's values become pixels: a unit and a curve for each channel, then a shoulder and a shift.

    `units` are the stored values of diffuse white. The code values from `low` to `high` become 0 to 1: up to diffuse
    white in proportion, above it by their logarithm, so that a network's error is a share of a highlight, not of the
    brightest one.
    """

    curves: tuple[Curve | None, Curve | None, Curve | None] = (None, None, None)  # None: perceptual already
    units: tuple[float, float, float] = (1.0, 1.0, 1.0)
    low: float = 0.0
    high: float = 1.0

    @classmethod
    def of_light(cls, units: tuple[float, float, float]) -> ToneMap:
        """For values in proportion to light."""
        return cls((LINEAR,) * 3, units)

    def coded(self, stored: np.ndarray) -> np.ndarray:
        """(3, N) float64 stored values as code values like sRGB's, 1 for diffuse white."""
        scaled = stored / np.array(self.units)[:, None]
        return np.stack([_coded(values, curve) for values, curve in zip(scaled, self.curves, strict=True)])

    def encode(self, stored: np.ndarray) -> np.ndarray:
        """(3, N) float64 stored values as pixels in [0, 1]."""
        code = self.coded(stored)
        if (self.low, self.high) == (0, 1):
            return code
        bottom = self._shoulder(np.array(self.low))
        return (self._shoulder(code) - bottom) / (1 - bottom)

    def decode(self, pixels: np.ndarray) -> np.ndarray:
        """(3, N) float64 pixels as stored values: the inverse of `encode`."""
        code = pixels
        if (self.low, self.high) != (0, 1):
            bottom = self._shoulder(np.array(self.low))
            code = self._straightened(pixels * (1 - bottom) + bottom)
        stored = [_decoded(values, curve) for values, curve in zip(code, self.curves, strict=True)]
        return np.stack(stored) * np.array(self.units)[:, None]

    @property
    def _stops(self) -> tuple[float, float]:
        """Where diffuse white lies, and the logarithm of the largest code value over it."""
        height = float(np.log(max(self.high, -self.low)))
        return max(_WHITE, 1 / (1 + height)), height

    def _shoulder(self, code: np.ndarray) -> np.ndarray:
        white, height = self._stops
        size = np.abs(code)
        above = white + (1 - white) / (height or 1.0) * np.log(np.maximum(size, 1))
        return np.copysign(np.where(size > 1, above, white * size), code)

    def _straightened(self, value: np.ndarray) -> np.ndarray:
        white, height = self._stops
        size = np.abs(value)
        above = np.exp(height * np.maximum(size - white, 0) / max(1 - white, 1e-9))
        return np.copysign(np.where(size > white, above, size / white), value)


def _coded(values: np.ndarray, curve: Curve | None) -> np.ndarray:
    if curve is None:
        return values
    code = SRGB_CURVE.code(curve.linear(values))
    return np.copysign(np.maximum(np.abs(code), _LEAST_SLOPE * np.abs(values)), values)


def _decoded(code: np.ndarray, curve: Curve | None) -> np.ndarray:
    if curve is None:
        return code
    values = curve.code(SRGB_CURVE.linear(code))
    return np.copysign(np.minimum(np.abs(values), np.abs(code) / _LEAST_SLOPE), code)
