"""Many devices share one queue of pictures: the same outputs whatever their number, and whoever of them dies."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from rngcli.batch.batch import Batch
from rngcli.batch.batch_options import BatchOptions, devices_named
from rngcli.batch.file_options import FileOptions, Watch
from rngcli.batch.inputs import Outcome, Task, plan
from rngcli.batch.shards import Shard
from rngcli.batch.task_queue import TaskQueue
from rngcli.cli.commands import app
from rngcli.errors import EnvironmentFault, PictureError, UsageError
from rngcli.images import walk
from rngcli.models.bundle import save
from tests.queue_simulation import Costs, simulate
from tests.tiny import clouds, random_bundle


@pytest.fixture
def one_thread():
    """For this process as for those that it starts: float32 sums of a CPU depend on the number of its threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def place(tmp_path, one_thread):
    """Twelve small pictures, a broken one, and a small model."""
    (tmp_path / "in").mkdir()
    clouds(tmp_path / "in", 12, (300, 200))
    (tmp_path / "in" / "broken.png").write_text("no picture")
    save(random_bundle(), tmp_path / "tiny")
    return tmp_path


def batch_of(place, device, out="out", **more):
    options = BatchOptions(model=str(place / "tiny"), device=device, precision="fp32", capacity=2, **more)
    return Batch(plan([place / "in"], place / out), options)


def run(batch, watch=None):
    batch.prepare()
    return list(batch.run(watch))


def pictures(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_two_devices_give_what_one_gives_and_every_picture_once(place):
    begun = Counter()
    alone = run(batch_of(place, "cpu", "alone"))
    both = run(batch_of(place, "cpu,cpu"), Watch(begun=lambda task, megapixels, tiles: begun.update([task.name])))
    assert pictures(place / "out") == pictures(place / "alone")
    assert len(pictures(place / "out")) == 12
    assert Counter(outcome.task.name for outcome in both) == Counter(outcome.task.name for outcome in alone)
    assert [outcome.task.name for outcome in both if outcome.error] == ["broken.png"]
    assert all(outcome.steps and outcome.megapixels for outcome in both if not outcome.error)
    assert begun == Counter(outcome.task.name for outcome in both if not outcome.error)
    assert len(batch_of(place, "cpu").done) == 12, "the manifests of all processes are known to the next run"


def test_a_script_that_guards_nothing_may_use_several_devices(place):
    call = f"rngcli.denoise_folder('in', 'out', device='cpu,cpu', model={str(place / 'tiny')!r}, detail=0)"
    (place / "script.py").write_text(f"import rngcli\nprint(sum(not o.error for o in {call}))\n")
    known = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=place, env=known, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "12\n"), done.stderr


def killing(times):
    """A watch that kills a device's process at moments when it has begun a picture."""
    killed = []

    def begun(task, megapixels, tiles):
        workers = [process for process in active_children() if process.is_alive() and process.name.startswith("rng")]
        if len(killed) < times and workers:
            killed.append(workers[0].pid)
            workers[0].kill()

    return killed, Watch(begun=begun)


def test_a_process_that_dies_loses_nobodys_work_and_its_pictures_are_taken_over_once(place):
    run(batch_of(place, "cpu", "alone"))
    killed, watch = killing(2)
    outcomes = run(batch_of(place, "cpu,cpu"), watch)
    assert len(killed) == 2
    assert pictures(place / "out") == pictures(place / "alone")
    assert Counter(outcome.task.name for outcome in outcomes).most_common(1)[0][1] == 1, "each told once"
    assert [outcome.task.name for outcome in outcomes if outcome.error] == ["broken.png"]
    assert not any(outcome.before for outcome in outcomes)
    assert all(outcome.megapixels for outcome in outcomes if not outcome.error)


def test_processes_that_always_die_are_a_fault_of_the_machine(place):
    clouds(place / "in", 60, (16, 16))
    killed, watch = killing(99)
    with pytest.raises(EnvironmentFault, match="all devices have died"):
        run(batch_of(place, "cpu,cpu"), watch)
    assert len(set(killed)) == 6


def test_fail_fast_ends_all_processes(place):
    batch = batch_of(place, "cpu,cpu", files=FileOptions(fail_fast=True))
    batch.prepare()
    outcomes = []
    with pytest.raises(PictureError):
        outcomes.extend(batch.run())
    told = {outcome.task.name for outcome in outcomes if not outcome.error}
    assert set(pictures(place / "out")) == told or len(pictures(place / "out")) < 12
    assert not list((place / "out").glob(".rng-*"))


def test_a_run_that_is_interrupted_stops_its_processes_and_goes_on_later(place):
    rng = [sys.executable, "-m", "rngcli", "denoise", str(place / "in"), str(place / "out"), "--model",
           str(place / "tiny"), "--device", "cpu,cpu"]  # fmt: skip
    running = subprocess.Popen(rng, stderr=subprocess.PIPE, text=True)
    while not pictures(place / "out") and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert "Traceback" not in said
    assert not list((place / "out").glob(".rng-*"))
    done = set(pictures(place / "out"))
    again = subprocess.run(rng, capture_output=True, text=True, check=False)
    assert again.returncode == 1, again.stderr
    assert re.search(rf"{12 - len(done)} done, {len(done)} done before, 1 failed", again.stderr), again.stderr


def test_the_command_tells_of_many_devices_as_of_one(place):
    command = ["denoise", str(place / "in"), str(place / "out"), "--model", str(place / "tiny"), "--device", "cpu,cpu",
               "--json", "--report", str(place / "report.json"), "--reference", str(place / "in"),
               "--precision", "fp32", "--step-map", str(place / "maps")]  # fmt: skip
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1, done.output
    *rows, summary = (json.loads(line) for line in done.stdout.splitlines())
    assert summary["summary"] | {"seconds": 0} == {
        "done": 12, "skipped": 0, "failed": 1, "dropped": 0, "not_begun": 0, "passed_over": 0, "seconds": 0,
    }  # fmt: skip
    assert {row["status"] for row in rows} == {"done", "failed"}
    assert all(row["psnr"] for row in rows if row["status"] == "done"), "scores are measured in the processes"
    assert len(json.loads((place / "report.json").read_text())) == 13
    assert len(list((place / "maps").glob("*.steps.png"))) == 12


def test_devices_by_name(monkeypatch):
    assert devices_named("auto") == ("auto",)
    assert devices_named("cpu, cpu") == ("cpu", "cpu")
    assert devices_named("all") == ("auto",), "where there is no card"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert devices_named("all") == ("cuda:0", "cuda:1", "cuda:2")
    with pytest.raises(UsageError, match="unknown device"):
        devices_named("cpu,tpu")
    monkeypatch.setattr("rngcli.batch.batch_options.find_device", torch.device)  # as if the cards were there
    assert devices_named("cuda:0,cuda:2") == ("cuda:0", "cuda:2")
    with pytest.raises(UsageError, match="several kinds"):
        devices_named("cpu,cuda:0")


# --- the queue ----------------------------------------------------------------------------------------------------


def tasks_of(count):
    return [Task(str(k), Path("in", str(k)), Path("out", str(k))) for k in range(count)]


def test_what_a_worker_had_is_lost_with_it_given_out_once_more_and_then_given_up():
    queue = TaskQueue(tasks_of(4))
    first, second, third = (queue.take(worker) for worker in ("a", "a", "b"))
    assert queue.settled("a", Outcome(first))
    assert queue.gone("a") == []
    assert queue.take("a") is None, "what it asked for while it died"
    assert not queue.settled("a", Outcome(second)), "it is nobody's now"
    assert queue.left == 3
    again = queue.take_lost("c")
    assert again == second
    assert queue.is_again(second)
    assert queue.take_lost("c") is None
    assert queue.gone("c") == [second]
    assert queue.settled("b", Outcome(third))
    assert queue.left == 1


def test_one_queue_serves_a_thousand_workers_and_not_any_number():
    costs = Costs(call=0.0006, trip=0.003, outcome=0.0004)
    served = simulate(1000, 2.0, costs, pictures_each=8)
    assert served.working > 0.99
    assert served.queue_busy == pytest.approx(2 * costs.call * served.rate)
    held_up = simulate(4000, 0.5, costs, pictures_each=4)
    assert held_up.queue_busy > 0.95
    assert held_up.rate < 1 / (2 * costs.call) * 1.01
    assert held_up.working < 0.3


# --- shards -------------------------------------------------------------------------------------------------------


def test_shards_have_every_picture_once_between_them_and_agree_about_which():
    inputs = replace(plan_of(200), passed_over=Counter({"GIF": 2}))
    parts = [Shard(i, 7).of(inputs) for i in range(1, 8)]
    names = [task.name for part in parts for task in part.tasks]
    assert sorted(names) == sorted(task.name for task in inputs.tasks)
    assert max(len(part.tasks) for part in parts) < 3 * 200 / 7
    assert [part.passed_over.total() for part in parts] == [2, 0, 0, 0, 0, 0, 0]
    assert [task.name for task in Shard(2, 5).of(inputs).tasks][:3] == [
        task.name for task in inputs.tasks if Shard(2, 5).holds(task)
    ][:3]
    composed, decomposed = (replace(inputs.tasks[0], name=name) for name in ("é.png", "e\u0301.png"))
    assert Shard(1, 9).holds(composed) == Shard(1, 9).holds(decomposed), "macOS and Linux agree"


def plan_of(count):
    from rngcli.batch.inputs import Inputs

    return Inputs(tasks_of(count), Path("out"))


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/0", "a/b", "1", "1/1000000000", "-1/3"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(UsageError, match="shard"):
        Shard.named(text)


def test_shards_by_the_command_and_all_of_them_are_one_folder(place):
    for part in ("1/2", "2/2"):
        command = ["denoise", str(place / "in"), str(place / "out"), "--model", str(place / "tiny"), "--shard", part]
        done = CliRunner().invoke(app, command)
        assert done.exit_code in (0, 1), done.output
    assert len(pictures(place / "out")) == 12
    assert len(batch_of(place, "auto").todo) in (1, 13), "13 where the precision of auto is another"
    assert walk.written_by_rng(place / "out")
