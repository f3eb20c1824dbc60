"""Cheap rivals of generated detail: of their strength, at the PSNR that they are to match, resumed, refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import uniform_filter
from typer.testing import CliRunner

from rngcli.cli.eval import evaluate
from rngcli.data import with_noise
from rngcli.errors import EnvironmentFault, UsageError
from rngcli.evaluation import Column, Evaluation, EvaluationPlan, Sweep, methods
from rngcli.evaluation.reconstructions import Reconstructions
from rngcli.evaluation.report import Case, Metric, Report, Row, form_of, read, summarise
from rngcli.evaluation.report.rivalry import rivalries
from rngcli.evaluation.rivals import RivalResult, TargetJob
from rngcli.inference.engine import Job, Result
from rngcli.inference.pipeline import Pipeline
from rngcli.metrics.suite import Judge, Options
from rngcli.models.bundle import save
from tests.tiny import identity_bundle, random_bundle

MEASURES = Options(names=("psnr", "placement"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "clean").mkdir()
    for index in range(3):
        smooth = uniform_filter(rng.random((48, 64, 3)), (9, 9, 1))
        Image.fromarray((smooth * 255).astype(np.uint8)).save(tmp_path / f"clean/{index}.png")
    return tmp_path / "clean"


def plan(folder: Path, names: list[str]) -> EvaluationPlan:
    made = Pipeline(random_bundle(), "cpu", "fp32", capacity=1)
    kept = Reconstructions(lambda: made)
    columns = methods(names, Sweep(), lambda: made, kept)
    return EvaluationPlan(with_noise(folder, [25]), columns, Judge(MEASURES), 0, {}, kept)


def one(column: Column, job: Job) -> np.ndarray:
    return next(column.run([job], None)).pixels


def test_blend_leaves_a_share_of_the_noisy_picture_in() -> None:
    rng = np.random.default_rng(0)
    job = Job("a", rng.random((40, 40, 3), np.float32))
    names = ["reconstruct", "blend:0", "blend:0.25", "blend:1"]
    made = Pipeline(random_bundle(), "cpu", "fp32", capacity=1)
    r, none, some, all_ = (one(column, job) for column in methods(names, Sweep(), lambda: made))
    assert not np.allclose(r, job.pixels, atol=0.02)
    np.testing.assert_array_equal(none, r)
    np.testing.assert_allclose(some, (0.75 * r + 0.25 * job.pixels).clip(0, 1), atol=1e-6)
    np.testing.assert_allclose(all_, job.pixels, atol=1e-6)


def test_grain_is_another_for_each_picture_and_seed_and_the_same_again() -> None:
    grey = np.full((40, 40, 3), 0.5, np.float32)
    made = Pipeline(identity_bundle(), "cpu", "fp32", capacity=1)
    (first,), (other,) = (methods(["grain:4"], Sweep(seed=seed), lambda: made) for seed in (0, 1))
    a = one(first, Job("a", grey))
    assert a.std() * 255 == pytest.approx(4, rel=0.05)
    np.testing.assert_array_equal(a, one(first, Job("a", grey)))
    assert not np.array_equal(a, one(first, Job("b", grey)))
    assert not np.array_equal(a, one(other, Job("a", grey)))


@pytest.mark.parametrize("kind", ["blend", "grain"])
def test_a_rival_has_the_psnr_that_it_is_to_have(kind: str) -> None:
    rng = np.random.default_rng(0)
    truth = uniform_filter(rng.random((64, 64, 3)), (9, 9, 1)).astype(np.float32)
    noisy = (truth + rng.normal(0, 0.1, truth.shape)).astype(np.float32)
    made = Pipeline(identity_bundle(), "cpu", "fp32", capacity=1)
    kept = Reconstructions(lambda: made)
    # A good reconstruction, whose PSNR is 30 dB.
    r = (truth + rng.normal(0, 10 ** (-30 / 20), truth.shape)).astype(np.float32)
    list(kept.keep([Result("a", r, np.zeros((0, 0), np.int32), 0.0)]))
    column = methods([kind, "rng"], Sweep(), lambda: Pipeline(random_bundle(), "cpu"), kept)[0]
    assert column.against == "rng"

    def matched(psnr: float) -> RivalResult:
        (found,) = column.run([TargetJob("a", noisy, truth=truth, psnr=psnr)], None)
        assert isinstance(found, RivalResult)
        return found

    def psnr(pixels: np.ndarray) -> float:
        return -10 * np.log10(np.mean((pixels.astype(np.float64) - truth) ** 2))

    for wanted in (29.5, 27.0):
        assert psnr(matched(wanted).pixels) == pytest.approx(wanted, abs=0.002)
    assert matched(29.5).strength < matched(27.0).strength
    assert matched(psnr(r) + 0.5).strength == 0, "nothing that is added makes it better"
    np.testing.assert_array_equal(matched(99.0).pixels, r)
    assert matched(1.0).strength == (1 if kind == "blend" else 255)


def test_the_rivals_match_rng_picture_by_picture_also_after_a_stop(folder: Path, tmp_path: Path) -> None:
    names = ["blend", "rng", "reconstruct", "grain"]
    report = Evaluation(plan(folder, names)).run("t")
    assert list(report.methods) == names
    psnr = {(row.method, row.key): row.scores["psnr"] for row in report.rows}
    plain = {key: value for (method, key), value in psnr.items() if method == "reconstruct"}
    for kind in ("blend", "grain"):
        for key, reached in plain.items():
            wanted = min(psnr["rng", key], reached)
            assert psnr[kind, key] == pytest.approx(wanted, abs=0.01)
    strengths = [row.strength for row in report.rows if row.method == "grain"]
    assert all(strength is not None for strength in strengths)
    (shown,) = (summary for summary in summarise(report) if summary.method == "grain")
    assert shown.strength == pytest.approx(np.mean(strengths))
    for form in ("md", "html", "csv"):
        assert "grain" in form_of(Path(f"r.{form}"))(report)
    assert f"grain ({shown.strength:.3g})" in form_of(Path("r.md"))(report)

    journal = tmp_path / "r.json.partial"
    stopped = Evaluation(plan(folder, names), journal)

    def stop(row: object) -> None:
        if len(stopped.rows) == 8:
            raise KeyboardInterrupt

    stopped.on_row = stop
    with pytest.raises(KeyboardInterrupt):
        stopped.run("t")
    again = Evaluation(plan(folder, names), journal).run("t")
    rows = {(row.method, row.key): (row.scores, row.strength) for row in again.rows}
    assert rows == {(row.method, row.key): (row.scores, row.strength) for row in report.rows}


def test_placement_needs_no_column_of_the_reconstruction(folder: Path) -> None:
    report = Evaluation(plan(folder, ["rng", "grain:3", "blend:0"])).run("t")
    placed = {(row.method, row.key): row.scores["placement"] for row in report.rows}
    assert placed["blend:0", "0"] is None, "nothing is added"
    assert all(abs(value or 0) <= 1 for value in placed.values())
    assert placed["grain:3", "0"] is not None
    with_column = Evaluation(plan(folder, ["rng", "reconstruct"])).run("t")
    assert {row.key: row.scores["placement"] for row in with_column.rows if row.method == "rng"} == {
        key: value for (method, key), value in placed.items() if method == "rng"
    }


def test_a_rival_stands_beside_each_column_of_rng() -> None:
    made = Pipeline(random_bundle(), "cpu")
    found = methods(["rng", "blend"], Sweep((1.0,), (1, 4)), lambda: made)
    assert [(c.name, c.against) for c in found[2:]] == [("blend max=1", "rng max=1"), ("blend max=4", "rng max=4")]


def test_what_cannot_be_meant_is_refused(folder: Path) -> None:
    made = Pipeline(random_bundle(), "cpu")
    for name in ("blend:2", "blend:x", "grain:-1", "grain:", "grain:nan"):
        with pytest.raises(UsageError, match="no strength"):
            methods([name], Sweep(), lambda: made)
    with pytest.raises(UsageError, match="add rng to --method"):
        methods(["reconstruct", "blend"], Sweep(), lambda: made)
    columns = methods(["rng", "blend"], Sweep(), lambda: made)
    with pytest.raises(UsageError, match="add psnr to --metric"):
        EvaluationPlan(with_noise(folder, [25]), columns, Judge(Options(names=("flat",))))


def test_the_command_compares_them(folder: Path, tmp_path: Path) -> None:
    save(random_bundle(), tmp_path / "tiny.safetensors")
    words = ["--clean", folder, "--sigma", "25", "--method", "reconstruct,rng,blend,grain:4", "--metric",
             "psnr,placement,flat,spectrum,haarpsi,brightest", "--model", tmp_path / "tiny.safetensors", "--device",
             "cpu", "--report", tmp_path / "r.json"]  # fmt: skip
    done = CliRunner().invoke(evaluate, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert re.search(r"blend \(0\.\d+\)|blend \(\d", done.stdout)
    report = read(tmp_path / "r.json")
    assert report.methods == ("reconstruct", "rng", "blend", "grain:4")
    assert set(json.loads((tmp_path / "r.json").read_text())["rows"][0]["scores"]) == {
        "psnr", "placement", "flat", "octave-2-4", "octave-4-8", "octave-8-16", "haarpsi", "brightest",
    }  # fmt: skip


def test_what_is_gained_over_a_rival_of_equal_psnr_is_told() -> None:
    metrics = tuple(
        Metric(key, key.upper(), better, 3, "") for key, better in (("psnr", "high"), ("lpips", "low"), ("flat", "one"))
    )
    lpips = {"rng": [0.1, 0.2, 0.3], "blend": [0.2, 0.2, 0.4], "rng max=4": [0.1] * 3, "grain max=4": [0.05] * 3}
    rows = tuple(
        Row("set", method, str(i), {"psnr": 30.0, "lpips": value, "flat": 1.0}, 1, 1, 1)
        for method, values in lpips.items()
        for i, value in enumerate(values)
    )
    report = Report("rng eval: x", (Case("set", "p", 3),), (*lpips, "blend:0.1"), metrics, rows)
    first, second = rivalries(report)
    assert (first.method, first.rival, first.metric, first.better) == ("rng", "blend", "lpips", 2)
    assert first.difference.mean == pytest.approx(-0.2 / 3)
    assert first.share == pytest.approx(-0.25)
    assert (second.method, second.rival, second.better) == ("rng max=4", "grain max=4", 0)
    line = "rng − blend: LPIPS -0.067 [-0.133, +0.000], -25.0%, better on 2 of 3"
    assert line in form_of(Path("r.md"))(report)
    assert line in form_of(Path("r.html"))(report)
    assert json.loads(form_of(Path("r.json"))(report))["rivals"][0]["share"] == pytest.approx(-0.25)
    alone = replace(report, rows=tuple(row for row in rows if row.key == "0"))
    json.loads(form_of(Path("r.json"))(alone), parse_constant=lambda c: pytest.fail(c))


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Reconstructions(lambda: Pipeline(identity_bundle(), "cpu", "fp32", capacity=1))
    monkeypatch.setattr(np, "save", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(EnvironmentFault, match="No space left on device"):
        list(kept.make([Job("a", np.zeros((8, 8, 3), np.float32))]))
