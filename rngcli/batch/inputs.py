"""Which files a run is about: pictures named, listed or below IN, their places below OUT, and what became of them."""

from __future__ import annotations

import glob
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import NoInputError, RngError, UsageError
from ..images import FORMAT_OF_SUFFIX, READABLE_SUFFIXES, Format, output_suffix
from ..images.walk import pictures_below


@dataclass(frozen=True)
class Naming:
    """How outputs are called: `suffix` goes before the dot; `format` None keeps the source's, RAW becomes TIFF."""

    suffix: str = ""
    format: Format | None = None

    def __post_init__(self) -> None:
        if "/" in self.suffix or os.sep in self.suffix:
            raise UsageError(f"--suffix {self.suffix!r} holds a slash", "folders are named by OUT")

    def of(self, name: Path) -> Path:
        """The output's name for an input's, both relative; what has no picture's suffix keeps its whole name."""
        known = name.suffix.lower() in READABLE_SUFFIXES
        stem, ending = (name.stem, name.suffix) if known else (name.name, "")
        return name.with_name(f"{stem}{self.suffix}{output_suffix(ending, self.format)}")


@dataclass(frozen=True)
class Task:
    """One picture to denoise; `name` is its path below IN, which is also how a person is told of it.

    `fresh`: nothing was at the target when the run was planned, so nothing that turns up there may be replaced.
    """

    name: str
    source: Path
    target: Path
    fresh: bool = False

    def step_map(self, folder: Path) -> Path:
        """Where its step map goes; with the picture's whole name, since a.jpg and a.png may lie side by side."""
        return folder / f"{self.name}.steps.png"


@dataclass(frozen=True)
class Outcome:
    """What became of one picture; `error` is None where its output is on disk, whole."""

    task: Task
    error: RngError | None = None
    megapixels: float = 0.0
    steps: float = 0.0  # mean evaluations of the generator a tile
    seconds: float = 0.0
    scores: Mapping[str, float | None] = field(default_factory=dict)  # None: could not be had
    notes: tuple[str, ...] = ()


def parse_list(data: bytes, nul: bool) -> list[Path]:
    """The names in a list of one a line, or, with `nul`, each ended by a NUL, as `find -print0` gives them."""
    names = data.split(b"\0") if nul else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    if not nul and b"\0" in data:
        raise UsageError("the names in the list are ended by NULs", "add -0")
    return [Path(os.fsdecode(name)) for name in names if name]


def plan(
    sources: Sequence[Path], out: Path, naming: Naming = Naming(), listed: Sequence[Path] = ()
) -> list[Task]:
    """The tasks for pictures, folders and globs (`sources`) and the files of a list, in the order given.

    Below OUT, a folder's pictures keep their places below that folder, single ones their names, and listed ones the
    paths that the list gives them. Raises UsageError where IN is OUT, or two inputs would write the same output, or an
    output is an input; NoInputError where there is no picture.
    """
    sources = [path for source in sources for path in _expanded(source)]
    for source in sources:
        if out.exists() and source.samefile(out):
            raise UsageError("IN and OUT are the same", "give another OUT; inputs are never changed")
    if len(sources) == 1 and not listed and sources[0].is_file() and _names_a_picture(out):
        tasks = [Task(sources[0].name, sources[0], _checked(out, naming))]
    elif out.is_file():
        raise UsageError(f"OUT, {out}, is a file", "give a folder for OUT, as the last argument or with --out")
    else:
        found = [pair for source in sources for pair in _below(source, out)]
        found += [(_place(name), name) for name in listed]
        tasks = [Task(str(name), source, out / naming.of(name)) for name, source in dict.fromkeys(found)]
    if not tasks:
        where = ", ".join(str(source) for source in sources) or "the list"
        raise NoInputError(f"no picture in {where}", f"rng reads {', '.join(sorted(FORMAT_OF_SUFFIX))} and camera RAW")
    return _without_collisions(tasks)


def manifest_folder(tasks: Sequence[Task], out: Path) -> Path:
    """Where the manifest of a run lies: OUT, or the folder of the single picture that OUT names."""
    names_one = len(tasks) == 1 and tasks[0].target == out
    return out.absolute().parent if names_one and not out.is_dir() else out


def _expanded(source: Path) -> list[Path]:
    """A glob that no shell has expanded; anything else as it is."""
    if os.path.lexists(source):
        return [source]
    found = [Path(name) for name in sorted(glob.glob(str(source), recursive=True))]
    if not found:
        raise NoInputError(f"{source} does not exist", "give a picture or a folder of pictures")
    return found


def _names_a_picture(out: Path) -> bool:
    return out.suffix.lower() in FORMAT_OF_SUFFIX and not out.is_dir()


def _checked(out: Path, naming: Naming) -> Path:
    if naming.suffix or naming.format not in (None, FORMAT_OF_SUFFIX[out.suffix.lower()]):
        raise UsageError(f"OUT, {out}, already names the output", "leave out --suffix and --format, or give a folder")
    return out


def _below(source: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    """(place below OUT, picture) for a folder or a picture."""
    if not source.is_dir():
        yield Path(source.name), source
        return
    for picture in pictures_below(source, leave_out=out):
        yield picture.relative_to(source), picture


def _place(name: Path) -> Path:
    """Where a listed picture goes: as tar and rsync do it, by its path as listed, without the root."""
    place = Path(os.path.normpath(name))
    place = place.relative_to(place.anchor)
    if ".." in place.parts:
        raise UsageError(f"{name} is listed from a folder below", "list absolute names, or run rng further up")
    return place


def keep_apart(tasks: Sequence[Task], step_maps: Path) -> None:
    """UsageError where a step map would replace a picture that is read or written."""
    pictures = {_on_disk(path) for task in tasks for path in (task.source, task.target)}
    for task in tasks:
        if _on_disk(path := task.step_map(step_maps)) in pictures:
            raise UsageError(f"the step map of {task.name} would replace {path}", "give another folder for --step-map")


def _without_collisions(tasks: Iterable[Task]) -> list[Task]:
    writers: dict[str, Task] = {}
    tasks = list(tasks)
    sources = {os.path.realpath(task.source) for task in tasks}
    for task in tasks:
        target = os.path.realpath(task.target)
        if target in sources:
            raise UsageError(f"{task.name} would overwrite an input, {target}", "give an OUT outside IN")
        other = writers.setdefault(_on_disk(task.target), task)
        if other.source != task.source and os.path.realpath(other.source) != os.path.realpath(task.source):
            raise UsageError(
                f"{other.source} and {task.source} would both write {task.target}", "rename one, or run them apart"
            )
    return list(writers.values())


def _on_disk(path: Path) -> str:
    """What is the same for two names of one file; without case and composition, which many disks do not regard."""
    return unicodedata.normalize("NFC", os.path.realpath(path)).casefold()
