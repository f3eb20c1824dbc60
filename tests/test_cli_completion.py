"""Tab in bash: what `rng --show-completion` gives completes commands, models and datasets, and never loads torch."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rngcli.data import NAMED

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash here")
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
