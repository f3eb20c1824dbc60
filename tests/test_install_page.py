"""docs/INSTALL.md and docs/Dockerfile name what there is: commands, options, extras, files, versions."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rngcli.cli import app
from rngcli.cli.presets import settings
from tests.test_cli_help import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PAGE, DOCKERFILE = (ROOT / "docs" / name for name in ("INSTALL.md", "Dockerfile"))
TEXT, RECIPE = PAGE.read_text(encoding="utf-8"), DOCKERFILE.read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BLOCKS = "\n".join(re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL))
LINES = [line.split("  #")[0].strip() for line in BLOCKS.splitlines()]
# What follows the image's name in `docker run` is what `rng` is given.
GIVEN = [line.removeprefix("rng ") for line in LINES if line.startswith("rng ")]
GIVEN += [re.split(r" rng(?::cuda)? ", line)[1] for line in LINES if line.startswith("docker run")]


@pytest.mark.parametrize("command", GIVEN)
def test_a_command_and_its_options_exist(command):
    result = CliRunner().invoke(app, [*shlex.split(command), "--help"])
    assert result.exit_code == 0, result.output


def test_the_extras_exist_and_those_of_users_are_all_told_of():
    told = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    assert told == set(PROJECT["optional-dependencies"]) - {"dev"}
    assert set(re.search(r"ARG EXTRAS=(\S+)", RECIPE)[1].split(",")) <= told


def test_the_settings_shown_are_settings(tmp_path):
    shown = tmp_path / "rng.toml"
    shown.write_text(re.search(r"```toml\n(.*?)```", TEXT, re.DOTALL)[1])
    options = {option.name for option in COMMANDS[("denoise",)].params}
    for preset in (None, "film", "archive"):
        assert settings(shown, preset, options)["device"] == "cuda"


def test_the_container_is_built_of_what_there_is():
    for names in re.findall(r"^COPY (.+) \S+$", RECIPE, re.MULTILINE):
        assert all((ROOT / name).exists() for name in names.split()), names
    torch = re.search(r"ARG TORCH=(\S+)", RECIPE)[1]
    assert f"TORCH ?= torch=={torch}\n" in (ROOT / "Makefile").read_text(), "the version that the tests have seen"
    assert re.search(r"ARG PYTHON=3\.(\d+)", RECIPE)[1] in ("11", "12", "13")
    assert 'ENTRYPOINT ["rng"]' in RECIPE
    assert "rng" in PROJECT["scripts"]
