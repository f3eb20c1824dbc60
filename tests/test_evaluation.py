"""Rows, resume, methods and failures of an evaluation, with quick denoisers in place of the networks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import loadmat, savemat
from scipy.ndimage import uniform_filter
from typer.testing import CliRunner

from rngcli.cli.eval import evaluate
from rngcli.data import Benchmark, named, paired, with_noise
from rngcli.diffusion.schedule import Budget
from rngcli.errors import EnvironmentFault, Exit, ModelError, NoInputError, PictureError, UsageError
from rngcli.evaluation import Column, Evaluation, EvaluationPlan, Sweep, methods
from rngcli.evaluation.report import read, summarise
from rngcli.inference.engine import Job, Result
from rngcli.inference.pipeline import Pipeline
from rngcli.methods.rng import RnGParts
from rngcli.metrics.suite import Judge, Options
from rngcli.nets.nafnet import NAFNet, NAFNetSpec
from rngcli.nets.unet import UNet, UNetSpec
from tests.tiny import identity_bundle, random_bundle

FIDELITY = Options(names=("psnr", "ssim"))


def blurred(jobs: Iterable[Job], sigma: float | None) -> Iterator[Result]:
    """A denoiser of a kind: the mean of 3×3 pixels, in 2×3 tiles of 7 steps."""
    for job in jobs:
        pixels = uniform_filter(job.pixels, (3, 3, 1)).clip(0, 1)
        yield Result(job.key, pixels, np.full((2, 3), 7, np.int32), 0.0)


BLUR = Column("blur", blurred)
(INPUT,) = methods(["input"], Sweep(), lambda: pytest.fail("input needs no model"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "clean").mkdir()
    for index in range(4):
        smooth = uniform_filter(rng.random((40, 56, 3)), (9, 9, 1))
        Image.fromarray((smooth * 255).astype(np.uint8)).save(tmp_path / f"clean/{index}.png")
    return tmp_path / "clean"


def evaluate_quickly(benchmarks: list[Benchmark], *columns: Column, options: Options = FIDELITY, **more: object):
    evaluation = Evaluation(EvaluationPlan(benchmarks, columns or (INPUT, BLUR), Judge(options), examples=2), **more)  # type: ignore[arg-type]
    return evaluation.run("a test")


def test_sidd_psnr_equals_an_independent_computation(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    clean = rng.integers(0, 256, (2, 3, 24, 24, 3), dtype=np.uint8)
    noisy = np.clip(clean + rng.normal(0, 10, clean.shape), 0, 255).astype(np.uint8)
    savemat(tmp_path / "ValidationNoisyBlocksSrgb.mat", {"ValidationNoisyBlocksSrgb": noisy})
    savemat(tmp_path / "ValidationGtBlocksSrgb.mat", {"ValidationGtBlocksSrgb": clean})
    report = evaluate_quickly(named("sidd", tmp_path))
    psnr = {(row.method, row.key): row.scores["psnr"] for row in report.rows}
    for image, block in np.ndindex(2, 3):
        x, y = noisy[image, block] / 255, clean[image, block] / 255
        for method, output in (("input", x), ("blur", uniform_filter(x, (3, 3, 1)))):
            expected = 10 * np.log10(1 / np.mean((output - y) ** 2))
            assert psnr[method, f"{image:02d}-{block:02d}"] == pytest.approx(expected, abs=1e-4)
    assert "2×3 blocks" in report.cases[0].protocol


def test_every_method_sees_the_same_noise_and_input_is_what_arithmetic_demands(folder: Path) -> None:
    seen: dict[str, list[np.ndarray]] = {"a": [], "b": []}

    def watching(name: str) -> Column:
        def run(jobs: Iterable[Job], sigma: float | None) -> Iterator[Result]:
            for job in jobs:
                seen[name].append(job.pixels)
                assert sigma == 25
                yield Result(job.key, job.pixels, np.zeros((0, 0), np.int32), 0.0)

        return Column(name, run)

    report = evaluate_quickly(with_noise(folder, [25]), watching("a"), watching("b"))
    assert all(np.array_equal(a, b) for a, b in zip(seen["a"], seen["b"], strict=True))
    assert np.mean([row.scores["psnr"] for row in report.rows]) == pytest.approx(20.172, abs=0.15)
    assert [row.evaluations for row in report.rows] == [0.0] * 8


def test_a_stopped_run_goes_on_where_it_was(folder: Path, tmp_path: Path) -> None:
    journal = tmp_path / "report.json.partial"
    asked: list[str] = []

    def breaking(limit: int) -> Column:
        def run(jobs: Iterable[Job], sigma: float | None) -> Iterator[Result]:
            for job in jobs:
                if len(asked) == limit:
                    raise KeyboardInterrupt
                asked.append(job.key)
                yield from blurred([job], sigma)

        return Column("blur", run)

    with pytest.raises(KeyboardInterrupt):
        evaluate_quickly(with_noise(folder, [25]), breaking(2), journal=journal)
    with journal.open("a") as file:
        file.write('{"row": {"case": "torn')
    whole = evaluate_quickly(with_noise(folder, [25]), breaking(99), journal=journal)
    assert asked == ["0", "1", "2", "3"]
    unbroken = evaluate_quickly(with_noise(folder, [25]), BLUR)
    assert [(r.key, r.scores) for r in whole.rows] == [(r.key, r.scores) for r in unbroken.rows]
    assert {(p.key, p.method) for p in whole.pictures} == {(p.key, p.method) for p in unbroken.pictures}
    evaluate_quickly(with_noise(folder, [10]), BLUR, journal=journal)
    written = [json.loads(line) for line in journal.read_text().splitlines()]
    assert {entry["row"]["case"] for entry in written if "row" in entry} == {"clean σ=10"}


def test_what_could_not_be_had_before_a_stop_is_told_after_it_too(folder: Path, tmp_path: Path) -> None:
    asked, journal = Options(("psnr", "niqe")), tmp_path / "report.json.partial"
    unbroken = evaluate_quickly(with_noise(folder, [25]), INPUT, options=asked, journal=journal)
    again = evaluate_quickly(with_noise(folder, [25]), INPUT, options=asked, journal=journal)
    assert len(unbroken.problems) == 4, "each is too small for NIQE"
    assert again.problems == unbroken.problems


def test_rows_of_other_files_are_not_taken_over(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other/clean"
    other.mkdir(parents=True)
    for path in folder.iterdir():
        Image.open(path).rotate(90, expand=True).save(other / path.name)
    journal = tmp_path / "report.json.partial"
    evaluate_quickly(with_noise(folder, [25]), journal=journal)
    taken = evaluate_quickly(with_noise(other, [25]), journal=journal)
    fresh = evaluate_quickly(with_noise(other, [25]))
    assert [row.scores for row in taken.rows] == [row.scores for row in fresh.rows]


def test_a_resumed_run_measures_again_what_changed_and_forgets_what_went(folder: Path, tmp_path: Path) -> None:
    journal = tmp_path / "report.json.partial"
    first = evaluate_quickly(with_noise(folder, [25]), journal=journal)
    Image.open(folder / "1.png").rotate(180).save(folder / "1.png")
    (folder / "2.png").unlink()
    seen: list[str] = []

    def watching(jobs: Iterable[Job], sigma: float | None) -> Iterator[Result]:
        for result in blurred(jobs, sigma):
            seen.append(result.key)
            yield result

    resumed = evaluate_quickly(with_noise(folder, [25]), INPUT, Column("blur", watching), journal=journal)
    assert seen == ["1"]
    assert {row.key for row in resumed.rows} == {"0", "1", "3"}
    scores = [{row.key: row.scores for row in report.rows if row.method == "blur"} for report in (first, resumed)]
    assert scores[0]["0"] == scores[1]["0"]
    assert scores[0]["1"] != scores[1]["1"]
    assert {picture.key for picture in resumed.pictures} >= {"0", "3"}


def test_pictures_equal_to_their_truth_are_counted_beside_the_mean(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "noisy").mkdir()
    for index, path in enumerate(sorted(folder.iterdir())):
        Image.open(path).rotate(180 * (index == 0)).save(tmp_path / "noisy" / path.name)
    reports = [word for form in ("json", "html", "md") for word in ("--report", tmp_path / f"r.{form}")]
    out = command("--pairs", tmp_path / "noisy", folder, "--method", "input", "--metric", "psnr", *reports)
    assert "+ 3 ∞" in out
    assert "+ 3 ∞" in (tmp_path / "r.md").read_text()
    json.loads((tmp_path / "r.json").read_text(), parse_constant=lambda c: pytest.fail(c))
    assert [row.scores["psnr"] == float("inf") for row in read(tmp_path / "r.json").rows] == [False, True, True, True]


def test_bad_pictures_are_named_once_and_the_rest_goes_on(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / "noisy").mkdir(exist_ok=True)
        (tmp_path / "noisy" / path.name).write_bytes(path.read_bytes())
    Image.new("RGB", (56, 39)).save(folder / "0.png")
    (tmp_path / "noisy/1.png").write_bytes(b"torn")
    (folder / "2.png").unlink()
    report = evaluate_quickly([paired(tmp_path / "noisy", folder)])
    assert {row.key for row in report.rows} == {"3"}
    assert len(report.problems) == 3
    for name, words in (("0.png", "its truth is 56×39"), ("1.png", "no picture"), ("2.png", "no partner")):
        assert any(name in problem and words in problem for problem in report.problems)


def test_a_failed_output_is_a_problem_not_a_row(folder: Path) -> None:
    def failing(jobs: Iterable[Job], sigma: float | None) -> Iterator[Result]:
        for result in blurred(jobs, sigma):
            error = PictureError("no colours") if result.key == "2" else None
            yield Result(result.key, result.pixels, result.steps, 0.0, error)

    report = evaluate_quickly(with_noise(folder, [25]), Column("failing", failing))
    assert [row.key for row in report.rows] == ["0", "1", "3"]
    assert report.problems == ("clean σ=25 2: failing: no colours",)


def test_scores_that_cannot_be_had_fail_only_where_they_were_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RNG_LPIPS", str(tmp_path / "absent"))
    relaxed = evaluate_quickly(with_noise(folder, [25]), options=Options())
    assert [metric.key for metric in relaxed.metrics] == ["psnr", "ssim", "niqe"]
    assert relaxed.rows[0].scores["niqe"] is None
    assert not relaxed.problems
    assert any("too small for NIQE" in note for note in relaxed.notes)
    assert any("LPIPS n/a" in note and "RNG_LPIPS" in note for note in relaxed.notes)
    strict = evaluate_quickly(with_noise(folder, [25]), options=Options(names=("psnr", "niqe")))
    assert len(strict.problems) == 4
    with pytest.raises(ModelError, match="alexnet"):
        Judge(Options(names=("lpips",)))
    with pytest.raises(UsageError, match="psnr, ssim"):
        Judge(Options(names=("fid",)))


def test_methods_multiply_with_details_and_budgets() -> None:
    sweep, bundle = Sweep((0.5, 1.0), (10, 100)), random_bundle()
    columns = methods(["input", "reconstruct", "rng", "fixed:20"], sweep, lambda: Pipeline(bundle, "cpu"))
    assert [column.name for column in columns] == [
        "input", "reconstruct", "rng max=10 detail=0.5", "rng max=10 detail=1", "rng max=100 detail=0.5",
        "rng max=100 detail=1", "fixed:20 detail=0.5", "fixed:20 detail=1",
    ]  # fmt: skip
    requests = {column.name: column.run.args[1] for column in columns[1:]}  # type: ignore[attr-defined]
    assert (requests["reconstruct"].detail, requests["reconstruct"].steps) == (0, None)
    assert (requests["fixed:20 detail=0.5"].steps, requests["fixed:20 detail=0.5"].max_steps) == (20, 20)
    assert (requests["rng max=10 detail=1"].steps, requests["rng max=10 detail=1"].max_steps) == (None, 10)
    with pytest.raises(UsageError, match="no method is called 'fixed:x'"):
        methods(["fixed:x"], Sweep(), lambda: object())  # type: ignore[arg-type,return-value]
    with pytest.raises(UsageError, match=r"no method is called 'magic'.*rng, .*reconstruct"):
        methods(["magic"], Sweep(), lambda: Pipeline(bundle, "cpu"))
    with pytest.raises(UsageError, match="asked for twice"):
        methods(["input", "input"], Sweep(), lambda: object())  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("name", ["nlm", "wavelet", "bm3d"])
def test_baselines_denoise_with_and_without_the_noise_level(name: str, folder: Path) -> None:
    pytest.importorskip("pywt", reason="the baselines extra is not installed")
    pytest.importorskip("bm3d" if name == "bm3d" else "skimage", reason="the baselines extra is not installed")
    told = with_noise(folder, [25])[0].limited(1)
    (method,) = methods([name], Sweep(), lambda: pytest.fail("a baseline needs no model"))
    for benchmark in (told, Benchmark(told.name, told.protocol, told.keys, told.load)):
        noisy, clean = (row.scores["psnr"] for row in evaluate_quickly([benchmark], INPUT, method).rows)
        assert clean > noisy + 3


def test_examples_carry_their_step_maps(folder: Path) -> None:
    report = evaluate_quickly(with_noise(folder, [25]))
    kept = {(p.key, p.method): p for p in report.pictures}
    assert set(kept) == {(key, method) for key in ("0", "3") for method in ("noisy", "clean", "blur")}
    blur = kept["0", "blur"]
    assert blur.uri.startswith("data:image/jpeg;base64,")
    assert (blur.width, blur.height) == (56, 40)
    assert not kept["0", "noisy"].starts


def test_the_networks_run_as_methods(folder: Path) -> None:
    torch.manual_seed(0)
    parts = RnGParts(
        NAFNet(NAFNetSpec(width=4, encoder=(1,), middle=1, decoder=(1,))),
        UNet(UNetSpec(width=8, encoder=(1,), middle=1, decoder=(1,))),
        budgets=(Budget(1.0, 4),),
    )
    bundle = parts.bundle()
    names = ["reconstruct", "fixed:2", "budget:0"]
    columns = methods(names, Sweep(), lambda: Pipeline(bundle, "cpu", "fp32", capacity=1))
    report = evaluate_quickly([with_noise(folder, [25])[0].limited(2)], *columns)
    spent = [(row.method, row.evaluations) for row in report.rows]
    assert spent == [("reconstruct", 0)] * 2 + [("fixed:2", 2)] * 2 + [("budget:0", 4)] * 2
    absent = methods(["budget:1"], Sweep(), lambda: Pipeline(bundle, "cpu", "fp32"))
    with pytest.raises(UsageError, match="no budget 1"):
        evaluate_quickly(with_noise(folder, [25]), *absent)
    smooth = methods(["budget:7"], Sweep((0.0,)), lambda: Pipeline(bundle, "cpu", "fp32", capacity=1))
    rows = evaluate_quickly([with_noise(folder, [25])[0].limited(1)], *smooth).rows
    assert [row.evaluations for row in rows] == [0], "without detail no budget is asked for"
    assert report.rows[0].scores["psnr"] != report.rows[2].scores["psnr"]
    generated = next(picture for picture in report.pictures if picture.method == "fixed:2")
    assert (generated.columns, generated.rows, generated.starts) == ([0, 56], [0, 40], [[1.0]])


def test_grain_is_the_reconstruction_under_white_noise_of_its_strength(folder: Path) -> None:
    columns = methods(
        ["reconstruct", "grain:2.5"], Sweep(), lambda: Pipeline(identity_bundle(), "cpu", "fp32", capacity=1)
    )
    jobs = [Job("grey", np.full((64, 64, 3), 0.5, np.float32))]
    plain, grainy = (next(column.run(jobs, None)).pixels for column in columns)
    assert (grainy - plain).std() * 255 == pytest.approx(2.5, rel=0.03)


# --- the command -------------------------------------------------------------------------------------------------


def command(*words: object) -> str:
    """Run `rng eval` on the words and return its stdout; raises what it raises."""
    outcome = CliRunner().invoke(evaluate, [str(word) for word in words], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


def test_the_command_writes_what_it_prints(folder: Path, tmp_path: Path) -> None:
    reports = [tmp_path / f"r.{suffix}" for suffix in ("json", "csv", "md", "html")]
    words = [word for path in reports for word in ("--report", path)]
    out = command("--clean", folder, "--sigma", "10,25", "--method", "input", "--metric", "psnr", *words)
    report = read(reports[0])
    assert [case.name for case in report.cases] == ["clean σ=10", "clean σ=25"]
    assert f"{summarise(report)[0].scores['psnr'].mean:.2f}" in out
    assert "NumPy RandomState(0)" in out
    assert all(path.stat().st_size > 300 for path in reports)
    assert not list(tmp_path.glob("*.partial"))
    same = command("compare", reports[0], reports[0])
    assert "+0.00 [+0.00, +0.00]" in same


def test_the_command_measures_on_named_noises(folder: Path, tmp_path: Path) -> None:
    words = ("--clean", folder, "--method", "input", "--metric", "psnr", "--report", tmp_path / "r.json")
    out = command(*words, "--noise", "awgn8,night,bands", "--sigma", "25")
    report = read(tmp_path / "r.json")
    assert [case.name for case in report.cases] == ["clean 8-bit σ=25", "clean night", "clean bands"]
    assert "clipped at black" in out
    assert all(15 < row.scores["psnr"].mean < 40 for row in summarise(report))


def test_a_submission_holds_the_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = np.random.default_rng(0).integers(0, 256, (2, 2, 16, 16, 3), dtype=np.uint8)
    savemat(tmp_path / "BenchmarkNoisyBlocksSrgb.mat", {"BenchmarkNoisyBlocksSrgb": noisy})
    words = ("--dataset", "sidd-benchmark", "--root", tmp_path, "--method", "input", "--submission", tmp_path / "S.mat")
    command(*words, "--metric", "psnr")
    assert np.array_equal(loadmat(tmp_path / "S.mat")["DenoisedBlocksSrgb"], noisy)


def test_wrong_use_is_refused_before_anything_runs(folder: Path, tmp_path: Path) -> None:
    monsters = {
        (): "say what to measure on",
        ("--clean", folder): "--sigma 15,25,50",
        ("--clean", folder, "--sigma", "loud"): "no list of numbers",
        ("--clean", folder, "--sigma", "25", "--report", "r.pdf"): ".html",
        ("--clean", folder, "--sigma", "25", "--report", folder): "is a folder",
        ("--clean", folder, "--sigma", "25", "--detail", "2"): "leaves",
        ("--pairs", folder, folder, "--sigma", "25"): "noise of their own",
        ("--pairs", folder, folder, "--noise", "night"): "noise of their own",
        ("--clean", folder, "--noise", "fog"): "choose from awgn, awgn8, night, film, coarse, jpeg, bands",
        ("--clean", folder, "--noise", "night", "--sigma", "25"): "leave out --sigma",
    }
    for words, message in monsters.items():
        with pytest.raises(UsageError) as caught:
            command(*words, "--method", "input")
        assert message in str(caught.value)
    with pytest.raises(EnvironmentFault, match="takes no files"):
        command("--clean", folder, "--sigma", "25", "--method", "input", "--report", folder / "0.png/r.json")
    with pytest.raises(NoInputError, match="https://"):
        command("--dataset", "sidd", "--root", tmp_path, "--method", "input")


def test_exit_codes_tell_some_from_none(folder: Path, tmp_path: Path) -> None:
    (folder / "0.png").write_bytes(b"torn")
    words = ["--clean", str(folder), "--sigma", "25", "--method", "input", "--metric", "psnr", "--quiet"]
    assert CliRunner().invoke(evaluate, words).exit_code == Exit.SOME_FAILED
    for path in folder.iterdir():
        path.write_bytes(b"torn")
    assert CliRunner().invoke(evaluate, words).exit_code == Exit.NO_INPUT


def test_the_fitted_scene_model_scores(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index in range(2):
        smooth = uniform_filter(rng.random((192, 192, 3)), (5, 5, 1))
        Image.fromarray((smooth * 255).astype(np.uint8)).save(tmp_path / f"{index}.png")
    assert "2 of 2" in command("fit-niqe", tmp_path, tmp_path / "scenes.npz")
    words = ("--clean", tmp_path, "--sigma", "5", "--method", "input", "--metric", "niqe")
    assert "NIQE" in command(*words, "--niqe-model", tmp_path / "scenes.npz")
