"""A bundle comes back as it was written, or says in one line why it does not."""

import json
import re
from itertools import product

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rngcli.errors import ModelError
from rngcli.inference.engine import Job, denoise
from rngcli.inference.pipeline import Pipeline
from rngcli.methods.contract import Request
from rngcli.methods.rng import rng_of, with_rng
from rngcli.models import bundle as checkpoint
from rngcli.models.authors import from_authors
from rngcli.models.bundle import load, save
from rngcli.models.model_zoo import available
from rngcli.nets.bands import BandController, BandSpec
from rngcli.nets.nafnet import NAFNet
from tests.tiny import NAF, random_bundle, scramble


@pytest.fixture
def file(tmp_path):
    save(random_bundle().with_provenance("reconstruct", {"minutes": 3}), tmp_path / "b.safetensors")
    return tmp_path / "b.safetensors"


def test_a_bundle_comes_back(file):
    before, after = random_bundle(), load(file)
    old, new = rng_of(before), rng_of(after)
    assert (new.process, new.budgets) == (old.process, old.budgets)
    assert after.provenance["reconstruct"] == {"minutes": 3}
    assert len(after.hash) == 12
    for name, net in before.networks.items():
        assert after.networks[name].spec == net.spec
        for key, value in net.state_dict().items():
            torch.testing.assert_close(after.networks[name].state_dict()[key], value, atol=2e-3, rtol=1e-3)


def test_either_kind_of_controller_comes_back(tmp_path):
    net = scramble(BandController(BandSpec()))
    net.normalise.running_mean.fill_(-5.0123)
    save(with_rng(random_bundle(), controller=net), tmp_path / "b.safetensors")
    after, tile = rng_of(load(tmp_path / "b.safetensors")).controller, torch.rand(2, 3, 64, 64)
    assert isinstance(after, BandController)
    seen = net.condition(tile, tile)
    torch.testing.assert_close(after(seen), net(seen), atol=0.02, rtol=0.01)


def test_a_second_saving_changes_no_weight(file, tmp_path):
    save(load(file), tmp_path / "again.safetensors")
    once, twice = load_file(file), load_file(tmp_path / "again.safetensors")
    assert all(torch.equal(once[key], twice[key]) for key in once)


def retouched(file, change, keep_header=True):
    with safe_open(file, "pt") as opened:
        header = opened.metadata()
    tensors = load_file(file)
    change(tensors, header)
    save_file(tensors, file, metadata=header if keep_header else None)


def changed(part, change):
    """What `retouched` does to one part of a header."""

    def change_header(tensors, header):
        content = json.loads(header[part])
        change(content)
        header[part] = json.dumps(content)

    return change_header


def as_first_version(tensors, header):
    """The header of the same bundle as it was written before there were methods."""
    networks, method = json.loads(header.pop("networks")), json.loads(header.pop("methods"))["rng"]
    header["format"] = "rng-bundle-1"
    header["specs"] = json.dumps({entry["kind"]: entry["spec"] for entry in networks.values()})
    header |= {key: json.dumps(method[key]) for key in ("process", "budgets")}


def test_a_bundle_of_the_first_version_is_read_and_written_again_as_the_second(file, tmp_path):
    second = load(file)
    retouched(file, as_first_version)
    first = load(file)
    save(first, tmp_path / "again.safetensors")
    with safe_open(tmp_path / "again.safetensors", "pt") as opened:
        assert opened.metadata()["format"] == "rng-bundle-2"
    again = load(tmp_path / "again.safetensors")
    assert again.methods == first.methods == second.methods
    assert again.provenance == first.provenance == second.provenance
    picture = np.random.default_rng(0).random((560, 20, 3), np.float32)
    before, after = (
        next(denoise([Job("x", picture)], Pipeline(bundle, "cpu", "fp32", 1), Request())) for bundle in (first, again)
    )
    assert before.steps.any()
    assert np.array_equal(before.pixels, after.pixels)


def test_unknown_and_missing_weights_are_errors(file):
    retouched(file, lambda tensors, header: tensors.update({"nafnet.extra": torch.zeros(1)}))
    with pytest.raises(ModelError, match=r"nafnet do not fit"):
        load(file)


def test_weights_that_no_spec_explains_are_errors(file):
    retouched(file, lambda tensors, header: tensors.update({"other.weight": torch.zeros(1)}))
    with pytest.raises(ModelError, match="no spec explains"):
        load(file)


ABSURD = {
    "width": 10**9, "encoder": [10**9], "decoder": [], "middle": -1, "inputs": 10**6,
}  # fmt: skip
LEGAL_BUT_HUGE = {"width": 4096, "encoder": [200] * 6, "decoder": [200] * 6}  # 10¹² weights and more


@pytest.mark.parametrize("spec", [{key: value} for key, value in ABSURD.items()] + [LEGAL_BUT_HUGE], ids=str)
def test_an_absurd_network_is_refused_before_it_is_built(file, spec):
    retouched(file, changed("networks", lambda networks: networks["nafnet"]["spec"].update(spec)))
    with pytest.raises(ModelError, match=r"impossible network|do not fit"):
        load(file)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("networks", lambda networks: networks["nafnet"].update(colour=1)),
        ("networks", lambda networks: networks["nafnet"].update(kind="transformer")),
        ("networks", lambda networks: networks["unet"]["spec"].update(heads=8)),
        ("networks", lambda networks: networks["unet"]["spec"].update(width="wide")),
        ("methods", lambda methods: methods["rng"]["networks"].update(generate="nobody")),
        ("methods", lambda methods: methods["rng"].pop("kind")),
        ("methods", lambda methods: methods.update(other=3)),
    ],
)
def test_unknown_keys_and_names_are_errors(file, part, change):
    retouched(file, changed(part, change))
    with pytest.raises(ModelError, match="damaged header"):
        load(file)


def test_a_header_of_unknown_parts_is_an_error(file):
    retouched(file, lambda tensors, header: header.update(mood=json.dumps("good")))
    with pytest.raises(ModelError, match="unknown key 'mood'"):
        load(file)


def test_damage_is_told_in_one_line(file, tmp_path):
    whole = file.read_bytes()
    for name, content in {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"hello there, no model"}.items():
        bad = tmp_path / f"{name}.safetensors"
        bad.write_bytes(content)
        with pytest.raises(ModelError) as caught:
            load(bad)
        assert "\n" not in str(caught.value)
    retouched(file, lambda tensors, header: header.update({"networks": "{"}))
    with pytest.raises(ModelError, match="damaged header"):
        load(file)
    retouched(file, lambda tensors, header: None, keep_header=False)
    with pytest.raises(ModelError, match="not a bundle"):
        load(file)


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelError, match="no model is named 'nowhere'"):
        load("nowhere")
    with pytest.raises(ModelError, match="no model file"):
        load(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize(
    "wrap", [lambda w: {"params": w}, lambda w: {"params_ema": {f"module.{k}": v for k, v in w.items()}}]
)
def test_the_authors_files_load_with_their_spec_read_off_the_shapes(tmp_path, wrap):
    net = NAFNet(NAF)
    torch.save(wrap(net.state_dict()), tmp_path / "NAFNet.pth")
    loaded = from_authors(tmp_path / "NAFNet.pth")
    assert loaded.spec == NAF
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), net.parameters(), strict=True))


def test_a_file_that_is_no_nafnet_is_refused(tmp_path):
    torch.save({"params": {"conv.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("<html>quota exceeded</html>")
    for name in ("other.pth", "text.pth"):
        with pytest.raises(ModelError):
            from_authors(tmp_path / name)


@pytest.mark.parametrize("path", available().values(), ids=lambda path: path.stem)
def test_what_is_shipped_is_what_was_published(path):
    bundle = load(path)
    chosen = product(("fusion", "unet"), ("bands", "controller"))
    assert set(bundle.networks) in ({"nafnet", "walker", *names} for names in chosen)
    assert list(bundle.methods) == ["rng", "rddm"]
    assert path.with_suffix(".sha256").read_text().split()[0] == checkpoint.file_hash(path)
    assert sum(p.stat().st_size for p in available().values()) < 30 * 2**20
    card = path.with_name("README.md").read_text(encoding="utf-8").split(f"## {path.stem}")[1]
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) M \|", card, re.MULTILINE)
    sizes = {name: sum(p.numel() for p in net.parameters()) / 1e6 for name, net in bundle.networks.items()}
    assert {name: float(size) for name, size in rows} == pytest.approx(sizes, abs=0.005)
