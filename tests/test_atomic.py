"""Files appear whole or not at all, also on a full disk; what a killed run left behind is removed."""

import resource
import subprocess
import sys

import pytest
import torch

from rngcli.atomic import PART_PREFIX, PART_SUFFIX, part_of, remove_parts, whole, write_bytes
from rngcli.errors import EnvironmentFault


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "below" / "a.bin"
    write_bytes(path, b"old")
    with whole(path) as part:
        part.write_bytes(b"new")
        assert path.read_bytes() == b"old"
        assert part.parent == path.parent
    assert path.read_bytes() == b"new"
    (tmp_path / "any").touch()
    assert path.stat().st_mode == (tmp_path / "any").stat().st_mode, "the rights of any new file"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, RuntimeError])
def test_what_fails_leaves_nothing(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def write():
        with whole(path) as part:
            part.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.bin", b"old")]


@pytest.fixture
def small_disk():
    """No file of this process may grow beyond 100 kB, which is refused as a full disk would refuse it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_a_fault_of_the_machine_also_where_torch_writes(tmp_path, small_disk):
    path = tmp_path / "state.pt"
    torch.save({"step": 1}, path)
    before = path.read_bytes()
    refused = pytest.raises(EnvironmentFault, match=r"state.pt cannot be written \(File too large\)")
    with refused as fault, whole(path) as part, part.open("wb") as file:
        torch.save({"net": torch.zeros(100_000)}, file)
    assert isinstance(fault.value.__cause__, OSError)
    with pytest.raises(EnvironmentFault, match="File too large"):
        write_bytes(path, bytes(200_000))
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("state.pt", before)]


def test_what_a_killed_run_left_is_removed_unless_it_is_young(tmp_path):
    kill = "import os, sys; from pathlib import Path; from rngcli.atomic import whole\n"
    kill += "with whole(Path(sys.argv[1])): os._exit(9)"
    subprocess.run([sys.executable, "-c", kill, tmp_path / "a.bin"], check=False)
    (tmp_path / "other.part").touch()
    (left,) = (p for p in tmp_path.iterdir() if p.name != "other.part")
    assert (left.name.startswith(PART_PREFIX), left.name.endswith(PART_SUFFIX)) == (True, True)
    assert part_of(tmp_path / "a.bin") != left
    assert remove_parts(tmp_path, age=3600) is True
    assert left.exists()
    assert remove_parts(tmp_path) is False
    assert [p.name for p in tmp_path.iterdir()] == ["other.part"]
