"""Help answers at once, without torch, and leaves no option unexplained."""

import subprocess
import sys

import pytest
import typer

from rngcli.cli import app


def commands(command, path=()):
    """(path, command) of the command and of all below it."""
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(("rng", *path)))
def test_every_command_and_every_option_has_help(path):
    command = COMMANDS[path]
    assert command.help
    for parameter in command.params:
        assert getattr(parameter, "help", None), parameter.name


def test_help_and_version_never_load_torch():
    asked = [[*path, "--help"] for path in COMMANDS] + [["--version"]]
    program = f"""
import sys
from rngcli.cli import app
for arguments in {asked!r}:
    try:
        app(arguments)
    except SystemExit as end:
        assert not end.code, arguments
    assert "torch" not in sys.modules, arguments
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout


def test_help_is_what_a_bare_command_answers():
    done = subprocess.run([sys.executable, "-m", "rngcli"], capture_output=True, text=True, check=False)
    assert "denoise" in done.stdout + done.stderr
