"""The folders that `rng train` and `rng ablate` are given: what of them is loaded, and what is refused."""

import shutil

import pytest
import torch

from rngcli.data.photographs import photographs_of
from rngcli.errors import NoInputError
from tests.tiny import clouds

CPU = torch.device("cpu")
HELD_OUT = {23, 29}  # of 0.png … 59.png, by their names' hashes


@pytest.fixture(scope="module")
def sixty(tmp_path_factory):
    """One picture under sixty names."""
    (picture,) = clouds(tmp_path_factory.mktemp("one"), 1, (64, 64)).glob("*.png")
    folder = tmp_path_factory.mktemp("sixty")
    for i in range(60):
        shutil.copy(picture, folder / f"{i}.png")
    return folder


def test_raw_files_beside_the_photographs_are_passed_over(sixty, tmp_path):
    shutil.copytree(sixty, tmp_path / "all")
    (tmp_path / "all" / "negative.dng").write_bytes(b"not even a RAW file")
    loaded = photographs_of(tmp_path / "all", 32, CPU)
    assert (len(loaded.train), len(loaded.held_out)) == (60 - len(HELD_OUT), len(HELD_OUT))


def test_a_limit_holds_for_what_is_learned_and_for_what_is_held_out(sixty):
    loaded = photographs_of(sixty, 32, CPU, limit=1)
    assert (len(loaded.train), len(loaded.held_out)) == (1, 1)


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(NoInputError, match="is no folder"):
        photographs_of(tmp_path / "nowhere", 32, CPU)
