"""What goes wrong with one picture, as an error that a person can read."""

from __future__ import annotations

from ..device import is_out_of_memory
from ..errors import PictureError, RngError
from ..inference.recovery import too_large


def failure(error: BaseException) -> RngError:
    """Any failure of one picture with a cause and a remedy: a defect of rng must not stop a batch either."""
    if isinstance(error, RngError):
        return error
    if is_out_of_memory(error):
        return too_large()
    if isinstance(error, OSError) and error.strerror:
        return PictureError(f"{error.filename or 'the file'}: {error.strerror}", "check its name and its rights")
    told = PictureError(f"unexpected {type(error).__name__}: {error}", "please report it")
    told.__cause__ = error
    return told
