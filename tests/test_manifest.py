"""A resumed run: what is done is skipped, what rng did not make is never replaced, whenever the last run was killed."""

import os
from types import SimpleNamespace

import pytest

from rngcli import atomic
from rngcli.batch import manifest_writer
from rngcli.batch.manifest import PLACE, Manifest, State
from rngcli.batch.manifest_entry import Source, digest
from rngcli.batch.manifest_writer import journal_of
from rngcli.errors import EnvironmentFault
from rngcli.images import PART_PREFIX, PART_SUFFIX


@pytest.fixture
def place(tmp_path):
    """A source, and the place of its target."""
    (tmp_path / "a.png").write_bytes(b"noisy")
    (tmp_path / "out").mkdir()
    return tmp_path / "a.png", tmp_path / "out" / "a.png"


def make(source, target, data=b"clean", settings="s", written=True):
    """What a run does, to its end or only until just before the target is in place."""
    with journal_of(Manifest(target.parent), settings) as journal:
        hashed = journal.intend(Source.of(source), target, data)
        if written:
            target.write_bytes(data)
            journal.written(target, hashed)


def state(source, target, settings="s"):
    return Manifest(target.parent).state(source, target, lambda: settings)


def test_done_is_the_same_source_and_the_same_settings(place):
    source, target = place
    assert state(*place) is State.NEW
    make(*place)
    assert state(*place) is State.DONE
    assert state(*place, settings="others") is State.STALE
    source.write_bytes(b"another picture")
    assert state(*place) is State.STALE
    make(*place)
    assert state(*place) is State.DONE
    os.utime(source, ns=(1, 1))  # a copy of an older file put in its place
    assert state(*place) is State.STALE
    target.unlink()
    assert state(*place) is State.NEW


def test_what_is_not_known_is_foreign_and_its_settings_are_not_asked_for(place):
    place[1].write_bytes(b"somebody's own")
    assert Manifest(place[1].parent).state(*place, lambda: pytest.fail("asked")) is State.FOREIGN
    place[1].unlink()
    place[1].symlink_to("nowhere")
    assert state(*place) is State.FOREIGN
    place[1].unlink()
    place[1].mkdir()
    assert state(*place) is State.FOREIGN


def test_an_edited_output_stays_unless_it_would_have_to_be_made_again(place):
    make(*place)
    place[1].write_bytes(b"clean, and cropped by hand")
    assert state(*place) is State.DONE
    assert state(*place, settings="others") is State.EDITED


def test_a_copy_of_the_whole_folder_is_known_by_its_content(place):
    make(*place)
    os.utime(place[1], ns=(1, 1))
    assert state(*place) is State.DONE
    assert state(*place, settings="others") is State.STALE


def test_killed_before_the_target_was_in_place(place):
    make(*place, written=False)
    assert state(*place) is State.NEW
    place[1].write_bytes(b"put there by hand since")
    assert state(*place) is State.EDITED, "not ours, so not to be replaced"


def test_killed_after_the_target_was_in_place_but_before_that_was_noted(place):
    make(*place, written=False)
    place[1].write_bytes(b"clean")
    assert state(*place) is State.DONE
    assert state(*place, settings="others") is State.STALE


def test_killed_while_an_output_was_made_anew(place):
    make(*place)
    make(*place, data=b"other", settings="others", written=False)
    make(*place, data=b"third", settings="third", written=False)
    assert state(*place) is State.DONE, "the first is still there"
    assert state(*place, settings="others") is State.STALE
    place[1].write_bytes(b"other")
    assert state(*place, settings="others") is State.DONE
    assert state(*place) is State.STALE


def test_a_torn_line_costs_itself_only(place, tmp_path):
    make(*place)
    path = tmp_path / "out" / PLACE
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"target": "a.png", "sour')
    assert state(*place) is State.DONE
    make(*place, data=b"anew", settings="others")
    assert state(*place, settings="others") is State.DONE
    path.write_bytes(b"null\n[]\n3\n{}\n\xff\n" + b'{"target": "a.png", "written": [1, 1]}\n' + whole)
    assert state(*place) is State.DONE, "the lines after the damaged ones count"


def test_names_that_are_no_utf8_are_kept(tmp_path):
    source = tmp_path / "a\udcff.png"
    try:
        source.write_bytes(b"noisy")
    except OSError:
        pytest.skip("this disk takes no such names")
    target = tmp_path / "out" / "a\udcff.png"
    target.parent.mkdir()
    make(source, target)
    assert state(source, target) is State.DONE
    assert state(source, tmp_path / "out" / ("n" * 300)) is State.NEW


def test_what_a_killed_run_left_unfinished_goes_at_the_next_start_unless_it_is_anothers(tmp_path, monkeypatch):
    part = tmp_path / f"{PART_PREFIX}0{PART_SUFFIX}"
    clock = SimpleNamespace(now=1e9, grows=False)

    def sleep(seconds):
        clock.now += seconds + 0.01
        if clock.grows:
            os.utime(part, (clock.now,) * 2)

    for module in (manifest_writer, atomic):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: clock.now, sleep=sleep))

    def left(age, grows=False):
        clock.grows = grows
        part.write_bytes(b"half")
        os.utime(part, (clock.now - age,) * 2)
        with journal_of(Manifest(tmp_path), "s"):
            return part.exists()

    assert left(age=0, grows=True), "it is in use, by a run without a manifest"
    assert not left(age=0), "killed just now"
    assert not left(age=60)
    with journal_of(Manifest(tmp_path), "s"):
        assert left(age=60), "another run is at work here"
        assert not left(age=7200)


def test_a_manifest_that_cannot_be_written_is_a_fault_of_the_machine(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(EnvironmentFault), journal_of(Manifest(tmp_path / "out"), "s"):
        pass


def test_the_digest_is_of_every_setting():
    settings = {"model": "m", "detail": [100, None, 1.0, 0]}
    assert digest(settings) == digest(dict(reversed(settings.items())))
    assert digest(settings) != digest({**settings, "detail": [100, None, 1.0, 1]})
