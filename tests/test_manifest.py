"""A resumed run: what is done is skipped, what rng did not make is never replaced, whenever the last run was killed."""

import multiprocessing
import os
import time
from types import SimpleNamespace

import pytest

from rngcli import atomic
from rngcli.batch import manifest_writer
from rngcli.batch.manifest import Manifest, State
from rngcli.batch.manifest_entry import Source, digest
from rngcli.batch.manifest_writer import journal_of
from rngcli.errors import EnvironmentFault
from rngcli.images import PART_PREFIX, PART_SUFFIX
from rngcli.images.walk import manifests_of


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
    (path,) = manifests_of(tmp_path / "out")
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


def test_of_two_runs_that_began_at_once_the_last_to_end_tidies_up(tmp_path):
    part = tmp_path / f"{PART_PREFIX}0{PART_SUFFIX}"
    first, second = (journal_of(Manifest(tmp_path), "s") for _ in range(2))
    first.__enter__()
    part.write_bytes(b"half")  # of a run that was killed meanwhile
    os.utime(part, (time.time() - 60,) * 2)
    second.__enter__()
    first.__exit__(None, None, None)
    assert part.exists(), "it may be the second's"
    second.__exit__(None, None, None)
    assert not part.exists()


def test_each_writer_has_a_file_of_its_own_and_all_are_merged_in_any_order(place, tmp_path):
    source, target = place
    out = target.parent
    with journal_of(Manifest(out), "old") as one, journal_of(Manifest(out), "new") as other:
        assert one.path != other.path
        for journal, data in ((one, b"first"), (other, b"second")):
            hashed = journal.intend(Source.of(source), target, data)
            target.write_bytes(data)
            journal.written(target, hashed)
            journal.noted(target, {"steps": len(data)})
            time.sleep(0.002)
    for _ in range(2):
        assert state(*place, settings="new") is State.DONE
        assert Manifest(out).figures(target) == {"steps": 6}
        target.write_bytes(b"edited by hand")
        assert state(*place, settings="new") is State.DONE, "the newest counts, whichever file is read first"
        target.write_bytes(b"second")
        spare = one.path.with_name("spare")
        for old, new in ((one.path, spare), (other.path, one.path), (spare, other.path)):
            old.rename(new)


def test_figures_may_be_told_by_another_writer_than_the_output(place):
    make(*place)
    out = place[1].parent
    with journal_of(Manifest(out), "s"), journal_of(Manifest(out), "s") as second:
        second.noted(place[1], {"scores": {"psnr": 30.0}})
    assert len(manifests_of(out)) == 2
    assert Manifest(out).figures(place[1]) == {"scores": {"psnr": 30.0}}


def test_the_file_of_a_run_that_has_ended_is_taken_up_by_the_next(place):
    for data in (b"one", b"two", b"three"):
        make(*place, data=data)
    assert len(manifests_of(place[1].parent)) == 1


def append_many(out, source, name, count):
    with journal_of(Manifest(out), "s", folders=None) as journal:
        for k in range(count):
            target = out / f"{name}-{k}"
            hashed = journal.intend(Source.of(source), target, b"x" * 5000)
            target.write_bytes(b"x" * 5000)
            journal.written(target, hashed)


def test_processes_that_append_at_once_lose_no_line(place):
    source, out = place[0], place[1].parent
    processes = [multiprocessing.get_context("spawn").Process(target=append_many, args=(out, source, n, 25))
                 for n in range(3)]  # fmt: skip
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    manifest = Manifest(out)
    assert all(manifest.state(source, out / f"{n}-{k}", lambda: "s") is State.DONE for n in range(3) for k in range(25))


def test_without_locks_every_writer_takes_a_name_that_nobody_else_has(place, monkeypatch):
    monkeypatch.setattr(manifest_writer, "_take", lambda file: None)
    make(*place, data=b"one")
    make(*place, data=b"two", settings="new")
    assert state(*place, settings="new") is State.DONE
    assert len([path for path in manifests_of(place[1].parent) if path.stat().st_size]) == 2


def test_a_file_of_another_machine_that_is_fresh_keeps_unfinished_files(place):
    out = place[1].parent
    (out / ".rng").mkdir()
    foreign = out / ".rng" / "manifest-elsewhere-0123abcd-0.jsonl"
    foreign.touch()
    part = out / f"{PART_PREFIX}0{PART_SUFFIX}"
    part.touch()
    os.utime(part, (time.time() - 60,) * 2)
    with journal_of(Manifest(out), "s"):
        assert part.exists(), "it may be in use there"
    os.utime(foreign, (1, 1))
    with journal_of(Manifest(out), "s"):
        assert not part.exists()


def test_a_manifest_that_cannot_be_written_is_a_fault_of_the_machine(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(EnvironmentFault), journal_of(Manifest(tmp_path / "out"), "s"):
        pass


def test_the_digest_is_of_every_setting():
    settings = {"model": "m", "detail": [100, None, 1.0, 0]}
    assert digest(settings) == digest(dict(reversed(settings.items())))
    assert digest(settings) != digest({**settings, "detail": [100, None, 1.0, 1]})
