"""Files that appear whole or not at all: at every moment there is the old file or the new one."""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import EnvironmentFault

PART_PREFIX, PART_SUFFIX = ".rng-", ".part"  # names of unfinished files; a killed run may leave one behind

TRIES, PAUSE = 5, 0.05  # [s] between them, where a folder goes while a file is written into it


def part_of(path: Path) -> Path:
    """An unused name for an unfinished file in the same folder, so that a rename can put it in place of `path`."""
    return path.with_name(f"{PART_PREFIX}{secrets.token_hex(8)}{PART_SUFFIX}")


@contextmanager
def whole(path: Path, put: Callable[[Path, Path], None] = os.replace) -> Iterator[Path]:
    """A file to write to; at the end it is forced to the disk and replaces `path`; it is removed where anything failed.

    Folders are made. EnvironmentFault where the disk refuses, with the system's OSError as its `__cause__`.
    `put(part, path)` brings the finished file into its place.
    """
    part = part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # O_EXCL and 0o666 rather than mkstemp: the file must get the rights that any new file of the user gets.
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            yield part
            with part.open("r+b") as file:
                os.fsync(file.fileno())
            put(part, path)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
    except (OSError, RuntimeError) as error:
        refused = _refusal(error)
        if refused is None:
            raise
        # A file exists where the folder would be made: the system says only that.
        reason = "a file is in its folder's place" if refused.errno == errno.EEXIST else refused.strerror
        raise EnvironmentFault(f"{path} cannot be written ({reason})", "check the disk and its rights") from refused


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data` in one instant. Raises EnvironmentFault as `whole` does."""
    _write(path, data, os.replace)


def write_new(path: Path, data: bytes) -> bool:
    """Make the file at `path` in one instant; False, and nothing is replaced, where something is there already."""
    made = False

    def put(part: Path, path: Path) -> None:
        nonlocal made
        made = _put_new(part, path)

    _write(path, data, put)
    return made


class GrowingFile:
    """A file written piece by piece, by `file`, and then put in its place in one instant, or never was.

    Raises EnvironmentFault as `whole` does. Either `put` or `abandon` must end it.
    """

    def __init__(self, path: Path, new: bool) -> None:
        """new: nothing that is at `path` by then may be replaced."""
        self._made = True
        self._whole = whole(path, self._put_new if new else os.replace)
        self.part = self._whole.__enter__()
        self.file = self.part.open("w+b")

    def _put_new(self, part: Path, path: Path) -> None:
        self._made = _put_new(part, path)

    def put(self) -> bool:
        """Put it in its place, once; False, and nothing is replaced, where it was to be new and something is there."""
        self.file.close()
        self._whole.__exit__(None, None, None)
        return self._made

    def abandon(self, error: BaseException) -> BaseException:
        """Remove it after an error; that error, as EnvironmentFault where the disk is to blame."""
        try:
            self.file.close()
            self._whole.__exit__(type(error), error, error.__traceback__)
        except (EnvironmentFault, OSError) as fault:
            return fault
        return error


def _write(path: Path, data: bytes, put: Callable[[Path, Path], None]) -> None:
    for left in reversed(range(TRIES)):
        try:
            with whole(path, put) as part:
                part.write_bytes(data)
            return
        except EnvironmentFault as fault:
            # Its folder was removed in this moment; it is made again.
            if not left or not isinstance(fault.__cause__, FileNotFoundError):
                raise
            time.sleep(PAUSE)


def _put_new(part: Path, path: Path) -> bool:
    """Two who try this at once never both succeed: a link, unlike a rename, replaces nothing."""
    try:
        os.link(part, path)
    except FileExistsError:
        part.unlink()
        return False
    except FileNotFoundError:
        raise
    except OSError:  # a disk without links, as cameras' and sticks' are: what turns up in this moment is lost
        if os.path.lexists(path):
            part.unlink()
            return False
        os.replace(part, path)
        return True
    part.unlink()
    return True


def remove_parts(folder: Path, age: float = 0.0) -> bool:
    """Remove what killed runs left in `folder` that is older than `age` [s]; whether there is any that is younger."""
    younger = False
    with suppress(OSError), os.scandir(folder) as found:
        for entry in found:
            if not (entry.name.startswith(PART_PREFIX) and entry.name.endswith(PART_SUFFIX)):
                continue
            if time.time() - entry.stat().st_mtime >= age:
                os.unlink(entry)
            else:
                younger = True
    return younger


def _refusal(error: BaseException | None) -> OSError | None:
    """The system's own error: torch.save raises a RuntimeError in its place, and keeps it as the context."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error
