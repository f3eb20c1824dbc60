"""rng.toml: what need not be typed, presets by name, and which of them counts most."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from rngcli.cli import main
from rngcli.cli.completion import presets
from rngcli.models.bundle import save
from tests.tiny import random_bundle

FILE = """
model = "tiny.safetensors"
device = "cpu"
detail = 0.2
strip-metadata = true

[preset.film]
detail = 0.6
luma = 0.7

[preset.plain]
detail = 0
quiet = true
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    save(random_bundle(), tmp_path / "tiny.safetensors")
    (tmp_path / "in").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / "in" / "a.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return tmp_path


@pytest.fixture
def rng(place, monkeypatch, capfd):
    def run(*arguments, command="denoise"):
        monkeypatch.setattr(sys, "argv", ["rng", command, *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capfd.readouterr()
        return SimpleNamespace(code=end.value.code, out=out, err=err)

    return run


@pytest.fixture
def asked(monkeypatch):
    """The settings that a run would have, in place of the run."""
    found = {}
    monkeypatch.setattr("rngcli.cli.denoise.run_command", lambda given: found.update(given) or 0)
    return found


@pytest.mark.parametrize(
    ("typed", "detail", "luma"),
    [([], 0.2, 1.0), (["--preset", "film"], 0.6, 0.7), (["--preset", "film", "--detail", "0.9"], 0.9, 0.7),
     (["--detail", "0.9"], 0.9, 1.0)],
)  # fmt: skip
def test_what_is_typed_counts_most_then_the_preset_then_the_file_then_the_defaults(
    place, rng, asked, typed, detail, luma
):
    (place / "rng.toml").write_text(FILE)
    assert rng("in", "out", *typed).code == 0
    assert (asked["detail"], asked["luma"], asked["chroma"]) == (detail, luma, 1.0)
    assert (asked["model"], asked["strip_metadata"], asked["quality"]) == ("tiny.safetensors", True, None)


def test_without_a_file_nothing_changes(rng, asked):
    assert rng("in", "out").code == 0
    assert (asked["detail"], asked["config"], asked["model"]) == (1.0, None, "rng-s")


def test_the_users_own_file_serves_where_the_folder_has_none_and_another_may_be_named(place, rng, asked):
    own = place / "home" / ".config" / "rng"
    own.mkdir(parents=True)
    (own / "rng.toml").write_text("detail = 0.3")
    rng("in", "out")
    if sys.platform == "linux":
        assert asked["detail"] == 0.3
    (place / "other.toml").write_text("detail = 0.4")
    rng("in", "out", "--config", "other.toml")
    assert (asked["detail"], str(asked["config"])) == (0.4, "other.toml")


def test_a_run_says_that_it_has_settings_from_a_file(place, rng):
    (place / "rng.toml").write_text(FILE)
    done = rng("in", "out", "--preset", "film", "--json")
    assert done.code == 0, done.err
    assert done.err.startswith("settings of rng.toml, preset film\n")
    assert json.loads(done.out.splitlines()[0])["status"] == "done"
    assert "0 done, 1 done before" in rng("in", "out", "--detail", 0.6, "--luma", 0.7, "--preset", "film").err
    assert rng("in", "out", "--preset", "plain").err == ""


@pytest.mark.parametrize(
    ("content", "typed", "says"),
    [
        (FILE, ["--preset", "filme"], "rng.toml has no preset 'filme'; its presets: film, plain"),
        ("detial = 1", [], "rng.toml says 'detial', which is no setting; settings are batch_size, chroma"),
        ("out = 'x'", [], "rng.toml says 'out', which is no setting"),
        ("folder = 'x'", [], "rng.toml says 'folder', which is no setting"),
        ("[preset.a]\nx = 1", ["--preset", "a"], "says 'x'"),
        ("detail = 7", [], "rng: rng.toml: detail: "),
        ("detail = 'much'", [], "rng: rng.toml: detail: "),
        ("detail = ", [], "rng.toml is no TOML"),
        (None, ["--preset", "film"], "--preset film needs a file of presets; write rng.toml"),
        (None, ["--config", "gone.toml"], "gone.toml cannot be read"),
    ],
)
def test_what_is_wrong_in_it_is_said_in_a_line(place, rng, content, typed, says):
    if content is not None:
        (place / "rng.toml").write_text(content)
    done = rng("in", "out", *typed)
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert says in done.err
    assert not (place / "out").exists()


def test_one_file_serves_all_commands_that_read_it(place, rng, monkeypatch):
    (place / "rng.toml").write_text("overwrite = true\ndetail = 0.3\n")
    found = {}
    monkeypatch.setattr("rngcli.cli.watching.watch_folder", lambda folder, out, given: found.update(given) or 0)
    done = rng("in", "out", command="watch")
    assert (done.code, found["detail"], found["overwrite"]) == (0, 0.3, False), done.err


def test_help_says_the_order_and_other_commands_have_no_presets(place, rng):
    (place / "rng.toml").write_text("detial = 1")
    shown = rng("--help")
    assert shown.code == 0
    words = " ".join(shown.out.replace("│", " ").split())
    assert "What is typed counts more than the preset" in words
    assert rng("deblur", "in", "out", "--preset", "film", "--kernel", "gaussian:1", command="restore").code == 2


def test_tab_offers_the_presets(place):
    assert presets("") == []
    (place / "rng.toml").write_text(FILE)
    assert presets("f") == ["film"]
    (place / "rng.toml").write_text("[")
    assert presets("") == []
