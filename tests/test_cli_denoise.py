"""The command as a user meets it: exit codes, one clear line, stdout for data, and Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from rngcli.models.bundle import save
from tests.tiny import identity_bundle, random_bundle


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save(random_bundle(), path)
    return path


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 50, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def rng(*arguments, **options):
    command = [sys.executable, "-m", "rngcli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_a_folder_is_denoised_and_a_second_run_has_nothing_to_do(photos, model, tmp_path):
    out, report = tmp_path / "out", tmp_path / "report.csv"
    first = rng("denoise", photos, out, "--model", model, "--reference", photos, "--report", report, "--json")
    assert first.returncode == 0, first.stderr
    assert sorted(p.name for p in out.iterdir()) == [".rng", "0.png", "1.png", "2.png"]
    rows = [json.loads(line) for line in first.stdout.splitlines()]
    assert [row["file"] for row in rows[:-1]] == ["0.png", "1.png", "2.png"]
    assert all(row["psnr"] > 0 and 0 <= row["ssim"] <= 1 for row in rows[:-1])
    assert rows[-1]["summary"]["done"] == 3
    assert len(report.read_text().splitlines()) == 4
    second = rng("denoise", photos, out, "--model", model)
    assert second.returncode == 0
    assert "0 done, 3 done before, 0 failed" in second.stderr
    assert second.stdout == ""


def test_one_bad_file_makes_exit_1_and_is_named(photos, model, tmp_path):
    (photos / "bad.png").write_text("no picture")
    done = rng("denoise", photos, tmp_path / "out", "--model", model, "--detail", 0, "--quiet")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("failed: bad.png: ")
    assert len(done.stderr.splitlines()) == 1
    assert len(list((tmp_path / "out").glob("*.png"))) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["IN", "IN"], 2, "the same"),
        (["IN", "OUT", "--steps", "many"], 2, "neither auto nor a number"),
        (["IN", "OUT", "--detail", "2"], 2, "than or equal to 1"),
        (["IN", "OUT", "--report", "r.txt"], 2, "neither .json nor .csv"),
        (["IN", "OUT", "--device", "abacus"], 2, "unknown device"),
        (["IN", "OUT", "--precision", "fp8"], 2, "unknown precision"),
        (["IN", "OUT", "--reference", "nowhere"], 2, "is no folder"),
        (["IN", "OUT", "--model", "nowhere"], 3, "no model is named"),
        (["nowhere", "OUT"], 4, "does not exist"),
        (["EMPTY", "OUT"], 4, "no picture"),
        (["IN", "OUT", "--device", "cuda:63"], 5, "no CUDA device 63"),
    ],
)
def test_each_mistake_has_its_exit_code_and_one_line(photos, model, tmp_path, arguments, code, says):
    (tmp_path / "empty").mkdir()
    places = {"IN": photos, "OUT": tmp_path / "out", "EMPTY": tmp_path / "empty"}
    given = [places.get(argument, argument) for argument in arguments]
    if "--model" not in given:
        given += ["--model", model]
    done = rng("denoise", *given)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_dry_run_touches_nothing(photos, tmp_path):
    done = rng("denoise", photos, tmp_path / "out", "--dry-run", "--model", "none is needed")
    assert done.returncode == 0
    assert "3 to do" in done.stderr
    assert not (tmp_path / "out").exists()


def test_ctrl_c_ends_with_130_and_no_partial_file(photos, model, tmp_path):
    for i in range(40):
        Image.fromarray(np.full((700, 700, 3), 6 * i, np.uint8)).save(photos / f"large-{i:02}.png")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "rngcli", "denoise", str(photos), str(out), "--model", str(model)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    waited = time.monotonic()
    while not list(out.glob("*.png")) and time.monotonic() - waited < 300:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)
    _, stderr = running.communicate(timeout=300)  # a busy machine is no failure
    assert running.returncode == 130, stderr
    assert "interrupted after" in stderr
    assert not list(out.rglob(".rng-*"))
    for picture in out.glob("*.png"):
        Image.open(picture).load()
    assert len(list(out.glob("*.png"))) < 43


def test_models_list_show_verify_import(model, tmp_path):
    import torch

    from rngcli.nets.nafnet import NAFNet
    from tests.tiny import NAF

    assert json.loads(rng("models", "show", model, "--json").stdout)["methods"]["rng"]["process"]["prediction"] == "v"
    assert "grey" in rng("models", "verify", model).stderr, "random weights do not pass for a denoiser"
    model = tmp_path / "identity.safetensors"
    save(identity_bundle(), model)
    assert "no published hash" in rng("models", "verify", model).stdout
    model.with_suffix(".sha256").write_text("0" * 64)
    assert rng("models", "verify", model).returncode == 3
    model.with_suffix(".sha256").unlink()
    torch.save({"params": NAFNet(NAF).state_dict()}, tmp_path / "theirs.pth")
    imported = rng("models", "import", tmp_path / "theirs.pth", tmp_path / "theirs.safetensors")
    assert imported.returncode == 0, imported.stderr
    assert "width 4" in imported.stdout
    assert rng("models", "list").returncode == 0
