"""`rng models`: a page that a person can read, and a file that other programs can run."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rngcli.cli import main
from rngcli.errors import EnvironmentFault, ModelError
from rngcli.methods.rng import rng_of
from rngcli.models import onnx_export
from rngcli.models.bundle import load, save
from rngcli.models.model_zoo import available
from tests.tiny import random_bundle


@pytest.fixture
def rng(tmp_path, monkeypatch, capfd):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["rng", "models", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capfd.readouterr()
        return SimpleNamespace(code=end.value.code, out=out, err=err)

    before = {"from": {"minutes": 3.0, "from": {"minutes": 4.0}}}
    facts = {"steps": 7, "minutes": 2.0, "scores": {"psnr_25": 30.123456}, **before}
    save(random_bundle().with_provenance("reconstruct", facts), tmp_path / "tiny.safetensors")
    monkeypatch.chdir(tmp_path)
    return run


def test_a_model_is_shown_on_a_page_and_whole_as_json(rng):
    shown = rng("show", "tiny.safetensors").out
    assert shown.startswith("tiny.safetensors, SHA-256 ")
    flowing = " ".join(shown.split())
    for words in (
        "rng (default) reconstruct by nafnet, generate by unet, control by controller; 11 budgets of up to 4",
        "rddm reconstruct by nafnet",
        "steps 7, minutes 2; on top of 2 earlier trainings of 7 minutes",
        "scores: psnr_25 30.12",
        "parameters: width 4, encoder 1, middle 1",
    ):
        assert words in flowing
    whole = json.loads(rng("show", "tiny.safetensors", "--json").out)
    assert whole["provenance"]["reconstruct"]["scores"]["psnr_25"] == 30.123456


@pytest.mark.parametrize("name", available())
def test_the_page_of_a_shipped_model_fits_a_screen_or_two(rng, name):
    lines = rng("show", name).out.splitlines()
    assert len(lines) < 80
    assert max(map(len, lines[1:])) <= 100, "but for the file's name"


def test_the_reconstruction_runs_elsewhere_and_gives_the_same(rng, tmp_path):
    onnxruntime, onnx = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
    done = rng("export", "tiny.safetensors", "--onnx", "tiny.onnx")
    assert done.code == 0, done.err
    assert "differs from the network by" in done.out
    session = onnxruntime.InferenceSession(str(tmp_path / "tiny.onnx"), providers=["CPUExecutionProvider"])
    noisy = np.random.default_rng(0).random((3, 3, 41, 30), np.float32)
    with torch.inference_mode():
        expected = rng_of(load("tiny.safetensors")).nafnet(torch.from_numpy(noisy)).numpy()
    (found,) = session.run(["reconstruction"], {"noisy": noisy})
    assert np.abs(found - expected).max() < 1e-5
    about = {entry.key: entry.value for entry in onnx.load("tiny.onnx").metadata_props}
    assert about["sha256"] == load("tiny.safetensors").hash
    assert rng("export", "tiny.safetensors", "--onnx", "tiny.onnx").code == 2, "nothing is replaced"


def test_a_file_that_computes_something_else_is_not_kept(rng, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    monkeypatch.setattr(onnx_export, "MOST", -1.0)
    done = rng("export", "tiny.safetensors", "--onnx", "tiny.onnx")
    assert (done.code, "differs from the network" in done.err) == (ModelError.code, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.safetensors"]


def test_what_cannot_be_exported_is_said_in_a_line(rng, monkeypatch):
    assert rng("export", "tiny.safetensors").code == 2
    assert rng("export", "tiny.safetensors", "--onnx", "a.bin").code == 2
    assert rng("export", "nobody", "--onnx", "a.onnx").code == 3
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    done = rng("export", "tiny.safetensors", "--onnx", "a.onnx")
    assert (done.code, done.err) == (
        EnvironmentFault.code, "rng: this needs onnx and onnxruntime; pip install 'rngcli[onnx]'\n"
    )  # fmt: skip


def test_the_extras_are_no_part_of_the_plain_import():
    program = "import sys, rngcli.cli.commands; assert not {'onnx', 'onnxruntime', 'watchfiles'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
