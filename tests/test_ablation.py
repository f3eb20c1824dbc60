"""The ablations train each variant once, go on where they were stopped, and conclude what the numbers say."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from rngcli.cli import app
from rngcli.data.crops import Batches, Photographs
from rngcli.data.degrade import DegradeSpec
from rngcli.errors import Interrupted, UsageError
from rngcli.evaluation.ablation.ablation import Ablation
from rngcli.evaluation.ablation.findings import findings, verdict
from rngcli.evaluation.ablation.joint import Joint
from rngcli.evaluation.ablation.ledger import RowResult
from rngcli.evaluation.ablation.patch_scores import PatchScores
from rngcli.evaluation.ablation.rows import FULL, PAPER, PARTS, PROCESS, SHARES, VARIANTS
from rngcli.evaluation.ablation.trainings import Effort
from rngcli.evaluation.paired import PairedDifference
from rngcli.methods.rng import rng_of, weights_hash, with_rng
from rngcli.nets.unet import UNetSpec
from rngcli.training.stages.control import ladder
from rngcli.training.stages.generate import Generate
from rngcli.training.stages.reconstruct import Reconstruct
from tests.tiny import NAF, clouds, random_bundle, random_lpips

PART = {part.key: part for part in PARTS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One has a name that is held out."""
    return clouds(tmp_path_factory.mktemp("photographs"), 3, (160, 140))


@pytest.fixture
def batches(folder):
    return Batches(Photographs.load(sorted(folder.glob("*.png")), 64), 2, DegradeSpec(gaussian_share=1.0))


@pytest.fixture(autouse=True)
def _without_validation(monkeypatch):
    """Its scores are the stages' own business, and take longer than a training of two steps."""
    for task in (Reconstruct, Generate, Joint):
        monkeypatch.setattr(task, "validate", lambda self, net: {})


def command(folder, run, *more):
    options = ["--data", folder, "--run", run, "--steps", 2, "--batch", 2, "--crop", 64, "--patches", 2, *more]
    return CliRunner().invoke(app, ["ablate", "--no-compile", *map(str, options)])


def test_the_command_trains_and_measures_and_does_nothing_twice(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("RNG_LPIPS", str(tmp_path))
    run, report = tmp_path / "run", tmp_path / "report.json"
    only = ["--only", "parts", "--only", "controller"]
    first = command(folder, run, *only, "--report", report)
    assert first.exit_code == 0, first.output
    assert "LPIPS n/a" in first.stderr
    states = {path: path.read_bytes() for path in run.rglob("state.pt")}
    assert {path.parent.name for path in states} == {row.variant.name for row in PART["parts"].rows}
    again = command(folder, run, *only)
    assert again.stdout == first.stdout
    assert not [line for line in again.stderr.splitlines() if "step" in line], "nothing is trained again"
    assert states == {path: path.read_bytes() for path in states}
    (table,) = json.loads(report.read_text())["parts"]
    rows = {row["label"]: row for row in table["rows"]}
    assert rows["reconstruct only"]["score"]["spread"] == {"25": 0, "50": 0}
    assert [rows[label]["steps"] for label in ("both", "generate only")] == [[2, 2], [2]]
    assert isinstance(command(folder, run, *only, "--seed", 1).exception, UsageError)


@pytest.mark.parametrize("row", [PART["strategy"].rows[1], PART["condition"].rows[-1]], ids=lambda row: row.label)
def test_other_variants_are_trained_and_measured(row, batches, tmp_path):
    result = Ablation(tmp_path, batches, Effort(steps=1, patches=2), None).result(row)
    assert result.evaluations == 20
    assert len(result.steps) == row.variant.shares % 2 + 1
    assert all(np.isfinite(figures).all() and len(figures) == 2 for figures in result.score.psnr.values())


def test_wrong_options_are_said_before_anything_is_trained(folder, tmp_path):
    for wrong in (["--only", "nothing"], ["--report", "a.html"], ["--size", "xxl"]):
        assert isinstance(command(folder, tmp_path / "run", *wrong).exception, UsageError), wrong
    assert not list((tmp_path / "run").rglob("state.pt"))


def test_an_interrupted_training_goes_on(batches, tmp_path, monkeypatch):
    effort = Effort(steps=4, patches=2)
    whole = Ablation(tmp_path / "whole", batches, effort, None).trainings.of(PAPER)
    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", _failing(step, after=6))
    with pytest.raises(Interrupted):
        Ablation(tmp_path / "cut", batches, effort, None).trainings.of(PAPER)
    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    resumed = Ablation(tmp_path / "cut", batches, effort, None).trainings.of(PAPER)
    assert resumed.steps == whole.steps == (4, 4)
    assert weights_hash(resumed.bundle) == weights_hash(whole.bundle)


def _failing(step, after):
    calls = iter(range(10_000))

    def wrapped(*arguments, **options):
        if next(calls) == after:
            raise KeyboardInterrupt
        return step(*arguments, **options)

    return wrapped


def test_the_controller_is_measured_against_one_budget_of_its_cost(batches, tmp_path):
    ablation = Ablation(tmp_path, batches, Effort(steps=2, patches=3, labels=4), random_lpips())
    ((_, results),) = ablation.results(["controller"])
    rungs = {budget.evaluations for budget in ladder(FULL.start, FULL.evaluations, PROCESS.last)}
    spent = results["controller"].evaluations
    assert abs(results["one budget"].evaluations - spent) == min(abs(rung - spent) for rung in rungs)
    assert all(len(result.score.lpips["25"]) == 3 for result in results.values())


def test_lpips_beside_the_error_is_a_training_of_their_own(batches, tmp_path):
    ablation = Ablation(tmp_path, batches, Effort(steps=1, patches=2), random_lpips())
    ((_, results),) = ablation.results(["perceptual"])
    assert [result.evaluations for result in results.values()] == [20, 1, 1]
    plain, perceptual = (tmp_path / name / "state.pt" for name in ("generate-fusion-v", "generate-fusion-v-perceptual"))
    assert plain.read_bytes() != perceptual.read_bytes()
    assert not list(Ablation(tmp_path, batches, Effort(steps=1, patches=2), None).results(["perceptual"]))


def test_a_bundle_shows_where_budgets_should_start(batches, tmp_path):
    bundle = random_bundle()
    bundle = with_rng(bundle, process=replace(rng_of(bundle).process, schedule=PROCESS.schedule))
    ((_, results),) = Ablation(tmp_path, batches, Effort(steps=1, patches=2), None, bundle).results(["start"])
    assert not list(tmp_path.rglob("state.pt")), "nothing is trained"
    (low, printed), *_, (top, top_printed) = [(results[a], results[b]) for a, b in PART["start"].claims]
    assert low.evaluations == 10
    # Unit noise at a quiet level is taken for a residual that is not there; at the noisiest, it is what belongs there.
    assert printed.score.spread["25"] > 2 * low.score.spread["25"]
    assert top_printed.score.spread["25"] == pytest.approx(top.score.spread["25"], rel=0.05)


def test_joint_training_reaches_both_networks_by_the_diffusion_loss_alone(batches):
    torch.manual_seed(0)
    spec = UNetSpec(8, (1,), 1, (1,), condition="noisy", embedding=16)
    losses = {}
    for supervised in (False, True):
        torch.manual_seed(0)
        joint = Joint((NAF, spec), PROCESS, batches, supervised)
        torch.nn.init.normal_(joint.net.generator.ending.weight, std=0.1)  # else it ignores d_t at first
        loss = joint.loss(joint.net, torch.Generator().manual_seed(0))
        loss.backward()
        losses[supervised] = loss.item()
        assert joint.net.nafnet.ending.weight.grad.abs().max() > 0
        assert joint.net.generator.intro.weight.grad.abs().max() > 0
    assert losses[True] > losses[False]
    parts = rng_of(joint.bundle(joint.net))
    clean, noisy = replace(batches, size=32).draw(torch.Generator().manual_seed(9))
    with torch.no_grad():
        assert parts.process.sigma_d == pytest.approx(float((clean - parts.nafnet(noisy)).std()), rel=0.5)


def test_the_minutes_are_divided_and_what_is_trained_in_one_go_has_those_of_two_stages():
    effort = Effort(minutes=SHARES)
    by_strategy = {variant.strategy: effort.training(variant.shares).minutes for variant in VARIANTS}
    assert by_strategy == {"reconstruct": 1, "generate": 1, "joint": 2, "supervised": 2, "alone": 2}


def result(psnr, lpips):
    return RowResult(PatchScores({"25": psnr}, {"25": lpips}, {"25": 30.0}, {"25": 1.0}), 20.0, (1, 1), 1.0, "")


def test_a_finding_follows_the_numbers():
    part = PART["parts"]  # the paper: both has lower PSNR and lower LPIPS than reconstruction alone
    base = result([30.0, 31.0, 32.0], [0.2, 0.3, 0.4])
    better = result([29.0, 30.1, 31.0], [0.1, 0.19, 0.3])
    worse = result([31.0, 32.1, 33.0], [0.3, 0.41, 0.5])
    for both, word in ((better, "agrees"), (worse, "does not agree"), (base, "undecided")):
        line = findings(part, {"reconstruct only": base, "generate only": base, "both": both})[0]
        assert line.count(f"({word})") == 2, line
        assert "in the paper 37.85 against 40.21 dB, LPIPS 0.0891 against 0.1877" in line
    mean = (-1.0 - 0.9 - 1.0) / 3
    assert f"PSNR {mean:+.2f}" in findings(part, {row.label: base for row in part.rows} | {"both": better})[0]


def test_what_the_paper_does_not_compare_is_only_described():
    part = PART["prediction"]
    line = findings(part, {"ε, p = 1": result([30.0, 31.0], []), "v, p = 2": result([31.0, 32.1], [])})[0]
    assert "not compared in the paper" in line
    assert line.endswith("here PSNR +1.05 ± 0.10 dB (higher).")
    assert "LPIPS" not in line


def test_a_single_patch_decides_nothing():
    assert verdict(PairedDifference.of([3.0], [1.0]), None) == "undecided"


def test_what_is_too_small_to_be_shown_decides_nothing():
    assert verdict(PairedDifference(0.004, 0.0001), None, 0.01) == "undecided"
    assert verdict(PairedDifference(0.04, 0.0001), None, 0.01) == "higher"
