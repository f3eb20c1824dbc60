"""RDDM and DiffPIR's prior are trained from the reconstruction's weights, and kept as what they have become else."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from rngcli.cli import main
from rngcli.data.crops import Batches, Photographs, gaussian
from rngcli.diffusion.rddm import RDDMSpec, ResidualDenoisingDiffusion
from rngcli.errors import ModelError
from rngcli.methods import methods_of, open_method
from rngcli.methods.diffpir import PRIOR, DiffPIR, with_prior
from rngcli.methods.rddm import RDDM, WALKER, walked, with_walker
from rngcli.methods.rng import rng_of
from rngcli.models import bundle as bundles
from rngcli.models.difference import difference, restored
from rngcli.nets.nafnet import NAFNet, NAFNetSpec
from rngcli.training.perceptual import Perceptual
from rngcli.training.stages.prior import JUDGED, Prior
from rngcli.training.stages.rddm import Walk
from rngcli.training.trainer import Trainer, TrainSpec
from tests.tiny import NAF, clouds, random_bundle, random_lpips, scramble

PLAIN = NAFNetSpec(8, (1,), 1, (1,), attention=False)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return clouds(tmp_path_factory.mktemp("photographs"), 6, (160, 140))


@pytest.fixture
def batches(photographs):
    return Batches(Photographs.load(sorted(photographs.glob("*.png")), 64), 4, gaussian(25))


def trained(stage, folder, steps=40):
    trainer = Trainer(stage, TrainSpec(steps=steps, lr=3e-3, warmup=1, ema=0.9), folder)
    (*_, last) = trainer.run()
    return trainer, last.scores


# --- learning --------------------------------------------------------------------------------------------------


def test_it_starts_as_the_reconstruction(batches):
    nafnet = scramble(NAFNet(PLAIN))
    stage = Walk(nafnet, nafnet, batches)
    x = torch.rand(1, 3, 32, 32)
    assert torch.allclose(stage.net(x), nafnet(x), atol=1e-4)
    with torch.no_grad():
        stage.net.ending.bias += 1
    assert not torch.allclose(stage.net(x), nafnet(x), atol=0.1), "a copy"


@pytest.mark.parametrize("weight", [0, 5.0])
def test_seconds_of_training_lower_its_loss(batches, tmp_path, weight):
    nafnet = NAFNet(PLAIN).eval().requires_grad_(False)
    perceptual = Perceptual(random_lpips(), weight) if weight else None
    stage = Walk(nafnet, nafnet, batches, perceptual)

    def loss(net):
        with torch.no_grad():
            return np.mean([stage.loss(net, torch.Generator().manual_seed(i)).item() for i in range(4)])

    before = loss(stage.net)
    trainer, scores = trained(stage, tmp_path)
    assert loss(trainer.stage.net) < 0.9 * before
    assert {"psnr_25", "dpsnr_25", "psnr_camera"} <= set(scores)
    assert ("lpips_25" in scores) == bool(weight)
    assert stage.samples(trainer.average).shape[1:] == (4, 3, 64, 64)


def test_what_it_is_shown_lies_between_the_noisy_and_the_clean_picture(batches):
    """With the absolute error alone; a network that answers the clean picture loses nothing, wherever it stands."""
    stage = Walk(NAFNet(PLAIN), NAFNet(PLAIN), batches)
    clean, noisy = batches.draw(torch.Generator().manual_seed(3))
    seen = []

    def oracle(state):
        seen.append(state)
        return clean

    assert stage.loss(oracle, torch.Generator().manual_seed(3)).item() == 0
    shares = ((seen[0] - clean) / (noisy - clean)).flatten(1).median(dim=1).values
    assert ((shares > 0) & (shares < 1)).all()
    assert torch.allclose(seen[0], clean + shares[:, None, None, None] * (noisy - clean), atol=1e-5)


def test_a_prior_learns_noise_of_any_strength(batches, tmp_path):
    stage = Prior(NAFNet(PLAIN), batches)
    before = stage.validate(stage.net.eval())
    _, scores = trained(stage, tmp_path)
    assert set(scores) == {f"psnr_{sigma}" for sigma in JUDGED}
    assert scores["psnr_255"] > before["psnr_255"] + 1, "an untrained network leaves all the noise"


def test_diffpir_denoises_with_its_own_prior():
    bundle = random_bundle()
    prior = scramble(NAFNet(NAF))
    method = open_method(with_prior(bundle, prior, "nafnet"), "diffpir")
    assert isinstance(method, DiffPIR)
    x = torch.rand(1, 3, 64, 64)
    assert torch.allclose(method.net(x), prior(x), atol=1e-5)
    assert not torch.allclose(method.net(x), bundle.networks["nafnet"](x), atol=1e-2)


# --- the method ------------------------------------------------------------------------------------------------


def grown_bundle():
    """A bundle whose walker is its reconstruction, changed a little."""
    bundle = random_bundle()
    walker = NAFNet(NAF)
    walker.load_state_dict(bundle.networks["nafnet"].state_dict())
    return with_walker(bundle, scramble(walker, 0.02), "nafnet")


def test_the_method_reconstructs_with_one_network_and_walks_with_the_other():
    bundle = grown_bundle()
    spec = methods_of(bundle)["rddm"]
    assert spec.networks == {"reconstruct": "nafnet", "walk": WALKER}
    assert next(iter(bundle.methods)) == "rng", "the first method stays what it was"
    method = open_method(bundle, "rddm")
    assert isinstance(method, RDDM)
    x = torch.rand(1, 3, 64, 64)
    assert torch.allclose(method.net(x), bundle.networks["nafnet"](x), atol=1e-5)
    assert torch.allclose(method.walker(x), bundle.networks[WALKER](x), atol=1e-5)
    process, r = ResidualDenoisingDiffusion(RDDMSpec()), method.net(x)
    assert not torch.allclose(walked(process, method.walker, x, r, 4), walked(process, method.net, x, r, 4), atol=1e-4)


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_an_oracle_walks_to_the_clean_picture(steps):
    x, y = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    found = walked(ResidualDenoisingDiffusion(RDDMSpec()), lambda state: y, x, y, steps)
    assert torch.allclose(found, y, atol=1e-6)


# --- a byte a weight -------------------------------------------------------------------------------------------


def test_a_file_holds_the_difference_and_comes_back(tmp_path):
    bundle = grown_bundle()
    bundles.save(random_bundle(), tmp_path / "before.safetensors")
    bundles.save(bundle, tmp_path / "after.safetensors")
    loaded = bundles.load(tmp_path / "after.safetensors")
    assert (loaded.grown, list(loaded.networks)) == ({WALKER: "nafnet"}, list(bundle.networks))
    for key, value in loaded.networks[WALKER].state_dict().items():
        ours, origin = bundle.networks[WALKER].state_dict()[key], loaded.networks["nafnet"].state_dict()[key]
        assert (value - ours).abs().max() <= 0.006 * (ours - origin).abs().max() + 1e-9, key
    bundles.save(loaded, tmp_path / "again.safetensors")
    again = bundles.load(tmp_path / "again.safetensors").networks
    for name, net in loaded.networks.items():
        assert all(torch.equal(value, again[name].state_dict()[key]) for key, value in net.state_dict().items()), name


def test_it_takes_a_byte_a_weight(tmp_path):
    torch.manual_seed(0)
    net = NAFNet(NAFNetSpec(32, (1, 1), 1, (1, 1), attention=False)).eval()
    from rngcli.methods.rng import RnGParts

    bundle = RnGParts(net).bundle()
    bundles.save(bundle, tmp_path / "one.safetensors")
    bundles.save(with_walker(bundle, net, "nafnet"), tmp_path / "two.safetensors")
    one, two = ((tmp_path / f"{name}.safetensors").stat().st_size for name in ("one", "two"))
    assert two < 1.6 * one


def test_a_difference_is_exact_to_half_a_step_of_its_row():
    origin = {"a": torch.randn(5, 3, 2, 2), "b": torch.randn(1, 4, 1, 1), "c": torch.zeros(())}
    weights = {key: value + 0.01 * torch.randn_like(value) for key, value in origin.items()}
    weights["a"][2] = origin["a"][2]
    held = difference(weights, origin)
    assert {value.dtype for key, value in held.items() if "scale" not in key} == {torch.int8}
    for key, value in restored(held, origin).items():
        error = (value - weights[key]).reshape(len(value) if value.dim() else 1, -1).abs().amax(dim=1)
        most = (weights[key] - origin[key]).reshape(len(error), -1).abs().amax(dim=1)
        assert (error <= 0.0065 * most + 1e-9).all(), key
    assert torch.equal(restored(held, origin)["a"][2], origin["a"][2])


@pytest.mark.parametrize(("origin", "problem"), [("controller", "none like its origin"), ("absent", "absent")])
def test_a_difference_from_another_network_is_refused(tmp_path, origin, problem):
    path = tmp_path / "a.safetensors"
    bundles.save(grown_bundle(), path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    networks = json.loads(header["__metadata__"]["networks"])
    networks[WALKER]["origin"] = origin
    header["__metadata__"]["networks"] = json.dumps(networks)
    changed = json.dumps(header).encode()
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + data[8 + length :])
    with pytest.raises(ModelError, match=problem):
        bundles.load(path)


# --- the command -----------------------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch, capfd):
    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["rng", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capfd.readouterr()

    return command


def test_the_command_trains_it_and_denoise_takes_it(run, photographs, tmp_path):
    about = ["--data", photographs, "--run", tmp_path / "run", "--batch", 2, "--crop", 64, "--no-compile",
             "--device", "cpu", "--size", "xs"]  # fmt: skip
    assert run("train", "reconstruct", "--steps", 1, *about)[0] == 0
    file = tmp_path / "run" / "bundle.safetensors"
    before = bundles.load(file)
    code, told = run("train", "generate", "--process", "rddm", "--steps", 3, *about)
    assert code == 0, told.err
    after = bundles.load(file)
    assert list(after.methods) == ["rng", "rddm"]
    assert after.provenance["rddm"]["steps"] == 3
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(rng_of(after).nafnet(x), rng_of(before).nafnet(x)), "the reconstruction stays"
    assert not torch.equal(after.networks[WALKER](x), rng_of(after).nafnet(x))
    assert run("train", "generate", "--process", "rddm", "--steps", 3, *about)[0] == 0, "a run at its end"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)).save(tmp_path / "a.png")
    code, told = run("denoise", tmp_path / "a.png", tmp_path / "b.png", "--model", file, "--method", "rddm", "--json")
    assert (code, json.loads(told.out.splitlines()[0])["steps"]) == (0, 4)
    assert run("train", "prior", "--steps", 2, *about[:-2])[0] == 0
    assert isinstance(open_method(bundles.load(file), "rddm"), RDDM), "the other method stays"
    code, told = run("models", "show", file, "--json")
    methods = json.loads(told.out)["methods"]
    assert methods["rddm"]["networks"]["walk"] == WALKER
    assert methods["diffpir"]["networks"] == {"prior": PRIOR}


def test_an_unknown_process_is_refused(run, photographs, tmp_path):
    code, told = run("train", "generate", "--process", "ddim", "--data", photographs, "--run", tmp_path, "--steps", 1)
    assert code == 2
    assert "use rng or rddm" in told.err
