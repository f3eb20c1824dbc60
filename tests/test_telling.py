"""What a run tells when nobody can take it: one line and exit 5, but a reader that has seen enough is no fault."""

import json
import os
import sys
from pathlib import Path

import pytest

from rngcli.batch.inputs import Outcome, Task
from rngcli.cli.reporter import Reporter
from rngcli.errors import EnvironmentFault

TASK = Task("a.png", Path("in/a.png"), Path("out/a.png"))
BEFORE = Outcome(TASK, before=True)
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")


@needs_full
def test_a_stdout_on_a_full_disk_is_a_fault_of_the_machine_told_once(monkeypatch):
    with FULL.open("w") as stdout, Reporter(json=True, quiet=True) as tell:
        monkeypatch.setattr(sys, "stdout", stdout)
        with pytest.raises(EnvironmentFault, match="stdout takes no more"):
            tell.outcome(BEFORE)
        tell.summary([BEFORE], total=1)


@needs_full
def test_a_log_on_a_full_disk_is_a_fault_of_the_machine_told_once():
    with Reporter(json=False, quiet=True, log=FULL) as tell:
        with pytest.raises(EnvironmentFault, match="the log /dev/full cannot be written"):
            tell.log("a line")
        tell.summary([BEFORE], total=1)


def test_a_reader_that_has_seen_enough_is_no_fault(monkeypatch):
    ours, theirs = os.pipe()
    with os.fdopen(theirs, "w") as stdout, Reporter(json=True, quiet=True) as tell:
        monkeypatch.setattr(sys, "stdout", stdout)
        tell.outcome(BEFORE)
        assert json.loads(os.read(ours, 4096))["status"] == "skipped"
        os.close(ours)
        tell.outcome(BEFORE)
        tell.outcome(BEFORE)
