"""The README is true: its commands exist, those that need only a few pictures run, its exit codes are the program's."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from rngcli.cli import app
from rngcli.diffusion.residual import ProcessSpec
from rngcli.errors import Exit
from rngcli.methods.rng import rng_of, with_rng
from rngcli.models.bundle import save
from tests.tiny import identity_bundle, random_bundle

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = "\n".join(re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
COMMANDS = [line.split(" #")[0].strip() for line in re.findall(r"^(?:find .+\| )?rng .+", BLOCKS, re.MULTILINE)]
QUICK = ("denoise", "models", "eval")  # training, bench and restore prove themselves in tests of their own


def words(command):
    """The arguments of `rng`."""
    return shlex.split(command.rpartition("| ")[2])[1:]


def piped(command):
    """What the command before the pipe, if any, hands over."""
    before = command.rpartition("| ")[0]
    return subprocess.run(shlex.split(before), capture_output=True, check=True).stdout if before else None


def invoke(arguments, stdin=None):
    result = CliRunner().invoke(app, arguments, input=stdin)
    assert result.exit_code == 0, f"{arguments}: {result.output} {result.exception!r}"
    return result


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with everything that the README's commands name, and a model small enough for a test."""
    here = tmp_path_factory.mktemp("readme")
    rng = np.random.default_rng(0)
    trees = (f"{folder}/{name}" for folder in ("photos", "originals") for name in ("a.png", "trip/b.jpg"))
    for name in (*trees, "scans/c.png", "portrait.jpg"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8)).save(here / name)
    sane = with_rng(random_bundle(), nafnet=rng_of(identity_bundle()).nafnet, process=ProcessSpec(sigma_d=1e-3))
    save(sane, here / "rng-s.safetensors")
    (here / "runs" / "mine").mkdir(parents=True)
    shutil.copy(here / "rng-s.safetensors", here / "runs" / "mine" / "bundle.safetensors")
    return here


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_and_its_options_exist(command):
    # Unknown commands and options are refused before --help is answered.
    invoke([*words(command), "--help"])


@pytest.mark.parametrize("command", [c for c in COMMANDS if words(c)[0] in QUICK])
def test_a_command_runs(command, place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setattr("rngcli.models.model_zoo.SHIPPED", place)
    before = {path: path.read_bytes() for folder in ("photos", "originals") for path in Path(folder).rglob("*.*")}
    invoke(words(command), piped(command))
    assert before == {path: path.read_bytes() for path in before}, "inputs are never changed"


def test_the_examples_show_every_command():
    shown = {words(command)[0] for command in COMMANDS}
    assert shown == {"denoise", "eval", "train", "models", "bench", "restore", "watch", "synth"}


def test_make_knows_its_targets():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z]+)", BLOCKS):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_exit_codes_are_those_of_the_program():
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)} == set(Exit)
