"""Two processes under torchrun train one network: the same as one process that accumulates two batches."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from rngcli.cli import app
from rngcli.data.crops import Batches, Photographs
from rngcli.errors import EnvironmentFault, UsageError
from rngcli.methods.rng import rng_of
from rngcli.models import bundle as checkpoint
from rngcli.training.distributed import Joined, Ranks, find_ranks
from rngcli.training.labels import Labels
from rngcli.training.stages.reconstruct import Reconstruct
from rngcli.training.trainer import Trainer, step_generator
from tests.tiny import NAF, clouds, random_bundle
from tests.two_ranks import SPEC, labelled

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return clouds(tmp_path_factory.mktemp("photographs"), 4, (120, 100), (6, 8))


def torchrun(*arguments):
    """Two processes on this machine that meet without any network."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(
        [*command, "--local-addr", "127.0.0.1", "-m", *map(str, arguments)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip


def close(mine, other):
    return all(torch.allclose(mine[name], other[name], rtol=1e-4, atol=1e-6) for name in mine | other)


def test_two_ranks_learn_and_label_what_one_does_that_accumulates_and_fail_together(photographs, tmp_path):
    done = torchrun("tests.two_ranks", photographs, tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    for part in ("net", "average"):
        assert all(torch.equal(first[part][name], second[part][name]) for name in first[part])
    assert (first["reports"], second["reports"]) == (1, 0), "only rank 0 reports"
    torch.manual_seed(0)
    batches = Batches(Photographs.load(sorted(photographs.glob("*.png")), 64), size=2)
    alone = Trainer(Reconstruct(NAF, batches), replace(SPEC, accumulate=2), tmp_path / "alone")
    list(alone.run())
    assert close(alone.stage.net.state_dict(), first["net"])
    assert close(alone.average.state_dict(), first["average"])
    labels = labelled(Labels(tmp_path / "alone.pt", random_bundle(), ""), batches, 4)
    for rank in (0, 1):
        assert torch.allclose(torch.load(tmp_path / f"table{rank}.pt")[0], labels.lpips, rtol=1e-4, atol=1e-6)
    assert [(tmp_path / f"labels{rank}.pt").exists() for rank in (0, 1)] == [True, False]
    errors = [(tmp_path / f"error{rank}.txt").read_text().splitlines() for rank in (0, 1)]
    assert all("nan at step 2" in cause for cause, _ in errors)
    assert sorted(speaks for _, speaks in errors) == ["False", "True"], "one of them tells why"


def test_the_command_writes_one_state_one_log_and_one_bundle(photographs, tmp_path):
    about = ["train", "reconstruct", "--data", str(photographs), "--steps", "3", "--batch", "2", "--crop", "64"]
    about += ["--size", "xs", "--no-compile", "--device", "cpu", "--run-dir"]
    done = torchrun("rngcli", *about, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("step 3 ") == 1
    assert len((tmp_path / "two" / "reconstruct" / "log.jsonl").read_text().splitlines()) == 1
    state = torch.load(tmp_path / "two" / "reconstruct" / "state.pt")
    assert state["step"] == 3
    assert not any("module" in name for part in ("net", "average") for name in state[part]), "a state knows no ranks"
    alone = CliRunner().invoke(app, [*about, str(tmp_path / "one"), "--accumulate", "2"])
    assert alone.exit_code == 0, alone.output
    bundles = [checkpoint.load(tmp_path / folder / "bundle.safetensors") for folder in ("two", "one")]
    assert close(*(rng_of(bundle).nafnet.state_dict() for bundle in bundles))
    assert [bundle.provenance["reconstruct"]["batch"] for bundle in bundles] == [4, 4]


def test_what_stops_all_is_said_once(photographs, tmp_path):
    about = ["--data", photographs, "--run-dir", tmp_path, "--crop", 512, "--steps", 1]
    done = torchrun("rngcli", "train", "reconstruct", *about)
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("rng: ")]
    assert len(told) == 1
    assert "512×512" in told[0]


def test_one_process_is_the_first_of_one(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = find_ranks()
    assert (type(alone), alone.first, alone.device_name("cuda:1")) == (Ranks, True, "cuda:1")
    assert (alone.broadcast(1.5, 2.0), alone.on_rank0(lambda: "made"), alone.speaks()) == ((1.5, 2.0), "made", True)


def test_ranks_that_cannot_be_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(EnvironmentFault, match="torchrun"):
        find_ranks()
    rank = object.__new__(Joined)
    rank.rank = rank.local = 1
    rank.size = 2
    with pytest.raises(UsageError, match="one device for 2"):
        rank.device_name("cuda:1")
    if torch.cuda.device_count() < 2:
        with pytest.raises(EnvironmentFault, match="has no GPU"):
            rank.device_name("cuda")


def test_only_what_connections_say_is_put_down_to_another_process():
    def end(error):
        with object.__new__(Joined).together():
            raise error

    with pytest.raises(EnvironmentFault, match="another process of this run has ended"):
        end(RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:15256"))
    for error in (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("mat1 and mat2 shapes differ")):
        with pytest.raises(type(error), match=str(error)):
            end(error)


def test_no_two_batches_of_a_run_are_drawn_alike():
    draws = {
        torch.rand(2, generator=step_generator(0, step, batch, torch.device("cpu"))).sum().item()
        for step in range(3)
        for batch in (*range(8), *range(60, 70), *range(125, 132))
    }
    assert len(draws) == 3 * 25
