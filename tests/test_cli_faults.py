"""What a person may expect to meet has a name and an exit code; numbers have ranges; a share of CPU time is heeded."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from rngcli.batch.inputs import parse_list, plan
from rngcli.cli import main
from rngcli.device import cpu_quota, heed_cpu_quota, is_out_of_memory
from rngcli.errors import PictureError, UsageError
from rngcli.models.bundle import save
from tests.tiny import identity_bundle


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(tmp_path / "in" / "a.png")
    save(identity_bundle(), tmp_path / "tiny.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def rng(monkeypatch, capfd):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["rng", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capfd.readouterr().err

    return run


DENOISE = ("denoise", "--detail", "0", "--model", "tiny.safetensors", "--device", "cpu")
LONG = "x" * 300


def test_paths_that_cannot_be(place, rng):
    (place / "in" / "gone.png").symlink_to("nowhere")
    (place / "in" / "loop.png").symlink_to("loop.png")
    code, err = rng(*DENOISE, "in/a.png", "in/gone.png", "in/loop.png", "out")
    assert (code, (place / "out" / "a.png").exists()) == (1, True)
    assert "gone.png: the file cannot be read" in err
    for arguments, expected in {
        (*DENOISE, "in/a.png", LONG): 5, ("denoise", "in", "o", "--model", LONG): 3,
        ("eval", "--clean", LONG, "--sigma", "25", "--method", "input"): 5,
    }.items():  # fmt: skip
        code, err = rng(*arguments)
        assert "unexpected" not in err
        assert code in (expected, 4, 5), err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--detail", "nan"), ("--detail", "-0.1"), ("--batch-size", "100000000"), ("--batch-size", "-1"),
        ("--steps", "100000000"), ("--steps", "-1"), ("--max-steps", "100000000"), ("--quality", "0"),
        ("--max-pixels", "0"),
    ],
)  # fmt: skip
def test_numbers_have_ranges(place, rng, arguments):
    code, err = rng("denoise", "in", "out", "--model", "tiny.safetensors", *arguments)
    assert (code, (place / "out").exists()) == (2, False), err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--sigma", "nan"), ("--sigma", "-1"), ("--sigma", "inf"), ("--sigma", "1e9"),
        ("--sigma", "25", "--detail", "nan"), ("--sigma", "25", "--max-steps", "-1"),
        ("--sigma", "25", "--max-steps", ""),
    ],
)  # fmt: skip
def test_numbers_of_an_evaluation_have_ranges(place, rng, arguments):
    assert rng("eval", "--clean", "in", "--method", "input", *arguments)[0] == 2


def test_lists_as_windows_writes_them():
    text = "a b.jpg\r\nü.jpg\r\n"
    expected = ["a b.jpg", "ü.jpg"]
    for data in (text.encode("utf-8-sig"), text.encode("utf-16"), b"\xfe\xff" + text.encode("utf-16-be")):
        assert [str(path) for path in parse_list(data, nul=False)] == expected


def test_a_picture_that_rng_does_not_write_is_no_folder(place):
    for name in ("x.gif", "x.nef", "x.bmp", "x.jp2"):
        with pytest.raises(UsageError, match="does not write"):
            plan([place / "in/a.png"], place / "out" / name)
    with pytest.raises(UsageError, match="names one picture"):
        plan([place / "in"], place / "out.jpg")
    (place / "out.gif").mkdir()
    assert plan([place / "in/a.png"], place / "out.gif").tasks


def test_what_is_passed_over_is_counted(place, rng):
    for name in ("b.psd", "c.GIF", "d.gif", "notes.txt"):
        (place / "in" / name).write_bytes(b"x")
    assert "3 passed over: 2 GIF, 1 PSD" in rng(*DENOISE, "in", "out", "--dry-run")[1]
    assert "3 passed over: 2 GIF, 1 PSD" in rng(*DENOISE, "in", "out")[1]
    (place / "in" / "a.png").unlink()
    code, err = rng(*DENOISE, "in", "out")
    assert (code, "3 passed over" in err) == (4, True)


def test_format_is_understood_by_its_suffix(place, rng):
    assert rng(*DENOISE, "in", "out", "--format", "tif")[0] == 0
    assert rng(*DENOISE, "in", "out", "--format", "JPG")[0] == 0
    assert sorted(path.name for path in (place / "out").glob("a.*")) == ["a.jpg", "a.tif"]


def test_own_outputs_among_the_arguments_are_passed_over(place, rng):
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(place / "in" / "b.png")
    for _ in range(2):
        given = sorted(str(path) for path in (place / "in").iterdir() if not path.name.startswith("."))
        assert rng(*DENOISE, *given, "in/clean")[0] == 0
    assert rng(*DENOISE, "in", "in/second")[0] == 0
    assert not (place / "in/second/clean").exists()
    code, err = rng(*DENOISE, "in/clean/a.png", "in/clean/b.png", "in/a.png", "in/clean")
    assert (code, "2 made by rng" in err) == (0, True)


def test_torchs_own_want_of_memory_is_known():
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"))
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    told = PictureError("too large")
    told.__context__ = MemoryError()
    assert is_out_of_memory(told)


# --- a container's share of CPU time -----------------------------------------------------------------------------


def test_the_quota_of_a_control_group_is_read_in_both_versions(tmp_path):
    membership, groups = tmp_path / "cgroup", tmp_path / "groups"
    (groups / "a" / "b").mkdir(parents=True)
    membership.write_text("0::/a/b\n")
    assert cpu_quota(membership, groups) is None
    (groups / "a" / "cpu.max").write_text("150000 100000\n")
    (groups / "a" / "b" / "cpu.max").write_text("max 100000\n")
    assert cpu_quota(membership, groups) == 1.5
    (groups / "cpu" / "c").mkdir(parents=True)
    (groups / "cpu" / "c" / "cpu.cfs_quota_us").write_text("50000")
    (groups / "cpu" / "c" / "cpu.cfs_period_us").write_text("100000")
    membership.write_text("4:memory:/c\n3:cpu,cpuacct:/c\n")
    assert cpu_quota(membership, groups) == 0.5
    assert cpu_quota(tmp_path / "absent", groups) is None


def test_threads_follow_the_quota(monkeypatch):
    before, told = torch.get_num_threads(), []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    for quota in (None, 0.5, 2.4, 64.0):
        monkeypatch.setattr("rngcli.device.cpu_quota", lambda quota=quota: quota)
        heed_cpu_quota()
    assert told == [1, 2, 8]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    heed_cpu_quota()
    assert told == [1, 2, 8]
    assert before


def test_progress_in_a_log_is_lines(place):
    command = [sys.executable, "-m", "rngcli", *DENOISE, "in", "out"]
    done = subprocess.run(command, env=os.environ | {"FORCE_COLOR": "1"}, capture_output=True, check=False)
    assert b"\x1b[" not in done.stderr
    assert done.stderr.splitlines()[0].startswith(b"a.png  0.0 steps")
