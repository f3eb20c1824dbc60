"""Which files a run is about: pictures named, listed or below IN, their places below OUT, and what became of them."""

from __future__ import annotations

import codecs
import glob
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import NoInputError, PictureError, RngError, UsageError
from ..images import FORMAT_OF_SUFFIX, RAW_SUFFIXES, READABLE_SUFFIXES, Format, output_suffix
from ..images.walk import OTHER_SUFFIXES, walk, written_by_rng


@dataclass(frozen=True)
class Naming:
    """How outputs are called: `suffix` goes before the dot; `format` None keeps the source's, RAW becomes TIFF."""

    suffix: str = ""
    format: Format | None = None

    def __post_init__(self) -> None:
        if "/" in self.suffix or os.sep in self.suffix:
            raise UsageError(f"--suffix {self.suffix!r} holds a slash", "folders are named by OUT")

    def of(self, name: Path, whole: bool = False) -> Path:
        """The output's name for an input's, both relative; what has no picture's suffix keeps its whole name.

        So does, with `whole`, any: a.nef becomes a.nef.tif where a.jpg would become a.tif as well.
        """
        known = name.suffix.lower() in READABLE_SUFFIXES
        ending = output_suffix(name.suffix if known else "", self.format)
        stem = name.name if whole or not known else name.stem
        return name.with_name(f"{stem}{self.suffix}{ending}")


@dataclass(frozen=True)
class Task:
    """One picture to denoise; `name` is its path below IN, which is also how a person is told of it.

    `fresh`: nothing was at the target when the run was planned, so nothing that turns up there may be replaced.
    """

    name: str
    source: Path
    target: Path
    fresh: bool = False

    def step_map(self, folder: Path, page: int = 0) -> Path:
        """Where its step map goes; with the picture's whole name, since a.jpg and a.png may lie side by side.

        Those of further pages, counted from 0, are called a.tif.2.steps.png and so on.
        """
        return folder / f"{self.name}{f'.{page + 1}' if page else ''}.steps.png"


@dataclass(frozen=True)
class Outcome:
    """What became of one picture; where `error` is None its output is on disk, whole.

    `before`: an earlier run, or another one at the same time, has made it; its figures are what the manifest knows.
    """

    task: Task
    error: RngError | None = None
    megapixels: float = 0.0
    steps: float = 0.0  # mean evaluations of the generator a tile
    seconds: float = 0.0
    sigma: float | None = None  # estimated standard deviation of the source's noise, 0..255; None: not known
    scores: Mapping[str, float | None] = field(default_factory=dict)  # None: could not be had
    input_scores: Mapping[str, float | None] = field(default_factory=dict)  # of the source itself
    detail_map: tuple[str, ...] = ()  # how much detail each tile got, 0..f; a string a row of tiles
    notes: tuple[str, ...] = ()
    before: bool = False
    pages: int = 1


@dataclass(frozen=True)
class Inputs:
    """What a run is about: its tasks, what is refused of it before it begins, and what was passed over, by kind.

    `folder` is where its manifest lies.
    """

    tasks: list[Task]
    folder: Path
    refused: list[Outcome] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


def parse_list(data: bytes, nul: bool) -> list[Path]:
    """The names in a list of one a line, or, with `nul`, each ended by a NUL, as `find -print0` gives them.

    A list may begin with a byte order mark and be UTF-16, as Windows' editors and PowerShell write it.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        data = data.decode("utf-16", "surrogatepass").encode("utf-8", "surrogatepass")
    data = data.removeprefix(codecs.BOM_UTF8)
    names = data.split(b"\0") if nul else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    if not nul and b"\0" in data:
        raise UsageError("the names in the list are ended by NULs", "add -0")
    return [Path(os.fsdecode(name)) for name in names if name]


def plan(
    sources: Sequence[Path],
    out: Path,
    naming: Naming = Naming(),
    listed: Sequence[Path] = (),
    step_maps: Path | None = None,
) -> Inputs:
    """The tasks for pictures, folders and globs (`sources`) and the files of a list, in the order given.

    Below OUT, a folder's pictures keep their places below that folder, single ones their names, and listed ones the
    paths that the list gives them. Pictures of which several would have one output's name are refused, and folders that
    cannot be read; neither stops the others. What rng has written is no input.

    Raises UsageError where IN is OUT, or an output is an input; NoInputError where there is no picture.
    """
    sources = [path for source in sources for path in expanded(source)]
    for source in sources:
        if len(sources) == 1 and not listed and _same(source, out):
            raise UsageError("IN and OUT are the same", "give another OUT; inputs are never changed")
    found = _Found(out, [out, *filter(None, [step_maps])])
    if len(sources) == 1 and not listed and _names_a_picture(out) and not sources[0].is_dir():
        tasks, folder = [Task(sources[0].name, sources[0], checked(out, naming))], out.absolute().parent
    elif out.is_file():
        raise UsageError(f"OUT, {out}, is a file", "give a folder for OUT, as the last argument or with --out")
    else:
        _refuse_other_suffixes(out)
        found.look(sources)
        for name in listed:
            found.add(_place(name), name)
        tasks, folder = _named(found.pictures, out, naming), out
    if not tasks and not found.refused:
        where = ", ".join(str(source) for source in sources) or "the list"
        passed = f" ({told(found.passed_over)})" if found.passed_over else ""
        remedy = f"rng reads {', '.join(sorted(FORMAT_OF_SUFFIX))} and camera RAW"
        raise NoInputError(f"no picture in {where}{passed}", remedy)
    tasks, clashing = _without_collisions(tasks)
    return Inputs(tasks, folder, found.refused + clashing, found.passed_over)


def told(passed_over: Counter[str]) -> str:
    """4 passed over: 2 HEIC, 1 BMP, 1 made by rng."""
    return f"{passed_over.total()} passed over: {', '.join(f'{n} {kind}' for kind, n in passed_over.most_common())}"


class _Found:
    """The pictures of a run, each with its place below OUT, once."""

    def __init__(self, out: Path, leave_out: Sequence[Path]) -> None:
        self._out, self._leave_out = out, leave_out
        self.pictures: dict[tuple[Path, Path], None] = {}
        self.refused: list[Outcome] = []
        self.passed_over: Counter[str] = Counter()

    def look(self, sources: Sequence[Path]) -> None:
        """Take named pictures, and what lies below named folders; of several names, what OUT itself holds is left."""
        own = written_by_rng(self._out) if len(sources) > 1 else set()
        for source in sources:
            if os.path.realpath(source) in own or _same(source, self._out):
                self.passed_over["made by rng"] += 1
            elif source.is_dir():
                self._below(source)
            else:
                self.add(Path(source.name), source)

    def add(self, place: Path, source: Path) -> None:
        self.pictures[place, source] = None

    def _below(self, folder: Path) -> None:
        found = walk(folder, self._leave_out)
        for picture in found.pictures:
            self.add(picture.relative_to(folder), picture)
        for error in found.errors:
            self.refused.append(Outcome(Task(str(folder), folder, self._out), error))
        self.passed_over += found.passed_over


def _named(pictures: Iterable[tuple[Path, Path]], out: Path, naming: Naming) -> list[Task]:
    """Tasks with their outputs' names; where pictures of several formats would share one, only that stays which keeps
    its own suffix."""
    pictures = list(pictures)
    suffixes: defaultdict[Path, set[str]] = defaultdict(set)
    for place, _ in pictures:
        suffixes[naming.of(place)].add(place.suffix.lower())
    return [
        Task(str(place), source, out / naming.of(place, whole=_is_renamed(place, suffixes[naming.of(place)], naming)))
        for place, source in pictures
    ]


def _is_renamed(place: Path, suffixes: set[str], naming: Naming) -> bool:
    return len(suffixes) > 1 and naming.of(place).suffix != place.suffix


def expanded(source: Path) -> list[Path]:
    """A glob that no shell has expanded; anything else as it is. NoInputError where there is nothing of that name."""
    if os.path.lexists(source):
        return [source]
    found = [Path(name) for name in sorted(glob.glob(str(source), recursive=True))]
    if not found:
        raise NoInputError(f"{source} does not exist", "give a picture or a folder of pictures")
    return found


def _same(one: Path, other: Path) -> bool:
    """Whether both are one file or folder that is there."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def _names_a_picture(out: Path) -> bool:
    return out.suffix.lower() in FORMAT_OF_SUFFIX and not out.is_dir()


def _refuse_other_suffixes(out: Path) -> None:
    """A folder called x.gif, or x.jpg for more than one input, is hardly what anybody means."""
    if _names_a_picture(out):
        raise UsageError(f"OUT, {out}, names one picture, and there may be more", "give a folder for OUT")
    if out.suffix.lower() in OTHER_SUFFIXES | RAW_SUFFIXES and not out.is_dir():
        known = ", ".join(sorted(FORMAT_OF_SUFFIX))
        raise UsageError(f"OUT, {out}, would be a picture in a format that rng does not write", f"name it {known}")


def is_dng(out: Path, naming: Naming) -> bool:
    """Whether raw files are to be read for a DNG: `out` is one picture's name, or a folder."""
    return naming.format == "dng" or (out.suffix.lower() == ".dng" and not out.is_dir())


def checked(out: Path, naming: Naming) -> Path:
    """The one picture's name that OUT is; UsageError where `naming` says otherwise."""
    if naming.suffix or naming.format not in (None, FORMAT_OF_SUFFIX[out.suffix.lower()]):
        raise UsageError(f"OUT, {out}, already names the output", "leave out --suffix and --format, or give a folder")
    return out


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


def _without_collisions(tasks: Sequence[Task]) -> tuple[list[Task], list[Outcome]]:
    """Tasks with outputs of their own; and as refused those that would share one."""
    writers: defaultdict[str, dict[str, Task]] = defaultdict(dict)
    sources = {os.path.realpath(task.source) for task in tasks}
    for task in tasks:
        target = os.path.realpath(task.target)
        if target in sources:
            raise UsageError(f"{task.name} would overwrite an input, {target}", "give an OUT outside IN")
        writers[_on_disk(task.target)].setdefault(os.path.realpath(task.source), task)
    kept: list[Task] = []
    clashing: list[Outcome] = []
    for rivals in writers.values():
        if len(rivals) == 1:
            kept += rivals.values()
            continue
        who = " and ".join(str(task.source) for task in rivals.values())
        for task in rivals.values():
            error = PictureError(f"{who} would both write {task.target}", "rename one, or run them apart")
            clashing.append(Outcome(task, error))
    return kept, clashing


def _on_disk(path: Path) -> str:
    """What is the same for two names of one file; without case and composition, which many disks do not regard."""
    return unicodedata.normalize("NFC", os.path.realpath(path)).casefold()
