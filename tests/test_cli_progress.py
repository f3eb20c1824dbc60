"""The bar over a batch: it moves with tiles, its count is never cut, and what is no terminal gets lines."""

import os
import re
import subprocess
import sys

import pytest

from rngcli.cli import progress
from rngcli.cli.batch_progress import Meter
from rngcli.training.spec import TrainSpec

DRAW = """
from rngcli.cli.batch_progress import BatchProgress
with BatchProgress({total}, 2, quiet=False) as bar:
    bar.begun("holiday-in-the-mountains-with-a-very-long-name-indeed-0001.png", 1.0, 4)
    bar.stepped(4)
    bar._tell()
print("shown", bar.shown)
"""


def drawn(total, **environment):
    """What a terminal gets."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    running = subprocess.Popen(
        [sys.executable, "-c", DRAW.format(total=total)], stderr=theirs, stdout=subprocess.PIPE, text=True,
        env=kept | {"TERM": "xterm"} | environment,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 65536):
            seen += piece
    except OSError:
        pass  # how Linux says that the other side is closed
    os.close(ours)
    return seen.decode(), running.communicate()[0].strip()


def test_pictures_in_flight_count_by_their_tiles():
    meter = Meter(calls=2)
    meter.begun("a", 2.0, 10)
    meter.begun("b", 1.0, 5)
    assert meter.now() == (0, 0)
    meter.stepped(10)
    assert meter.now() == (0.5, 1.0)
    meter.stepped(15)
    pictures, megapixels = meter.now()
    assert 1.4 < pictures < 1.5, "the oldest picture first, and none is whole before it is settled"
    assert 2.4 < megapixels < 2.5
    meter.settled("a", steps=1.0)
    assert meter.now() == (1.5, 2.5)
    meter.settled("unread", steps=0.0)
    assert meter.now() == (2.5, 2.5), "a failure is settled, too"


def test_the_count_and_the_time_come_before_what_a_narrow_terminal_cuts():
    shown, _ = drawn(12, COLUMNS="80")
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in shown.split("\r")]
    counted = [line for line in lines if "holiday" in line]
    assert counted
    assert all("0/12 pictures" in line and "ETA" in line and len(line) <= 80 for line in counted)
    assert any("tile 2/4" in line for line in counted), "half of the calls of four tiles"
    assert "0.00 Mpx/s" not in shown
    assert "0/1 picture " in drawn(1, COLUMNS="80")[0]


def test_a_dumb_terminal_gets_no_bar():
    assert drawn(12, TERM="dumb") == ("", "shown False")


def test_the_tiles_of_what_is_in_flight_are_counted():
    meter = Meter(calls=2)
    assert meter.tiles() == (0, 0)
    meter.begun("a", 2.0, 10)
    meter.begun("b", 1.0, 5)
    meter.stepped(7)
    assert meter.tiles() == (3, 15)
    meter.stepped(13)
    meter.settled("a", steps=1.0)
    assert meter.tiles() == (0, 5)


SLOW = """
import sys, time
from rngcli.cli.progress import waiting
with waiting("loading …", lasting={lasting}):
    print("within", flush=True)
"""


@pytest.mark.parametrize(("lasting", "said"), [(True, "loading …\n"), (False, "")])
def test_where_nothing_draws_a_line_that_lasts_is_said_before_the_wait(lasting, said):
    program = [sys.executable, "-c", SLOW.format(lasting=lasting)]
    done = subprocess.run(program, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONUTF8": "1"})
    assert done.stderr == said


@pytest.mark.parametrize("command", [["denoise", "in", "out"], ["train", "reconstruct", "--run", "run"]])
def test_a_terminal_is_told_before_torch_is_loaded(tmp_path, command):
    """Where loading never ends, as a finder that hangs makes sure of, the screen is not blank."""
    pty = pytest.importorskip("pty")
    program = (
        "import sys, time\n"
        "class Slow:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': sys.stderr.flush(); time.sleep(60)\n"
        "sys.meta_path.insert(0, Slow())\n"
        f"sys.argv = ['rng', *{command!r}]\n"
        "from rngcli.cli import main\nmain()\n"
    )
    (tmp_path / "in").mkdir()
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "PYTHONPATH": os.pathsep.join(sys.path)}
    running = subprocess.Popen([sys.executable, "-c", program], stderr=theirs, env=environment, cwd=tmp_path)
    os.close(theirs)
    try:
        assert "loading …" in os.read(ours, 1024).decode()
    finally:
        running.kill()
        running.wait()
        os.close(ours)


def test_what_is_left_of_a_training_that_goes_on_is_of_what_was_left(monkeypatch):
    seen = []
    monkeypatch.setattr(progress._Lines, "tell_each_minute", lambda lines, done, total, about="": seen.append(total))

    class Resumed:
        spec, step, minutes = TrainSpec(steps=100), 80, 0.0

        def run(self, watch):
            while self.step < 100:
                self.step += 1
                watch(1.0)
            yield from ()

    progress.Narrator(quiet=False).follow(Resumed(), crops=4)
    assert seen == [80] * 20, "twenty steps of four crops"
