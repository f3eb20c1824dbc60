"""Which files a run is about, where they go, and what is refused before it starts."""

from pathlib import Path

import pytest

from rngcli.batch import inputs
from rngcli.batch.inputs import Naming, keep_apart, parse_list
from rngcli.errors import NoInputError, UsageError


def plan(*given, **more):
    return inputs.plan(*given, **more).tasks


def refused(*given, **more):
    """(name, why) of what is refused before a run begins."""
    return [(outcome.task.name, str(outcome.error)) for outcome in inputs.plan(*given, **more).refused]


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def test_the_tree_is_mirrored_and_what_is_no_picture_left_out(tmp_path):
    source = make(tmp_path / "in", "b.JPG", "a/c.tif", "a/d.nef", "notes.txt", ".hidden.png", "._b.JPG", "Thumbs.db")
    tasks = plan([source], tmp_path / "out")
    found = {task.name: str(task.target.relative_to(tmp_path / "out")) for task in tasks}
    assert found == {"b.JPG": "b.JPG", "a/c.tif": "a/c.tif", "a/d.nef": "a/d.tif"}


def test_one_file_goes_into_a_folder_or_takes_a_name(tmp_path):
    picture = make(tmp_path, "a.jpg") / "a.jpg"
    assert plan([picture], tmp_path / "out")[0].target == tmp_path / "out" / "a.jpg"
    assert plan([picture], tmp_path / "b.png")[0].target == tmp_path / "b.png"


def test_in_equal_to_out_is_refused_however_it_is_written(tmp_path):
    source = make(tmp_path / "in", "a.png")
    (tmp_path / "link").symlink_to(source)
    for out in (source, source / ".." / "in", tmp_path / "link"):
        with pytest.raises(UsageError, match="same"):
            plan([source], out)
    with pytest.raises(UsageError, match="same"):
        plan([source / "a.png"], source / "a.png")


def test_two_inputs_with_one_output_are_refused(tmp_path):
    source = make(tmp_path / "cases", "a.png", "A.png", "b.png")
    assert {name: "both write" in why for name, why in refused([source], tmp_path / "out")} == {"a.png": 1, "A.png": 1}
    assert [task.name for task in plan([source], tmp_path / "out")] == ["b.png"], "the others are done"


def test_pairs_of_two_formats_get_names_of_their_own(tmp_path):
    def targets(*names, naming=None):
        source = make(tmp_path / "-".join(names), *names)
        return {task.name: task.target.name for task in plan([source], tmp_path / "out", naming or Naming())}

    assert targets("a.nef", "a.tif") == {"a.nef": "a.nef.tif", "a.tif": "a.tif"}
    assert targets("b.nef", "b.jpg") == {"b.nef": "b.tif", "b.jpg": "b.jpg"}
    tiff = Naming("-clean", "tiff")
    assert targets("c.nef", "c.jpg", naming=tiff) == {"c.nef": "c.nef-clean.tif", "c.jpg": "c.jpg-clean.tif"}
    assert targets("d.png", naming=tiff) == {"d.png": "d-clean.tif"}


def test_an_output_that_is_an_input_is_refused(tmp_path):
    source = make(tmp_path / "x", "a.png", "x/a.png")
    with pytest.raises(UsageError, match="overwrite an input"):
        plan([source], tmp_path)


def test_step_maps_never_meet_each_other_nor_a_picture(tmp_path):
    source = make(tmp_path / "in", "a.jpg", "a.png", "b/a.png", "a.jpg.steps.png")
    tasks = plan([source], tmp_path / "out")
    names = [str(task.step_map(Path("maps"))) for task in tasks]
    assert names == ["maps/a.jpg.steps.png", "maps/a.jpg.steps.png.steps.png", "maps/a.png.steps.png",
                     "maps/b/a.png.steps.png"]  # fmt: skip
    keep_apart(tasks, tmp_path / "maps")
    for folder in (source, tmp_path / "out", tmp_path / "out" / "b" / ".."):
        with pytest.raises(UsageError, match=r"the step map of a\.jpg would replace"):
            keep_apart(tasks, folder)


def test_outputs_below_in_are_not_read_again(tmp_path):
    source = make(tmp_path / "in", "a.png", "out/a.png")
    assert [task.name for task in plan([source], source / "out")] == ["a.png"]


def test_links_in_a_circle_end(tmp_path):
    source = make(tmp_path / "in", "a/b.png")
    (source / "a" / "again").symlink_to(source, target_is_directory=True)
    assert [task.name for task in plan([source], tmp_path / "out")] == ["a/b.png"]


def test_no_input_is_said(tmp_path):
    for source in (tmp_path / "nowhere", make(tmp_path / "texts", "a.txt")):
        with pytest.raises(NoInputError):
            plan([source], tmp_path / "out")


def test_several_inputs_keep_their_places_and_the_same_file_twice_is_one(tmp_path, monkeypatch):
    make(tmp_path, "in/sub/a.png", "in/b.png", "c.jpg", "d.jpg")
    monkeypatch.chdir(tmp_path)
    tasks = plan([Path("in"), Path("c.jpg"), Path("in/b.png"), Path("?.jpg")], Path("out"))
    assert [str(task.target) for task in tasks] == ["out/b.png", "out/sub/a.png", "out/c.jpg", "out/d.jpg"]
    clashing = refused([Path("in"), Path("in/sub")], Path("out"), listed=[Path("a.png")])
    assert [(name, "both write" in why) for name, why in clashing] == [("a.png", True), ("a.png", True)]
    with pytest.raises(UsageError, match="is a file"):
        plan([Path("in"), Path("c.jpg")], Path("d.jpg"))
    with pytest.raises(NoInputError):
        plan([Path("in"), Path("*.tif")], Path("out"))


def test_a_list_keeps_its_paths_as_tar_does(tmp_path):
    names = parse_list(b"photos/a/b.jpg\n./c.jpg\r\n\n/data/d\xff.nef\n", nul=False)
    targets = [str(task.target) for task in plan([], Path("out"), listed=names)]
    assert targets == ["out/photos/a/b.jpg", "out/c.jpg", "out/data/d\udcff.tif"]
    assert parse_list(b"a\nb.jpg\0c.jpg\0", nul=True) == [Path("a\nb.jpg"), Path("c.jpg")]
    with pytest.raises(UsageError, match="-0"):
        parse_list(b"a.jpg\0b.jpg\0", nul=False)
    with pytest.raises(UsageError, match="folder below"):
        plan([], Path("out"), listed=[Path("../a.jpg")])


@pytest.mark.parametrize(
    ("name", "naming", "output"),
    [
        ("a/b.JPG", Naming("-clean"), "a/b-clean.JPG"),
        ("a.b.jpg", Naming(format="png"), "a.b.png"),
        ("a.jpeg", Naming(format="jpeg"), "a.jpeg"),
        ("a.nef", Naming("_n"), "a_n.tif"),
        ("a.cr2", Naming(format="avif"), "a.avif"),
        ("scan.2020", Naming(format="png"), "scan.2020.png"),
        ("n" * 250 + ".jpg", Naming("-clean"), "n" * 250 + "-clean.jpg"),
    ],
)
def test_outputs_are_named(name, naming, output):
    assert str(naming.of(Path(name))) == output


def test_a_name_for_the_output_leaves_nothing_to_name(tmp_path):
    picture = make(tmp_path, "a.jpg") / "a.jpg"
    for naming in (Naming("-x"), Naming(format="tiff")):
        with pytest.raises(UsageError, match="already names"):
            plan([picture], tmp_path / "b.png", naming)
    assert plan([picture], tmp_path / "b.png", Naming(format="png"))[0].target == tmp_path / "b.png"
    with pytest.raises(UsageError, match="slash"):
        Naming("/x")


def test_names_that_differ_in_composition_only_are_refused(tmp_path):
    found = refused([make(tmp_path / "in", "\u00fc.png", "u\u0308.png")], tmp_path / "out")
    assert ["both write" in why for _, why in found] == [True, True]
