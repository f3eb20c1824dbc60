"""Tab in bash: what `rng --show-completion` gives completes commands, models and datasets, and never loads torch."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from rngcli.cli import app, completion
from rngcli.data import NAMED
from tests.test_cli_help import commands

ROOT = Path(__file__).resolve().parents[1]
# As pip installs it, but that it fails if torch was loaded.
PROGRAM = f"""#!{sys.executable}
import sys
sys.path.insert(0, {str(ROOT)!r})
from rngcli.cli import main
try:
    main()
finally:
    assert "torch" not in sys.modules
"""
PRESS_TAB = """
COMP_WORDS=({words} "{start}") COMP_CWORD={place}
_rng_completion rng
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def bash(tmp_path_factory):
    """Run lines in a bash that knows `rng`; what they print."""
    if not shutil.which("bash"):
        pytest.skip("there is no bash here")
    folder = tmp_path_factory.mktemp("bin")
    (folder / "rng").write_text(PROGRAM)
    (folder / "rng").chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}

    def run(*lines):
        script = "set -e\n" + "\n".join(lines)
        done = subprocess.run(
            ["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def script(bash):
    # Two commands, or bash would become rng and there would be no shell to find.
    return bash("rng --show-completion", "true")


def test_the_completion_can_be_shown(script):
    assert "complete -o default -F _rng_completion rng" in script


@pytest.mark.parametrize(
    ("words", "start", "offered"),
    [
        ("rng", "de", ["denoise"]),
        ("rng denoise --model", "", sorted(path.stem for path in (ROOT / "models").glob("*.safetensors"))),
        ("rng denoise --model", "no-such", []),
        ("rng models show", "rng-", sorted(path.stem for path in (ROOT / "models").glob("rng-*.safetensors"))),
        ("rng eval --dataset", "sidd", [name for name in NAMED if name.startswith("sidd")]),
        ("rng denoise --format", "t", ["tiff"]),
        ("rng denoise", "--fail", ["--fail-fast"]),
    ],
)
def test_tab_offers_what_there_is(bash, script, words, start, offered):
    press = PRESS_TAB.format(words=words, start=start, place=len(words.split()))
    assert bash(script, press).split() == offered


def test_the_completion_can_be_installed(bash):
    bash("rng --install-completion", "test -s ~/.bash_completions/rng.sh", "grep -q bash_completions ~/.bashrc")


def parameters():
    """(path, parameter) of every option of every command, hidden ones too."""
    for path, command in commands(typer.main.get_command(app)):
        for parameter in command.params:
            if isinstance(parameter.metavar, str):
                yield path, parameter


@pytest.mark.parametrize(
    ("path", "parameter"),
    [(p, o) for p, o in parameters() if "|" in o.metavar],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value.name,
)
def test_every_choice_that_help_shows_is_offered(path, parameter):
    words = {re.sub(r"\[.*", "", word) for word in parameter.metavar.split("|")}
    choices = {word for word in words if re.fullmatch(r"[a-z0-9]+", word)}
    context = typer.Context(typer.main.get_command(app))
    assert choices <= {item.value for item in parameter.shell_complete(context, "")}


def test_of_several_with_commas_the_last_is_completed():
    assert completion.noises("night,fi") == ["night,film"]
    assert completion.metrics("psnr,lp")[0] == "psnr,lpips"
    helps = {o.name: o.help for path, o in parameters() if path == ("eval",)}
    lists = {"noise": completion.noises, "method": completion.compared, "metric": completion.metrics}
    for name, offered in lists.items():
        shown = re.findall(r"(?:^|\| )([\w:-]+)", helps[name])
        assert {re.sub(r"[A-Z]$", "", word) for word in shown} == set(offered(""))


def test_hints_name_options_that_there_are():
    """Every option in a text of the package is one of some command, or of a program that is named with it."""
    known = {"--help", "--always", "--dirty", "--cpus"}  # typer's own; git's; docker's
    for _, command in commands(typer.main.get_command(app)):
        known |= {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    for source in (ROOT / "rngcli").rglob("*.py"):
        if source.name == "demo.py":  # has its own
            continue
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", node.value))
                assert named <= known, f"{source.name}:{node.lineno}"
