"""What a person at a terminal sees, and what is told when the system asks the run to end."""

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
from tests.tiny import random_bundle


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """A run over 60 pictures, of which one is broken; OUT comes last."""
    place = tmp_path_factory.mktemp("terminal")
    save(random_bundle(), place / "tiny.safetensors")
    (place / "in").mkdir()
    for i in range(60):
        noise = np.random.default_rng(i).integers(0, 256, (300, 300, 3), np.uint8)
        Image.fromarray(noise).save(place / "in" / f"{i:02}.png")
    (place / "in" / "00.png").write_text("no picture")
    model = ["--model", str(place / "tiny.safetensors"), "--device", "cpu"]
    return [sys.executable, "-m", "rngcli", "denoise", *model, str(place / "in")]


@pytest.mark.parametrize("plain", [False, True])
def test_a_terminal_sees_progress_and_no_colour_where_none_is_wanted(command, tmp_path, plain):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= {"TERM": "xterm-256color", "COLUMNS": "120"} | ({"NO_COLOR": "1"} if plain else {})
    single = [*command[:-1], *(os.path.join(command[-1], name) for name in ("00.png", "01.png")), str(tmp_path / "out")]
    running = subprocess.Popen(single, stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 65536):
            seen += piece
    except OSError:
        pass  # how Linux says that the other side is closed
    os.close(ours)
    assert running.wait() == 1
    for shown in (b"pictures", b"Mpx/s", b"ETA", b"1 failed", b"01.png"):
        assert shown in seen
    assert (b"\x1b[31m" in seen) != plain


def test_sigterm_is_told_like_ctrl_c_with_all_that_was_settled(command, tmp_path):
    out = tmp_path / "out"
    running = subprocess.Popen([*command, str(out), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    waited = time.monotonic()
    while not list(out.glob("*.png")) and time.monotonic() - waited < 60:
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 130, stderr
    *rows, end = (json.loads(line) for line in stdout.splitlines())
    assert {row["file"] for row in rows if row["status"] == "done"} == {path.name for path in out.glob("*.png")}
    assert end["summary"]["dropped"] + end["summary"]["not_begun"] == 60 - len(rows) > 0
    assert b"interrupted after" in stderr
    assert b"failed: 00.png" in stderr
