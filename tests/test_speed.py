"""The bench measures what it says: every row of a batch, every wait, and the same pictures as the engine's."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from rngcli import images
from rngcli.cli import app
from rngcli.evaluation.speed import measurement, peers
from rngcli.evaluation.speed.loops import PlainLoop, fixed_batches
from rngcli.evaluation.speed.measurement import STAGES, Subject, budget_line, measure
from rngcli.evaluation.speed.stages import StagedPipeline
from rngcli.inference.engine import Job, denoise
from rngcli.inference.pipeline import Pipeline
from rngcli.methods.contract import Request
from rngcli.models.bundle import save
from tests.test_recovery import bundle  # noqa: F401 - a fixture: a method that costs nothing
from tests.tiny import random_bundle

PAGES = "THP_MEM_ALLOC_ENABLE"


def noise(*shape):
    return np.random.default_rng(0).random((*shape, 3), np.float32)


def test_slots_are_occupied_where_budgets_are_mixed(bundle):  # noqa: F811
    pipeline = StagedPipeline(bundle, "cpu", "fp32", 16)
    level = np.linspace(0, 1, 130, dtype=np.float32)[:, None, None]
    jobs = [Job(str(i), (noise(130, 130) * level) ** (0.3 + i / 30)) for i in range(30)]
    results = list(denoise(jobs, pipeline, Request()))
    budgets = {int(steps) for result in results for steps in result.steps.flat}
    tiles = sum(result.steps.size for result in results)
    assert (tiles >= 500, len(budgets) >= 4) == (True, True), (tiles, budgets)
    assert pipeline.tiles["blend"] == tiles
    assert pipeline.tiles["step"] == sum(int(result.steps.sum()) for result in results)
    assert pipeline.occupancy >= 0.97
    needed, stepped = fixed_batches(Pipeline(bundle, "cpu", "fp32", 16), [job.pixels for job in jobs], Request())
    assert needed == pipeline.tiles["step"]
    assert needed / stepped < 0.9, "batches that wait for their slowest tile idle"


def test_the_cost_of_each_evaluation_is_told_by_a_line_through_runs(monkeypatch):
    """By a clock that only the pipeline moves: how long calls take on this machine is no matter of tests."""
    clock = SimpleNamespace(now=0.0)

    def costing(call, seconds):
        def costs(*given):
            clock.now += seconds
            return call(*given)

        return costs

    monkeypatch.setattr(Pipeline, "start", costing(Pipeline.start, 3.0))
    monkeypatch.setattr(Pipeline, "step", costing(Pipeline.step, 0.5))
    monkeypatch.setattr(measurement.time, "process_time", lambda: clock.now)
    first, each, r2 = budget_line(Pipeline(random_bundle(), "cpu", "fp32", 1), noise(256, 480))
    assert (first, each, r2) == pytest.approx((3.0, 0.5, 1.0))


def test_the_plain_loop_makes_the_engines_picture():
    pipeline, pixels, request = Pipeline(random_bundle(), "cpu", "fp32", 2), noise(260, 60), Request(seed=3)
    (result,) = denoise([Job("x", pixels)], pipeline, request)
    np.testing.assert_allclose(PlainLoop(pipeline).restore(pixels, request), result.pixels, atol=1 / 255)


def test_every_figure_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "SIDE", 32)
    images.write(tmp_path / "a.png", images.Image(noise(70, 1100)))
    made = random_bundle()
    opened = []

    def opening(kind):
        opened.append(kind(made, "cpu", "fp32", 2))
        return opened[-1]

    figures = measure(Subject(opening, Request(), [tmp_path / "a.png"]), lambda what: None)
    assert set(figures.seconds) == set(STAGES)
    assert all(seconds > 0 for seconds in figures.seconds.values())
    assert (figures.tiles, figures.megapixels) == (2, pytest.approx(0.077))
    assert 0 < figures.evaluations <= 4
    assert 0 < figures.start_share < 1
    assert figures.end_to_end * figures.engine * figures.plain * figures.fixed > 0
    assert figures.host_bytes > 2**26
    assert list(tmp_path.iterdir()) == [tmp_path / "a.png"], "nothing is left behind"
    json.dumps(figures.as_json())


def test_a_peer_that_is_not_there_is_named_as_absent(monkeypatch):
    monkeypatch.setattr(peers, "SIDE", 32)
    monkeypatch.setitem(__import__("sys").modules, "bm3d", None)
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    speeds = peers.peer_speeds(noise(40, 40))
    assert list(speeds) == ["bm3d", "scikit-image NLM", "OpenCV NLM"]
    assert speeds["bm3d"] is speeds["OpenCV NLM"] is None


def test_the_command(tmp_path):
    save(random_bundle(), tmp_path / "tiny.safetensors")
    asked = ["bench", "--model", str(tmp_path / "tiny.safetensors"), "--device", "cpu", "--precision", "fp32",
             "--count", "1", "--megapixels", "0.02", "--no-peers"]  # fmt: skip
    told = CliRunner().invoke(app, [*asked, "--json"])
    assert told.exit_code == 0, told.output
    figures = json.loads(told.stdout)
    assert figures["seconds_for_24_megapixels"] == pytest.approx(24 / figures["end_to_end"])
    assert "stages …" in told.stderr
    plain = CliRunner().invoke(app, [*asked, "--detail", "0", "--no-loops", "--quiet"])
    assert "24 Mpx take" in plain.stdout
    assert "a step" not in plain.stdout
    assert not plain.stderr


@pytest.mark.parametrize(("said", "asked"), [(None, "1"), ("0", "0")])
def test_torch_is_asked_for_large_pages_before_it_is_loaded_unless_told_otherwise(said, asked):
    told = {key: value for key, value in os.environ.items() if key != PAGES} | ({PAGES: said} if said else {})
    script = f"import rngcli, os, sys; print(os.environ['{PAGES}'], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], env=told, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [asked, "False"]


LARGE = """
import resource, torch
from contextlib import nullcontext
from rngcli.device import keep_freed_memory, tensors_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(48 * 2**18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
for kept in nullcontext(), tensors_kept():
    with kept:
        print(min(faults() for _ in range(8)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_what_a_large_tensor_leaves_free_is_kept_while_networks_run():
    told = os.environ | {PAGES: "0"}  # in small pages, 12 288 of them
    done = subprocess.run([sys.executable, "-c", LARGE], env=told, capture_output=True, text=True, check=True)
    given_back, kept = map(int, done.stdout.split())
    assert kept < 100
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")  # absent where the kernel has no large pages
    assert given_back > 10_000 or "[always]" in setting.read_text()
