"""No stream can end a run: closed, full, left by its reader, in an old encoding; nor can a name like markup."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGINT

import numpy as np
import pytest
from PIL import Image

from rngcli.models.bundle import save
from tests.tiny import identity_bundle

RNG = [sys.executable, "-m", "rngcli"]
ROOT = Path(__file__).resolve().parents[1]
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")


@pytest.fixture
def place(tmp_path):
    """A folder `in` of three pictures, and a small model."""
    (tmp_path / "in").mkdir()
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 256, (24, 32, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "in" / f"{i}.png")
    save(identity_bundle(), tmp_path / "tiny.safetensors")
    return tmp_path


def shell(place, line, **environment):
    """A line of bash in the folder, where `rng`, `denoise` and `eval` stand for the commands in full."""
    rng = f"'{sys.executable}' -m rngcli"
    names = f'rng() {{ {rng} "$@"; }}; denoise() {{ rng denoise --model tiny.safetensors --detail 0 "$@"; }}; '
    names += "measure() { rng eval --clean in --sigma 25 --method input --metric psnr -q \"$@\"; }; "
    known = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(["bash", "-c", names + line], cwd=place, env=known, capture_output=True, check=False)


def test_a_reader_of_stderr_that_goes_ends_no_batch(place):
    done = shell(place, "(denoise in out; echo $? >rc) 2>&1 | head -1")
    assert (place / "rc").read_text() == "0\n", done.stdout
    assert len(list((place / "out").glob("*.png"))) == 3


def test_closed_streams(place):
    done = shell(place, "denoise in out --json >&- 2>log")
    assert done.returncode == 0, (place / "log").read_text()
    assert len(list((place / "out").glob("*.png"))) == 3
    assert shell(place, "denoise in/0.png - >&- 2>log").returncode == 5
    assert "stdout is closed" in (place / "log").read_text()
    assert shell(place, "denoise - - <&- >o.png 2>log").returncode == 4
    assert "stdin is closed" in (place / "log").read_text()
    assert shell(place, "denoise in closed 2>&-").returncode == 0
    assert shell(place, "denoise in/gone.png - >o.png 2>log").returncode == 4
    assert "in/gone.png does not exist" in (place / "log").read_text()
    assert shell(place, "denoise - o.jpg --format png <in/0.png 2>log").returncode == 2
    assert "already names the output" in (place / "log").read_text()
    assert len(list((place / "closed").glob("*.png"))) == 3


@needs_full
def test_a_full_stdout_costs_no_picture_and_no_report_and_is_told(place):
    done = shell(place, "denoise in out --json --report r.json >/dev/full")
    assert (done.returncode, b"stdout takes no more" in done.stderr) == (5, True)
    assert [row["status"] for row in json.loads((place / "r.json").read_text())] == ["done"] * 3
    done = shell(place, "rng models list >/dev/full")
    assert done.returncode == 5
    assert b"unexpected" not in done.stderr


@pytest.mark.parametrize("how", ["| true", ">&-", ">/dev/full"])
def test_a_measured_report_is_on_disk_before_anything_is_printed(place, how):
    done = shell(place, f"measure --report r.json {how}")
    assert (place / "r.json").exists(), done.stderr
    assert b"unexpected" not in done.stderr


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "cp1252"}, {"PYTHONIOENCODING": "ascii"}])
def test_old_encodings(place, environment):
    done = shell(place, "measure --report r.json", **environment)
    assert done.returncode == 0, done.stderr
    assert b"PSNR" in done.stdout
    assert shell(place, "rng denoise --help", **environment).returncode == 0
    rows = shell(place, "measure --json", **environment).stdout
    assert json.loads(rows.decode())["rows"], "JSON is UTF-8 whatever the locale"


def test_names_that_look_like_markup_are_printed_as_they_are(place):
    (place / "in" / "a[").mkdir()
    for name in ("12:100:00.png", "[red]x.png", "a[/b].png"):
        (place / "in" / name).write_bytes((place / "in" / "0.png").read_bytes())
    done = shell(place, "denoise in out --reference in")
    assert done.returncode == 0, done.stderr
    for name in (b"12:100:00.png", b"[red]x.png", b"a[/b].png"):
        assert done.stderr.count(name) == 2, "in its line, and in the table"


def test_names_that_are_no_utf8_reach_every_form_of_report(place):
    odd = os.fsencode(place) + b"/in/caf\xe9.png"
    try:
        os.rename(place / "in" / "0.png", odd)
    except OSError:
        pytest.skip("this disk takes no such names")
    forms = " ".join(f"--report r.{form}" for form in ("json", "csv", "html", "md"))
    done = shell(place, f"measure --json {forms}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.decode())["rows"][2]["key"] == "caf\\xe9"
    for form in ("json", "csv", "html"):
        assert "caf" in (place / f"r.{form}").read_text(encoding="utf-8")


def test_ctrl_c_at_any_moment_prints_no_traceback(place):
    command = [*RNG, "denoise", str(place / "in"), str(place / "out"), "--model", str(place / "tiny.safetensors")]
    # Before Python has loaded a line of rng, it is Python that answers.
    ready = "import sys; sys.argv[0] = 'rng'; from rngcli.cli import main; print(flush=True); main()"
    for wait in (0.02, 0.1, 0.4):
        running = subprocess.Popen(
            [sys.executable, "-c", ready, *command[3:]], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        running.stdout.readline()
        time.sleep(wait)
        running.send_signal(SIGINT)
        _, stderr = running.communicate(timeout=120)
        assert b"Traceback" not in stderr
        assert running.returncode in (130, -SIGINT) or b"done" in stderr
