"""rng: reconstruct-and-generate denoising of photographs, in batches."""

__version__ = "0.1.0"
