"""Whose output is a file: another source of the same name never replaces it, whatever runs when, or beside whom."""

import json
import os
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

from rngcli import atomic, images
from rngcli.batch import picture_writer, worker
from rngcli.batch.batch import Batch
from rngcli.batch.batch_options import BatchOptions
from rngcli.batch.file_options import FileOptions
from rngcli.batch.inputs import plan
from rngcli.batch.manifest import Manifest, State
from rngcli.batch.manifest_entry import Source
from rngcli.batch.manifest_writer import journal_of
from rngcli.errors import PictureError
from rngcli.images.walk import manifests_of
from rngcli.methods.contract import Request
from rngcli.models.bundle import save
from tests.tiny import identity_bundle


@pytest.fixture
def place(tmp_path):
    """Folders `a` and `b`, each with a picture IMG_1.png of its own, of one size and time; and a small model."""
    for i, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "IMG_1.png"
        noise = np.random.default_rng(i).integers(0, 256, (24, 32, 3), np.uint8)
        Image.fromarray(noise).save(path, compress_level=0)
        os.utime(path, ns=(1, 1))
    save(identity_bundle(), tmp_path / "tiny.safetensors")
    return tmp_path


def batch_of(place, *sources, out="out", **options):
    options = BatchOptions(Request(detail=0), str(place / "tiny.safetensors"), "cpu", **options)
    return Batch(plan([place / source for source in sources], place / out), options)


def done(batch):
    """(name, error or None) of what a batch refuses and does."""
    return [(o.task.name, o.error and str(o.error)) for o in (*batch.refused, *batch.before(), *batch.run())]


def test_another_source_of_the_same_name_is_refused_and_the_remedies_work(place):
    assert done(batch_of(place, "a")) == [("IMG_1.png", None)]
    first = (place / "out" / "IMG_1.png").read_bytes()
    assert (place / "a/IMG_1.png").stat().st_size == (place / "b/IMG_1.png").stat().st_size
    for again in (batch_of(place, "b"), batch_of(place, "b/IMG_1.png")):
        assert not again.todo
        ((name, error),) = done(again)
        assert (name, "made from another source" in error) == ("IMG_1.png", True)
    assert (place / "out" / "IMG_1.png").read_bytes() == first
    assert [task.name for task in batch_of(place, "a").done] == ["IMG_1.png"]
    assert done(batch_of(place, "b", out="other")) == [("IMG_1.png", None)]
    assert done(batch_of(place, "b", overwrite=True)) == [("IMG_1.png", None)]
    assert (place / "out" / "IMG_1.png").read_bytes() != first


def test_a_source_that_was_moved_is_the_same_and_one_that_was_changed_is_done_again(place):
    done(batch_of(place, "a"))
    (place / "a").rename(place / "archive")
    assert batch_of(place, "archive").done, "moved"
    (place / "both").mkdir()
    shutil.move(place / "archive", place / "both")
    shutil.move(place / "out", place / "both")
    assert batch_of(place, "both/archive", out="both/out").done, "moved together with its outputs"
    Image.new("RGB", (8, 8)).save(place / "both/archive/IMG_1.png")
    assert not batch_of(place, "both/archive", out="both/out").done
    shutil.move(place / "both/archive", place / "again")
    assert batch_of(place, "again", out="both/out").refused, "moved and changed: it may be another one"


def test_what_turns_up_during_a_run_is_replaced_only_where_it_is_the_same(place):
    mine, theirs = batch_of(place, "a"), batch_of(place, "b")
    done(batch_of(place, "a"))
    ((name, error),) = done(theirs)
    assert (name, "made from another source since" in error) == ("IMG_1.png", True)
    (outcome,) = mine.run()
    assert (outcome.error, outcome.before) == (None, True), "as another run of the same command has left it"
    assert outcome.megapixels > 0, "with what is known of it"


def test_two_runs_at_once_do_everything_once(place):
    for i in range(12):
        noise = np.random.default_rng(i).integers(0, 256, (300, 300, 3), np.uint8)
        Image.fromarray(noise).save(place / "a" / f"{i}.png")
    found = {}

    def run(number, batch):
        found[number] = list(batch.run())

    runs = [threading.Thread(target=run, args=(n, batch_of(place, "a"))) for n in range(2)]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    outcomes = [*found[0], *found[1]]
    assert [outcome.error for outcome in outcomes] == [None] * 26
    assert sum(not outcome.before for outcome in outcomes) == 13
    assert len(batch_of(place, "a").done) == 13


def test_an_output_is_put_in_place_only_where_nothing_is(tmp_path, monkeypatch):
    path = tmp_path / "a"
    assert atomic.write_new(path, b"first")
    assert not atomic.write_new(path, b"second")

    def refuse(*paths):
        raise OSError(95, "no links here")

    monkeypatch.setattr(atomic.os, "link", refuse)
    assert not atomic.write_new(path, b"third")
    assert path.read_bytes() == b"first"
    assert atomic.write_new(tmp_path / "b", b"fourth")
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / "b"], "nothing unfinished is left"


def test_a_folder_that_is_removed_under_a_run_is_told_and_made_anew(place):
    for i in range(5):
        shutil.copy(place / "a/IMG_1.png", place / "a" / f"{i}.png")
    batch = batch_of(place, "a", capacity=1)
    outcomes = []
    for outcome in batch.run():
        outcomes.append(outcome)
        if len(outcomes) == 1:
            (place / "out").rename(place / "gone")
    outcomes = batch.lost(outcomes)
    lost = {outcome.task.name for outcome in outcomes if outcome.error}
    there = {path.name for path in (place / "out").glob("*.png")}
    assert lost
    assert there
    assert lost | there == {outcome.task.name for outcome in outcomes}
    assert "was removed while the run lasted" in str(next(o.error for o in outcomes if o.error))
    again = batch_of(place, "a")
    assert {task.name for task in again.done} == there, "the new manifest knows them"
    assert not again.refused
    assert {name for name, error in done(again) if not error} == lost | there


def test_a_manifest_of_the_first_version_is_read(place):
    done(batch_of(place, "a"))
    (path,) = manifests_of(place / "out")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    old = [{key: value for key, value in row.items() if key not in ("from", "content", "hash", "at")} for row in rows]
    path.unlink()
    path = path.with_name("manifest.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in old if "figures" not in row))
    assert batch_of(place, "a").done
    assert next(batch_of(place, "a").before()).megapixels == 0, "it did not say"
    os.utime(place / "a/IMG_1.png", ns=(2, 2))
    assert batch_of(place, "a").todo


def test_announcements_of_two_runs_are_told_apart(place):
    target, one, other = place / "out" / "x.png", place / "a/IMG_1.png", place / "b/IMG_1.png"
    target.parent.mkdir()
    with journal_of(Manifest(place / "out"), "s") as mine, journal_of(Manifest(place / "out"), "s") as theirs:
        hashed = mine.intend(Source.of(one), target, b"mine")
        theirs.intend(Source.of(other), target, b"theirs")
        target.write_bytes(b"mine")
        mine.written(target, hashed)
    manifest = Manifest(place / "out")
    assert manifest.state(one, target, lambda: "s") is State.DONE
    assert manifest.state(other, target, lambda: "s") is State.OTHERS


# --- memory ------------------------------------------------------------------------------------------------------


def test_a_picture_too_large_for_the_memory_fails_and_the_others_are_done(place, monkeypatch):
    for i in range(4):
        Image.fromarray(np.full((20, 20 + i, 3), 128, np.uint8)).save(place / "a" / f"{i}.png")
    Image.fromarray(np.full((600, 700, 3), 128, np.uint8)).save(place / "a" / "2-large.png")
    start = worker.Pipeline.start

    def short_of_memory(self, tiles, crops, request):
        if any(tile.index for tile in tiles):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return start(self, tiles, crops, request)

    monkeypatch.setattr(worker.Pipeline, "start", short_of_memory)
    outcomes = dict(done(batch_of(place, "a")))
    assert "needs more memory" in outcomes.pop("2-large.png")
    assert set(outcomes.values()) == {None}
    assert len(outcomes) == 5


def test_a_picture_that_found_no_memory_is_read_once_more_when_the_others_are_done(place, monkeypatch):
    for i in range(3):
        shutil.copy(place / "a/IMG_1.png", place / "a" / f"{i}.png")
    read, refused = images.read, []

    def short(path, options):
        if path.name in ("0.png", "1.png") and (path.name == "1.png" or not refused):
            refused.append(path.name)
            try:
                raise MemoryError
            except MemoryError:
                raise PictureError("the picture needs more memory than there is") from None
        return read(path, options)

    monkeypatch.setattr(images, "read", short)
    outcomes = done(batch_of(place, "a"))
    assert outcomes[-1][0] == "1.png"
    assert "more memory" in outcomes[-1][1]
    assert [error for _, error in outcomes[:-1]] == [None] * 3


# --- step maps ---------------------------------------------------------------------------------------------------


def test_a_step_map_is_guarded_as_its_picture_is(place):
    maps = place / "maps"
    maps.mkdir()
    (maps / "IMG_1.png.steps.png").write_text("precious")
    mapped = FileOptions(step_maps=maps)
    ((_, error),) = done(batch_of(place, "a", files=mapped))
    assert "IMG_1.png.steps.png exists and was not made by rng" in error
    assert (maps / "IMG_1.png.steps.png").read_text() == "precious"
    (maps / "IMG_1.png.steps.png").unlink()
    assert done(batch_of(place, "a", files=mapped)) == [("IMG_1.png", None)]
    assert batch_of(place, "a", files=mapped).done
    ((_, error),) = done(batch_of(place, "b", out="other", files=mapped))
    assert "was made from another source" in error
    shutil.rmtree(maps / ".rng")
    assert batch_of(place, "a", files=mapped).done, "of a version that kept no manifest of them"


def test_what_a_killed_run_left_goes_also_where_nothing_is_left_to_do(place):
    assert done(batch_of(place, "a")) == [("IMG_1.png", None)]
    part = place / "out" / f"{atomic.PART_PREFIX}0{atomic.PART_SUFFIX}"
    part.write_bytes(b"half")
    os.utime(part, (1, 1))
    batch = batch_of(place, "a")
    assert not batch.todo
    assert [outcome.before for outcome in batch.before()] == [True]
    assert not part.exists()


def test_who_finds_a_picture_finds_its_step_map(place, monkeypatch):
    maps, there = place / "maps", []
    put = picture_writer._put

    def putting(task, *rest):
        there.append(task.step_map(maps).exists())
        return put(task, *rest)

    monkeypatch.setattr(picture_writer, "_put", putting)
    assert done(batch_of(place, "a", files=FileOptions(step_maps=maps))) == [("IMG_1.png", None)]
    assert there == [True]
