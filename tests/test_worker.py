"""From disk to disk: good files are done, bad ones named, memory that runs out is survived, a stop leaves no ruin."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from rngcli import images
from rngcli.batch import inputs, worker
from rngcli.batch.file_options import FileOptions, Watch
from rngcli.batch.manifest import Manifest, State
from rngcli.batch.manifest_writer import journal_of
from rngcli.batch.worker import run
from rngcli.errors import EnvironmentFault, PictureError
from rngcli.inference import pipeline as pipeline_module
from rngcli.inference.pipeline import Pipeline
from rngcli.inference.tiling import Grid
from rngcli.methods.contract import Frame, Request
from tests.tiny import identity_bundle, random_bundle

PLAIN = Request(detail=0)


def plan(sources, out):
    return inputs.plan(sources, out).tasks


@pytest.fixture
def folder(tmp_path):
    """Five good pictures, one in a folder below, and three bad ones."""
    rng = np.random.default_rng(0)
    source = tmp_path / "in"
    (source / "below").mkdir(parents=True)
    for name, size in {"a.png": (40, 30), "below/b.png": (20, 50), "снимок.png": (9, 9), "one.png": (1, 1),
                       "wide.png": (3, 4000)}.items():  # fmt: skip
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(source / name)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(source / "cut.jpg")
    (source / "cut.jpg").write_bytes((source / "cut.jpg").read_bytes()[:900])
    (source / "empty.png").touch()
    (source / "text.png").write_text("no picture")
    return source


def by_name(outcomes):
    return {outcome.task.name: outcome for outcome in outcomes}


def test_good_files_are_done_and_bad_ones_named(folder, tmp_path):
    tasks = plan([folder], tmp_path / "out")
    outcomes = by_name(run(tasks, Pipeline(identity_bundle(), "cpu", "fp32", 2), PLAIN, FileOptions()))
    assert len(outcomes) == len(tasks) == 8
    failed = {name for name, outcome in outcomes.items() if outcome.error}
    assert failed == {"cut.jpg", "empty.png", "text.png"}
    for task in tasks:
        assert task.target.exists() == (task.name not in failed)
        if task.name not in failed:
            assert np.array_equal(np.asarray(Image.open(task.target)), np.asarray(Image.open(task.source)))


def test_scores_and_step_maps_where_asked_for(folder, tmp_path):
    files = FileOptions(
        reference=folder,
        score=lambda x, y: ({"difference": float(np.abs(x - y).max()), "likeness": None}, ["too small", "too small"]),
        step_maps=tmp_path / "maps",
    )
    tasks = [task for task in plan([folder], tmp_path / "out") if task.name == "a.png"]
    (outcome,) = run(tasks, Pipeline(random_bundle(), "cpu", "fp32", 1), Request(), files)
    assert outcome.scores["difference"] > 0
    assert (outcome.scores["likeness"], outcome.notes) == (None, ("not scored: too small",))
    assert Image.open(tmp_path / "maps" / "a.png.steps.png").size == (30, 40)


class Hungry(Pipeline):
    """Runs out of memory at its first step, as long as its capacity is more than one."""

    failures = 0

    def step(self, tiles, seed):
        if self.capacity > 1:
            type(self).failures += 1
            raise torch.OutOfMemoryError("out of memory")
        super().step(tiles, seed)


def test_memory_that_runs_out_once_changes_no_result(folder, tmp_path):
    tasks = [task for task in plan([folder], tmp_path / "out") if task.name in ("a.png", "below/b.png", "wide.png")]
    outcomes = list(run(tasks, Hungry(random_bundle(), "cpu", "fp32", 2), Request(), FileOptions()))
    assert Hungry.failures == 1
    assert [outcome.error for outcome in outcomes] == [None] * 3
    undisturbed = [replace(task, target=tmp_path / "calm" / task.name) for task in tasks]
    list(run(undisturbed, Pipeline(random_bundle(), "cpu", "fp32", 2), Request(), FileOptions()))
    for task, calm in zip(tasks, undisturbed, strict=True):
        one, other = (np.asarray(Image.open(path), np.int16) for path in (task.target, calm.target))
        assert np.abs(one - other).max() <= 1


def test_memory_that_never_suffices_is_a_fault_of_the_machine(folder, tmp_path, monkeypatch):
    def refuse(*args):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(pipeline_module.Pipeline, "start", refuse)
    tasks = plan([folder], tmp_path / "out")
    with pytest.raises(EnvironmentFault, match="one tile"):
        list(run(tasks, Pipeline(identity_bundle(), "cpu", "fp32", 4), PLAIN, FileOptions()))


def test_an_interrupted_batch_leaves_whole_files_and_is_taken_up_with_the_same_bits(folder, tmp_path):
    pipeline = Pipeline(random_bundle(), "cpu", "fp32", 2)
    tasks = [task for task in plan([folder], tmp_path / "out") if task.source.stat().st_size > 1000 or "a" in task.name]
    tasks = [task for task in tasks if task.name not in ("cut.jpg", "empty.png", "text.png")]
    whole = [replace(task, target=tmp_path / "whole" / task.name) for task in tasks]
    list(run(whole, pipeline, Request(), FileOptions()))
    half = run(tasks, pipeline, Request(), FileOptions())
    next(half)
    half.close()  # what an interrupt does to the generator
    assert not list((tmp_path / "out").rglob(".rng-*"))
    list(run([task for task in tasks if not task.target.exists()], pipeline, Request(), FileOptions()))
    for task, undisturbed in zip(tasks, whole, strict=True):
        assert task.target.read_bytes() == undisturbed.target.read_bytes()


def good(folder, out):
    return [task for task in plan([folder], out) if task.name in ("a.png", "below/b.png", "one.png", "wide.png")]


def test_what_fails_beside_the_picture_is_a_note(folder, tmp_path):
    def score(denoised, clean):
        raise ValueError("no scores today")

    (tmp_path / "clean" / "below").mkdir(parents=True)
    (tmp_path / "clean" / "a.png").write_bytes((folder / "a.png").read_bytes())
    (tmp_path / "maps").write_text("a file where a folder should be")
    files = FileOptions(reference=tmp_path / "clean", score=score, step_maps=tmp_path / "maps")
    outcomes = by_name(run(good(folder, tmp_path / "out"), Pipeline(identity_bundle(), "cpu", "fp32", 1), PLAIN, files))
    assert all(outcome.error is None and outcome.task.target.exists() for outcome in outcomes.values())
    assert "no scores today" in outcomes["a.png"].notes[-1]
    assert str(tmp_path / "clean" / "one.png") in outcomes["one.png"].notes[-1], "the missing partner is named"
    assert all("not mapped" in outcome.notes[0] for outcome in outcomes.values())


def test_a_disk_that_refuses_ends_the_run_and_every_settled_picture_is_told(folder, tmp_path, monkeypatch):
    write = images.write_bytes

    def refuse(path, data):
        if path.name == "b.png":
            raise EnvironmentFault("the disk is full")
        write(path, data)

    monkeypatch.setattr(images, "write_bytes", refuse)
    tasks = good(folder, tmp_path / "out")
    outcomes = {}
    finished = run(tasks, Pipeline(identity_bundle(), "cpu", "fp32", 2), PLAIN, FileOptions())
    with pytest.raises(EnvironmentFault, match="full"):
        outcomes.update((outcome.task.name, outcome) for outcome in finished)
    assert isinstance(outcomes["below/b.png"].error, EnvironmentFault)
    written = {task.name for task in tasks if task.target.exists()}
    assert written == {name for name, outcome in outcomes.items() if not outcome.error}


def test_fail_fast_ends_at_the_first_failure(folder, tmp_path):
    begun = []
    files = FileOptions(fail_fast=True)
    watch = Watch(begun=lambda task, megapixels, tiles: begun.append(task.name))
    tasks = plan([folder], tmp_path / "out")
    with pytest.raises(PictureError):
        list(run(tasks, Pipeline(identity_bundle(), "cpu", "fp32", 1), PLAIN, files, watch))
    assert begun == ["a.png"], [task.name for task in tasks]


def test_fail_fast_waits_for_no_picture_that_is_being_computed(folder, tmp_path, monkeypatch):
    tasks = {task.name: task for task in plan([folder], tmp_path / "out")}
    failed, steps, original = threading.Event(), [], images.read

    def read(path, options):
        try:
            return original(path, options)
        finally:
            if path.name == "text.png":
                failed.set()

    def stepped(tiles):
        failed.wait(60)
        steps.append(tiles)

    monkeypatch.setattr(images, "read", read)
    pipeline, files = Pipeline(identity_bundle(), "cpu", "fp32", 1), FileOptions(fail_fast=True)
    with pytest.raises(PictureError):
        list(run([tasks["wide.png"], tasks["text.png"]], pipeline, PLAIN, files, Watch(stepped=stepped)))
    assert len(steps) < len(Grid.of(3, 4000, Frame()))
    assert not tasks["wide.png"].target.exists()


def test_fail_fast_ends_at_an_output_that_cannot_be_written(folder, tmp_path):
    tasks = {task.name: task for task in plan([folder], tmp_path / "out")}
    pair = [replace(tasks["one.png"], fresh=True), tasks["wide.png"]]
    pair[0].target.parent.mkdir()
    pair[0].target.write_text("somebody's own")
    outcomes = {}
    finished = run(pair, Pipeline(identity_bundle(), "cpu", "fp32", 1), PLAIN, FileOptions(fail_fast=True))
    with pytest.raises(PictureError, match="turned up"):
        outcomes.update((outcome.task.name, outcome) for outcome in finished)
    assert list(outcomes) == ["one.png"]
    assert not tasks["wide.png"].target.exists()


def test_a_file_that_turns_up_during_the_run_is_not_replaced(folder, tmp_path):
    tasks = [replace(task, fresh=True) for task in good(folder, tmp_path / "out")]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_text("somebody's own")
    outcomes = by_name(run(tasks, Pipeline(identity_bundle(), "cpu", "fp32", 1), PLAIN, FileOptions()))
    assert "turned up" in str(outcomes["a.png"].error)
    assert (tmp_path / "out" / "a.png").read_text() == "somebody's own"
    assert not outcomes["one.png"].error


def test_a_file_in_place_of_a_folder_costs_one_picture(folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "below").write_text("somebody's own")
    tasks = good(folder, tmp_path / "out")
    outcomes = by_name(run(tasks, Pipeline(identity_bundle(), "cpu", "fp32", 1), PLAIN, FileOptions()))
    assert [name for name, outcome in outcomes.items() if outcome.error] == ["below/b.png"]
    assert (tmp_path / "out" / "below").read_text() == "somebody's own"


def test_a_defect_of_one_picture_stops_no_other(folder, tmp_path, monkeypatch):
    read = images.read
    monkeypatch.setattr(images, "read", lambda path, options: 1 / 0 if path.name == "one.png" else read(path, options))
    pipeline = Pipeline(identity_bundle(), "cpu", "fp32", 1)
    outcomes = by_name(run(good(folder, tmp_path / "out"), pipeline, PLAIN, FileOptions()))
    assert "ZeroDivisionError" in str(outcomes["one.png"].error)
    assert [name for name, outcome in outcomes.items() if outcome.error] == ["one.png"]


def test_the_journal_knows_every_output(folder, tmp_path):
    tasks = plan([folder], tmp_path / "out")
    with journal_of(Manifest(tmp_path / "out"), "settings") as journal:
        pipeline = Pipeline(identity_bundle(), "cpu", "fp32", 2)
        outcomes = by_name(run(tasks, pipeline, PLAIN, FileOptions(journal=journal)))
    manifest = Manifest(tmp_path / "out")
    for task in tasks:
        state = manifest.state(task.source, task.target, lambda: "settings")
        assert state is (State.NEW if outcomes[task.name].error else State.DONE)


def test_large_pictures_are_read_ahead_and_written_behind_by_their_bytes(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for k in range(9):
        Image.fromarray(np.full((50, 60, 3), k, np.uint8)).save(tmp_path / "in" / f"{k}.png")
    held, most, read = [], [], images.read
    lock = threading.Lock()

    def reading(path, options):
        with lock:
            held.append(path.name)
            most.append(len(held))
        return read(path, options)

    def begun(task, megapixels, tiles):
        with lock:
            held.remove(task.name)

    def run_with(bytes_held):
        monkeypatch.setattr(worker, "MOST_HELD", bytes_held)
        held.clear()
        most.clear()
        tasks = [replace(task, fresh=False) for task in plan([tmp_path / "in"], tmp_path / "out")]
        outcomes = list(run(tasks, Pipeline(identity_bundle(), "cpu", "fp32", 1), PLAIN, FileOptions(), Watch(begun)))
        assert len(outcomes) == 9
        assert not any(outcome.error for outcome in outcomes)
        return max(most)

    monkeypatch.setattr(images, "read", reading)
    one = 50 * 60 * 3 * 4  # bytes of floats
    assert run_with(100 * one) >= worker.AHEAD
    assert run_with(one) <= 2
    assert run_with(one // 2) <= 2, "the one that is about to begin, and the next"
