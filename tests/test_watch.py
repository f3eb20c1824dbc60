"""`rng watch`: pictures are done as they come, whole ones only, each once; Ctrl-C is its end."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rngcli.models.bundle import save
from tests.day import day
from tests.tiny import identity_bundle, random_bundle

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 240  # [s] a busy machine is no failure


@pytest.fixture
def place(tmp_path):
    save(random_bundle(), tmp_path / "tiny.safetensors")
    (tmp_path / "in" / "trip").mkdir(parents=True)
    return tmp_path


def picture(path, seed=0):
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8)).save(path)


@contextmanager
def watching(place, *options, polling=False):
    """`rng watch in out`, while it runs; at the end it is told to stop as Ctrl-C does."""
    hide = "import sys; sys.modules['watchfiles'] = None; " if polling else ""
    program = f"{hide}from rngcli.cli import main; main()"
    command = [sys.executable, "-c", program, "watch", "in", "out", "--model", "tiny.safetensors", "--device", "cpu"]
    running = subprocess.Popen(
        [*command, *options], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        yield running
        running.send_signal(signal.SIGINT)
        running.out, running.err = running.communicate(timeout=PATIENCE)
    finally:
        running.kill()
        running.wait()


def await_(condition, running):
    begun = time.monotonic()
    while not condition():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() - begun < PATIENCE
        time.sleep(0.05)


@pytest.mark.parametrize("polling", [False, True])
def test_what_turns_up_is_done_once_and_what_fails_is_tried_again_when_it_changes(place, polling):
    if not polling:
        pytest.importorskip("watchfiles")
    picture(place / "in" / "a.png")
    out = place / "out"
    with watching(place, "--json", "--report", "r.json", polling=polling) as running:
        await_((out / "a.png").exists, running)
        picture(place / "in" / "trip" / "b.png", 1)
        whole = (place / "in" / "trip" / "b.png").read_bytes()
        with (place / "in" / "slow.png").open("wb") as file:  # as a camera or a slow network writes it
            for i in range(0, len(whole), len(whole) // 6):
                file.write(whole[i : i + len(whole) // 6])
                file.flush()
                time.sleep(0.3)
        (place / "in" / "bad.png").write_text("no picture")
        await_(lambda: (out / "trip" / "b.png").exists() and (out / "slow.png").exists(), running)
        await_(lambda: "failed" in (place / "r.json").read_text(), running)
        picture(place / "in" / "bad.png", 2)
        await_((out / "bad.png").exists, running)
        await_(lambda: "failed" not in (place / "r.json").read_text(), running)
    assert running.returncode == 0, running.err
    *rows, end = map(json.loads, running.out.splitlines())
    done = [row["file"] for row in rows if row["status"] == "done"]
    assert sorted(done) == ["a.png", "bad.png", "slow.png", "trip/b.png"]
    assert [row["file"] for row in rows if row["status"] == "failed"] == ["bad.png"]
    assert end["summary"]["done"] == 4
    report = {row["file"]: row["status"] for row in json.loads((place / "r.json").read_text())}
    assert report == dict.fromkeys(done, "done")
    with watching(place) as running:
        await_(lambda: True, running)
        running.stderr.readline()
        time.sleep(3)
    assert "0 done, 4 done before, 0 failed" in running.err


def test_what_was_refused_is_done_when_the_reason_has_gone(place):
    for name in ("a.png", "A.png", "b.png"):
        picture(place / "in" / name)
    if len(list((place / "in").glob("*.png"))) < 3:
        pytest.skip("this disk makes no difference between a.png and A.png")
    (place / "out").mkdir()
    picture(place / "out" / "b.png", 7)
    with watching(place, "--json", "--report", "r.json") as running:
        await_((place / "r.json").exists, running)
        rows = json.loads((place / "r.json").read_text())
        assert {row["file"]: row["status"] for row in rows} == dict.fromkeys(("a.png", "A.png", "b.png"), "failed")
        (place / "in" / "A.png").rename(place / "in" / "z.png")
        (place / "out" / "b.png").unlink()
        await_(lambda: all((place / "out" / name).exists() for name in ("a.png", "b.png", "z.png")), running)
        await_(lambda: "failed" not in (place / "r.json").read_text(), running)
    *_, end = map(json.loads, running.out.splitlines())
    counts = {name: end["summary"][name] for name in ("done", "failed", "not_begun")}
    assert (running.returncode, counts) == (0, {"done": 3, "failed": 0, "not_begun": 0}), running.err


def test_a_folder_that_is_none_or_a_model_that_is_none_is_refused_at_once(place):
    def refused(*arguments):
        command = [sys.executable, "-m", "rngcli", "watch", *arguments, "--device", "cpu"]
        return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, timeout=PATIENCE)

    save(identity_bundle(), place / "identity.safetensors")
    assert refused("gone", "out").returncode == 4
    assert refused("in", "in", "--model", "tiny.safetensors").returncode == 2
    assert refused("in", "out", "--model", "nobody").returncode == 3
    assert "no generator yet" in refused("in", "out", "--model", "identity.safetensors").stderr
    assert not (place / "out").exists()


def test_a_day_in_small_loses_nothing_and_does_nothing_twice(tmp_path):
    """`python -m tests.day`, with fewer pictures: two watch at once, one of them is killed on the way."""
    counts, faults = day(tmp_path, pictures=60, kills=1, watchers=2, seed=1)
    assert not faults
    assert (counts["killed"], counts["done"]) == (1, 60 - counts["broken"])
