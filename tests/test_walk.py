"""One walk over folders: what is a picture of somebody's, and what is told where a part cannot be seen."""

import os
import subprocess
import sys
from collections import Counter

import pytest

from rngcli.batch.manifest import Manifest
from rngcli.batch.manifest_entry import Source
from rngcli.batch.manifest_writer import journal_of
from rngcli.errors import NoInputError
from rngcli.images.walk import pictures_below, walk


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def names(found, folder):
    return [path.relative_to(folder).as_posix() for path in found.pictures]


def test_thumbnails_and_other_peoples_leavings_are_passed_by_and_unread_kinds_are_counted(tmp_path):
    hidden = ("@eaDir/a.jpg", ".thumbnails/a.png", "#recycle/a.png", "$RECYCLE.BIN/a.png", "._a.jpg", ".a.jpg")
    make(tmp_path, *hidden, "a.jpg", "b/c.png", "b/d.psd", "e.gif", "f.GIF", "notes.txt", "film.mp4")
    found = walk(tmp_path)
    assert names(found, tmp_path) == ["a.jpg", "b/c.png"]
    assert found.passed_over == Counter({"GIF": 2, "PSD": 1})


def test_real_folders_come_before_links_and_each_counts_once(tmp_path):
    make(tmp_path / "in", "z/a.png")
    make(tmp_path / "elsewhere", "b.png")
    (tmp_path / "in" / "a").symlink_to(tmp_path / "in" / "z", target_is_directory=True)
    (tmp_path / "in" / "m").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "in" / "loop").symlink_to("loop")
    assert names(walk(tmp_path / "in"), tmp_path / "in") == ["z/a.png", "m/b.png"]


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    make(tmp_path, "open/a.png", "shut/b.png")
    scan = os.scandir

    def refusing(folder):
        if str(folder).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    found = walk(tmp_path)
    assert names(found, tmp_path) == ["open/a.png"]
    assert [str(error) for error in found.errors] == [
        f"{tmp_path}/shut cannot be read (Permission denied); check its rights"
    ]
    with pytest.raises(NoInputError, match="shut"):
        pictures_below(tmp_path)


def written(out, source, *outputs):
    """What a run leaves in `out`, its manifest among it."""
    with journal_of(Manifest(out), "s") as journal:
        for output in outputs:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_bytes(b"made")
            journal.written(output, journal.intend(Source.of(source), output, b"made"))


def test_what_rng_has_written_is_no_input_unless_it_is_named(tmp_path):
    source = make(tmp_path / "in", "a.png", "b.png")
    clean = source / "clean"
    written(clean, source / "a.png", clean / "a.png", clean / "b.png", source / "maps" / "a.png.steps.png")
    make(clean, "own.png")
    found = walk(source)
    assert names(found, source) == ["a.png", "b.png", "clean/own.png"]
    assert found.passed_over == Counter({"made by rng": 3})
    (clean / "own.png").unlink()
    assert names(walk(clean), clean) == ["a.png", "b.png"], "a second pass over it, on purpose"
    assert names(walk(source, leave_out=[source / "maps", clean]), source) == ["a.png", "b.png"]


def test_the_command_names_a_folder_without_rights_and_ends_with_1(tmp_path):
    source = make(tmp_path / "in", "shut/c.png", "a.png")
    (source / "shut").chmod(0)
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
    try:
        probe = [*(drop if os.geteuid() == 0 else []), "ls", str(source / "shut")]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            pytest.skip("rights do not hold here")
        rng = [*probe[: len(probe) - 2], sys.executable, "-m", "rngcli", "denoise", str(source), str(tmp_path / "out")]
        done = subprocess.run([*rng, "--dry-run"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no setpriv here")
    finally:
        (source / "shut").chmod(0o755)
    assert "1 to do, 0 done already, 1 refused" in done.stderr
    assert "shut cannot be read (Permission denied)" in done.stderr
