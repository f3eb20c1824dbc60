"""Model files that are wrong in ways that nobody foresaw: one line and exit code 3, at once, and never a hang."""

import json
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

from rngcli.cli import app
from rngcli.errors import ModelError, UsageError
from rngcli.models.authors import from_authors
from rngcli.models.bundle import load, save
from rngcli.nets.nafnet import NAFNet
from tests.tiny import NAF, identity_bundle


@pytest.fixture
def variant(tmp_path):
    """Save the small model with some numbers of its reconstruction's spec replaced, or with another header."""

    def make(networks=None, **numbers):
        save(identity_bundle(), tmp_path / "tiny.safetensors")
        with safe_open(tmp_path / "tiny.safetensors", "pt") as file:
            header, weights = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        found = json.loads(header["networks"])
        next(iter(found.values()))["spec"] |= numbers
        save_file(weights, tmp_path / "v.safetensors", metadata={**header, "networks": networks or json.dumps(found)})
        return tmp_path / "v.safetensors"

    return make


@pytest.mark.parametrize(
    "numbers",
    [{"encoder": [10**9]}, {"width": 10**6}, {"width": -4}, {"middle": 10**7}, {"networks": "[" * 100_000}],
    ids=lambda numbers: next(iter(numbers)),
)
def test_absurd_headers_are_refused_at_once(variant, numbers):
    begun = time.process_time()
    with pytest.raises(ModelError):
        load(variant(**numbers))
    assert time.process_time() - begun < 20


@pytest.mark.parametrize(
    "content",
    [[1, 2], torch.zeros(3), {"params": torch.zeros(3)}, {"params": None}, {1: torch.zeros(3)},
     {"params": {"intro.weight": torch.zeros(())}}],
)  # fmt: skip
def test_files_that_hold_no_nafnet(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=r"holds no NAFNet"):
        from_authors(tmp_path / "x.pth")


@pytest.mark.parametrize("published", [b"", b"\xff\xfe\0"])
def test_a_damaged_hash_beside_a_model(tmp_path, published):
    save(identity_bundle(), tmp_path / "tiny.safetensors")
    (tmp_path / "tiny.sha256").write_bytes(published)
    done = CliRunner().invoke(app, ["models", "verify", str(tmp_path / "tiny.safetensors")])
    assert isinstance(done.exception, ModelError)


def test_an_import_replaces_no_file(tmp_path):
    torch.save({"params": NAFNet(NAF).state_dict()}, tmp_path / "n.pth")
    (tmp_path / "mine.safetensors").write_text("precious")
    words = ["models", "import", str(tmp_path / "n.pth"), str(tmp_path / "mine.safetensors")]
    assert isinstance(CliRunner().invoke(app, words).exception, UsageError)
    assert (tmp_path / "mine.safetensors").read_text() == "precious"
