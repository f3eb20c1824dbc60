"""Training as a person meets it: stopped by a signal and taken up again, a line that moves, nothing where quiet."""

import io
import json
import math
import os
import re
import resource
import signal
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from rngcli import signals as interruption
from rngcli.cli import main, progress
from rngcli.cli.progress import Narrator
from rngcli.data.crops import Batches, Photographs
from rngcli.errors import ModelError, UsageError
from rngcli.methods.rng import rng_of, with_rng
from rngcli.models import bundle as checkpoint
from rngcli.signals import Interruption
from rngcli.training import trainer as trainer_module
from rngcli.training.ema import update_average
from rngcli.training.stage import Progress
from rngcli.training.stages.reconstruct import Reconstruct
from rngcli.training.trainer import Trainer, TrainSpec
from tests.tiny import GEN, NAF


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (70, 80, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def train(photographs, monkeypatch, capfd):
    """Run `rng train` in this process, as its main program does."""

    def run(folder, *arguments, stage="reconstruct"):
        about = ["--batch", "2", "--crop", "64", "--size", "xs", "--no-compile", "--device", "cpu"]
        given = ["rng", "train", stage, "--data", str(photographs), "--run", str(folder), *about, *arguments]
        monkeypatch.setattr(sys, "argv", given)
        with pytest.raises(SystemExit) as end:
            main()
        return SimpleNamespace(code=end.value.code, err=capfd.readouterr().err)

    return run


def state(folder):
    return torch.load(folder / "reconstruct" / "state.pt")


def during(monkeypatch, owner, name, act):
    """Have `act` done within a method, before what it does."""
    before = getattr(owner, name)

    def acting(self, *arguments):
        act(self)
        return before(self, *arguments)

    monkeypatch.setattr(owner, name, acting)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_step_end_and_the_same_command_goes_on(train, tmp_path, monkeypatch, number):
    def sending(average, net, step, most):
        if step == 1:
            os.kill(os.getpid(), number)
        update_average(average, net, step, most)

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "update_average", sending)  # the optimiser has stepped
        done = train(tmp_path / "cut", "--steps", "3")
    assert done.code == 130
    assert done.err.splitlines()[-1] == (
        "rng: interrupted after step 2; what is learned is saved; the same command goes on from there"
    )
    assert state(tmp_path / "cut")["step"] == 2
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    done = train(tmp_path / "cut", "--steps", "3")
    assert (done.code, "going on from step 2" in done.err) == (0, True)
    assert train(tmp_path / "unbroken", "--steps", "3").code == 0
    mine, other = state(tmp_path / "cut"), state(tmp_path / "unbroken")
    assert all(torch.equal(mine[part][name], other[part][name]) for part in ("net", "average") for name in mine[part])


def test_a_signal_between_steps_is_not_kept_waiting(train, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        during(patch, Reconstruct, "validate", lambda task: os.kill(os.getpid(), signal.SIGTERM))
        done = train(tmp_path, "--steps", "1")
    assert (done.code, state(tmp_path)["step"]) == (130, 1)
    assert not (tmp_path / "reconstruct" / "log.jsonl").exists()
    with monkeypatch.context() as patch:
        during(patch, Photographs, "__init__", lambda photographs: os.kill(os.getpid(), signal.SIGTERM))
        done = train(tmp_path, "--steps", "1")
    assert done.code == 130
    assert done.err.splitlines()[-1] == "rng: interrupted; the same command goes on from what is saved"


def test_a_second_signal_is_not_held_back(monkeypatch):
    wish, now = Interruption(), [100.0]
    monkeypatch.setattr(interruption.time, "monotonic", lambda: now[0])
    with wish.heard():
        with wish.held():
            for now[0] in (100.0, 100.9):  # torchrun passes on what the terminal has sent already
                os.kill(os.getpid(), signal.SIGINT)
            assert wish.asked
            now[0] = 101.5
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    with wish.heard(heed=False):
        os.kill(os.getpid(), signal.SIGTERM)


def test_quiet_says_nothing_but_failures(train, tmp_path):
    done = train(tmp_path, "--steps", "1", "--quiet")
    assert (done.code, done.err) == (0, "")
    (tmp_path / "reconstruct" / "state.pt").write_bytes(b"cut short")
    done = train(tmp_path, "--steps", "2", "--quiet")
    assert (done.code, len(done.err.splitlines())) == (3, 1)
    assert "state.pt is damaged" in done.err


def test_a_state_that_is_no_table_is_damaged(photographs, tmp_path):
    batches = Batches(Photographs.load(sorted(photographs.glob("*.png")), 64), 2)
    trainer = Trainer(Reconstruct(NAF, batches), TrainSpec(steps=1), tmp_path)
    torch.save([1], trainer.state_file)
    with pytest.raises(ModelError, match="is damaged: it holds no state; remove it"):
        trainer.resume()


def test_the_log_of_a_perfect_score_is_json(tmp_path):
    log = tmp_path / "log.jsonl"
    Progress(1, 0.5, 0.1, 1e-3, {"psnr_25": math.inf}).append_to(log)
    assert json.loads(log.read_text(), parse_constant=pytest.fail)["scores"] == {"psnr_25": "inf"}


def test_a_state_of_other_networks_is_refused(photographs, tmp_path):
    batches = Batches(Photographs.load(sorted(photographs.glob("*.png")), 64), 2)
    Trainer(Reconstruct(NAF, batches), TrainSpec(steps=1), tmp_path).save()
    other = Trainer(SimpleNamespace(net=torch.nn.Linear(GEN.width, 3)), TrainSpec(steps=1), tmp_path)
    with pytest.raises(ModelError, match="no state of this network"):
        other.resume()


class Terminal(io.StringIO):
    """A stderr that a bar is drawn on."""

    def isatty(self):
        return True


class Plain(io.StringIO):
    """A stderr that goes into a file."""


@pytest.fixture
def follow(photographs, tmp_path, monkeypatch):
    """What is seen of three steps with a checkpoint each, on a stderr of a kind."""

    def seen(stderr, quiet=False):
        batches = Batches(Photographs.load(sorted(photographs.glob("*.png")), 64), 2)
        often = TrainSpec(steps=3, save_minutes=0, overhead=np.inf)
        trainer = Trainer(Reconstruct(NAF, batches), often, tmp_path / type(stderr).__name__)
        monkeypatch.setattr(sys, "stderr", stderr)
        Narrator(quiet).follow(trainer, crops=2)
        return stderr.getvalue()

    return seen


def test_a_terminal_sees_step_loss_speed_time_left_and_score(follow, monkeypatch):
    bar = progress.bar

    def eager(*arguments):
        shown = bar(*arguments)
        shown.mininterval = 0
        return shown

    monkeypatch.setattr(progress, "bar", eager)
    shown = follow(Terminal())
    for part in ("training:  67%|", "4/6 [", "step 2  loss 0.", "psnr_25 "):
        assert part in shown
    # A busy machine takes more than a second a picture, and tqdm then turns the rate over.
    assert re.search(r"<\d\d:\d\d, +[\d.]+( pictures/s|s/ ?pictures), step 2", shown)
    assert shown.count("min  loss") == 3, "a line a checkpoint"


def test_off_a_terminal_there_is_a_line_a_checkpoint_and_one_a_minute(follow, monkeypatch):
    plain = follow(io.StringIO())
    assert [line.split("  ")[0] for line in plain.splitlines()] == ["step 1", "step 2", "step 3"]
    monkeypatch.setattr(progress, "MINUTE", 0.0)
    monkeypatch.setattr(Narrator, "say", lambda self, line: None)
    again = [line for line in follow(Plain()).splitlines() if line]
    assert "\r" not in "".join(again)
    assert again[1].startswith("training: 4 of 6 pictures, ")
    assert re.search(r"(/s|s/ ?pictures), \d\d:\d\d left  step 2  loss 0\.\d{4}  psnr_25 ", again[1])


def test_work_is_told_of_at_once_and_by_the_minute(capsys, monkeypatch):
    assert list(Narrator().track("abc", "decoding", 3, "pictures")) == ["a", "b", "c"]
    assert capsys.readouterr().err == "decoding 3 pictures\n"
    monkeypatch.setattr(progress, "MINUTE", 0.0)
    assert list(Narrator().track("abc", "decoding", 3, "pictures")) == ["a", "b", "c"]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("decoding: 2 of 3 pictures, ")
    assert list(Narrator(quiet=True).track("abc", "decoding", 3, "pictures")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("option", "value"),
    [("--minutes", "0"), ("--minutes", "nan"), ("--minutes", "-3"), ("--minutes", "inf"), ("--lr", "-1"),
     ("--lr", "nan"), ("--lr", "20"), ("--crop", "50"), ("--crop", "100000000"), ("--batch", "100000000")],
)  # fmt: skip
def test_numbers_that_cannot_be_meant_are_refused_in_a_line(train, tmp_path, option, value):
    done = train(tmp_path, *(["--steps", "1"] * (option != "--minutes")), option, value)
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert done.err.startswith(f"rng: {option} ")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_at_a_checkpoint_leaves_the_old_state(train, tmp_path, monkeypatch):
    assert train(tmp_path, "--steps", "1").code == 0
    before = (tmp_path / "reconstruct" / "state.pt").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # refused as a full disk would refuse it
    try:
        done = train(tmp_path, "--steps", "2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert done.code == 5
    assert "state.pt cannot be written (File too large)" in done.err.splitlines()[-1]
    assert (tmp_path / "reconstruct" / "state.pt").read_bytes() == before
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".part")]
    assert train(tmp_path, "--steps", "2").code == 0


def test_a_batch_beyond_the_memory_is_a_fault_of_the_machine(train, tmp_path, monkeypatch):
    def loss(self, forward, rng):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] data. DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Reconstruct, "loss", loss)
    done = train(tmp_path, "--steps", "1")
    assert (done.code, done.err.splitlines()[-1]) == (
        5, "rng: the batch needs more memory than there is; lower --batch or --crop",
    )  # fmt: skip


def test_a_batch_is_degraded_by_what_was_asked_for(train, tmp_path):
    done = train(tmp_path, "--steps", "1", "--noise", "awgn=1,film=3")
    assert done.code == 0, done.err
    noise = checkpoint.load(tmp_path / "bundle.safetensors").provenance["reconstruct"]["noise"]
    assert noise == {"awgn": 0.25, "others": {"film": 3.0}}
    refused = train(tmp_path, "--steps", "2", "--noise", "rain=1")
    assert refused.code == 2
    assert "kinds are awgn, camera" in refused.err


def test_it_says_at_once_what_it_does(train, tmp_path):
    lines = train(tmp_path, "--steps", "1").err.splitlines()
    assert lines[:3] == ["decoding 2 pictures", "decoding 1 picture", "2 pictures, 0 Mpx; 1 held out"]


def test_a_run_begins_with_a_trained_model(train, tmp_path):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    assert train(first, "--steps", "2").code == 0
    assert train(first, "--steps", "1", stage="generate").code == 0
    model = first / "bundle.safetensors"
    assert train(second, "--steps", "1", "--lr", "0", "--from", str(model)).code == 0
    assert train(third, "--steps", "1", "--lr", "0", "--from", str(model), stage="generate").code == 0
    before, stage1, stage2 = (checkpoint.load(folder / "bundle.safetensors") for folder in (first, second, third))
    for after in (stage1, stage2):
        old, new = (rng_of(bundle).generator.parameters() for bundle in (before, after))
        assert all(torch.equal(a, b) for a, b in zip(old, new, strict=True)), "at a rate of 0 nothing is learned"
        old, new = (rng_of(bundle).nafnet.state_dict() for bundle in (before, after))
        folded = [name for name in new if not torch.equal(old[name], new[name])]
        assert all("conv3" in name for name in folded), "what pools over a tile is folded into the next convolution"
    specs = (rng_of(bundle).nafnet.spec for bundle in (before, stage2))
    assert not folded, "stage 2 leaves the reconstruction alone"
    assert len(set(specs)) == 1
    assert stage1.provenance["reconstruct"]["from"] == before.provenance["reconstruct"] | {"model": before.hash}
    assert stage2.provenance["generate"]["from"]["steps"] == 1
    failed = train(third, "--steps", "1", "--from", str(model), "--generator", "unet", stage="generate")
    assert (failed.code, "is no unet" in failed.err) == (UsageError.code, True)
    failed = train(tmp_path / "fourth", "--steps", "1", "--from", "nobody")
    assert (failed.code, "no model is named 'nobody'" in failed.err) == (ModelError.code, True)


def test_a_generator_with_nothing_left_to_learn_keeps_what_stage_three_found(train, tmp_path):
    assert train(tmp_path, "--steps", "1").code == 0
    assert train(tmp_path, "--steps", "1", stage="generate").code == 0
    bundle = checkpoint.load(tmp_path / "bundle.safetensors")
    found = replace(rng_of(bundle).process, last=0.1, gain=1.4)
    checkpoint.save(with_rng(bundle, process=found), tmp_path / "bundle.safetensors")
    assert train(tmp_path, "--steps", "1", stage="generate").code == 0
    assert rng_of(checkpoint.load(tmp_path / "bundle.safetensors")).process == found
    assert train(tmp_path, "--steps", "2", stage="generate").code == 0
    assert rng_of(checkpoint.load(tmp_path / "bundle.safetensors")).process != found, "another generator is searched"


def test_what_begins_with_a_trained_model_learns_from_other_crops(train, tmp_path):
    origins = {"first": None, "second": "first", "again": "first", "third": "second"}
    logs = []
    for name, origin in origins.items():  # at a rate of 0 all have one network: their losses tell the crops apart
        begun = ["--from", str(tmp_path / origin / "bundle.safetensors")] if origin else []
        assert train(tmp_path / name, "--steps", "1", "--lr", "0", *begun).code == 0
        logs.append(json.loads((tmp_path / name / "reconstruct" / "log.jsonl").read_text()))
    _, second, again, third = logs
    assert second["scores"] == again["scores"] == third["scores"]
    assert second["loss"] == again["loss"] != third["loss"]
