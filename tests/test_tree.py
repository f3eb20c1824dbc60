"""Which files a run is about, where they go, and what is refused before it starts."""

import os

import pytest

from rngcli.errors import NoInputError, UsageError
from rngcli.tree import plan


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def test_the_tree_is_mirrored_and_what_is_no_picture_left_out(tmp_path):
    source = make(tmp_path / "in", "b.JPG", "a/c.tif", "a/d.nef", "notes.txt", ".hidden.png", "._b.JPG", "Thumbs.db")
    tasks = plan(source, tmp_path / "out")
    found = {task.name: str(task.target.relative_to(tmp_path / "out")) for task in tasks}
    assert found == {"b.JPG": "b.JPG", "a/c.tif": "a/c.tif", "a/d.nef": "a/d.tif"}


def test_one_file_goes_into_a_folder_or_takes_a_name(tmp_path):
    picture = make(tmp_path, "a.jpg") / "a.jpg"
    assert plan(picture, tmp_path / "out")[0].target == tmp_path / "out" / "a.jpg"
    assert plan(picture, tmp_path / "b.png")[0].target == tmp_path / "b.png"


def test_in_equal_to_out_is_refused_however_it_is_written(tmp_path):
    source = make(tmp_path / "in", "a.png")
    (tmp_path / "link").symlink_to(source)
    for out in (source, source / ".." / "in", tmp_path / "link"):
        with pytest.raises(UsageError, match="same"):
            plan(source, out)
    with pytest.raises(UsageError, match="same"):
        plan(source / "a.png", source / "a.png")


def test_two_inputs_with_one_output_are_refused(tmp_path):
    with pytest.raises(UsageError, match="both write"):
        plan(make(tmp_path / "raws", "a.nef", "a.tif"), tmp_path / "out")
    with pytest.raises(UsageError, match="both write"):
        plan(make(tmp_path / "cases", "a.png", "A.png"), tmp_path / "out")


def test_an_output_that_is_an_input_is_refused(tmp_path):
    source = make(tmp_path / "x", "a.png", "x/a.png")
    with pytest.raises(UsageError, match="overwrite an input"):
        plan(source, tmp_path)


def test_outputs_below_in_are_not_read_again(tmp_path):
    source = make(tmp_path / "in", "a.png", "out/a.png")
    assert [task.name for task in plan(source, source / "out")] == ["a.png"]


def test_links_in_a_circle_end(tmp_path):
    source = make(tmp_path / "in", "a/b.png")
    (source / "a" / "again").symlink_to(source, target_is_directory=True)
    assert [task.name for task in plan(source, tmp_path / "out")] == ["a/b.png"]


def test_no_input_is_said(tmp_path):
    for source in (tmp_path / "nowhere", make(tmp_path / "texts", "a.txt")):
        with pytest.raises(NoInputError):
            plan(source, tmp_path / "out")


def test_done_is_newer_than_its_source(tmp_path):
    (task,) = plan(make(tmp_path / "in", "a.png"), tmp_path / "out")
    assert not task.is_done()
    make(tmp_path / "out", "a.png")
    assert task.is_done()
    os.utime(task.target, (1, 1))
    assert not task.is_done()
