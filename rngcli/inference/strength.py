"""How much of the noise is taken away: the result drawn towards its input, in brightness and in colour apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # of the channels in Y' (ITU-R BT.709)
_BAND = 256  # [rows] blended at once, so that a large picture needs no further copies of itself


@dataclass(frozen=True)
class Strength:
    """Shares of what denoising changes that are kept, in [0, 1]: of brightness Y', and of what is left, the colour."""

    luma: float = 1.0
    chroma: float = 1.0

    @property
    def full(self) -> bool:
        """Whether nothing is given back."""
        return self.luma == self.chroma == 1

    def blended(self, noisy: np.ndarray, clean: np.ndarray) -> np.ndarray:
        """noisy + luma·Y'(clean − noisy) + chroma·(the rest of it), (H, W, 3) float32 in [0, 1] each; full: `clean`.

        In the pixels' own curve, which is like sRGB's: there noise is about as strong in shadows as in lights, and a
        blend keeps the mean tone that both have. In linear light that of the lights would outweigh all else.
        """
        if self.full:
            return clean
        out = np.empty_like(clean)
        for top in range(0, len(out), _BAND):
            rows = slice(top, top + _BAND)
            change = clean[rows] - noisy[rows]
            brightness = (change @ LUMA)[..., None]
            kept = self.chroma * change + (self.luma - self.chroma) * brightness
            np.clip(noisy[rows] + kept, 0, 1, out=out[rows])
        return out
