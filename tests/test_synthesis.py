"""`rng synth`: aligned pairs by a seed, whole or not at all, taken up where they stopped, and fit to train on."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from rngcli import images
from rngcli.cli import main
from rngcli.data.camera_noise import measure
from rngcli.device import find_device
from rngcli.errors import EnvironmentFault, UsageError
from rngcli.methods import synthesis as tiled
from rngcli.methods.synthesis import Synthesis, SynthesisSpec
from rngcli.metrics.drift import DetailSlope
from rngcli.nets.unet import UNet, UNetSpec
from rngcli.training import synthetic_pairs as pairs
from tests.cameras import cored, grainy
from tests.test_camera_noise import scene, tensor
from tests.tiny import scramble

CPU = find_device("cpu")


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A camera's noisy photographs, and clean ones of another."""
    root = tmp_path_factory.mktemp("synth")
    for i in range(4):
        save(root / "camera" / f"{i}.png", grainy(scene(i, 256, 256), i))
    for name, seed in (("a", 10), ("b", 11), ("sub/a", 12), ("sub/c", 13)):
        save(root / "clean" / f"{name}.png", scene(seed, 150, 170, texture=0.1))
    return root


@pytest.fixture
def synth(folders, monkeypatch, capfd):
    """Run `rng synth` in this process, as its main program does."""

    def run(out, *arguments, clean=folders / "clean", camera=folders / "camera"):
        given = ["synth", clean, out, "--camera", camera, "--device", "cpu", *arguments]
        monkeypatch.setattr(sys, "argv", ["rng", *map(str, given)])
        with pytest.raises(SystemExit) as end:
            main()
        told = capfd.readouterr()
        return SimpleNamespace(code=end.value.code, out=told.out, err=told.err)

    return run


def contents(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*.png"))}


# --- one pair --------------------------------------------------------------------------------------------------


def test_noise_is_added_and_the_picture_stays():
    noises = measure([tensor(grainy(scene(i), i)) for i in range(4)])
    clean, slope = tensor(scene(20, 200, 200, texture=0.1)), DetailSlope()
    noisy = Synthesis(noises, None, SynthesisSpec(), CPU).partner(clean, torch.Generator().manual_seed(0))
    assert 0.03 < (noisy - clean).std() < 0.1
    assert (noisy - clean).mean().abs() < 0.005
    slope.add(noisy, clean)
    assert slope.value > 0.95


def test_the_slope_tells_drift_from_noise():
    clean = tensor(scene(3, 128, 128, texture=0.1))
    blurred = torch.nn.functional.avg_pool2d(clean[None], 3, 1, 1, count_include_pad=False)[0]
    values = []
    for noisy in (clean, clean + 0.1 * torch.randn_like(clean), 0.5 + 0.5 * clean, blurred):
        slope = DetailSlope()
        slope.add(noisy, clean)
        values.append(slope.value)
    assert values[:3] == pytest.approx([1, 1, 0.5], abs=0.03)
    assert values[3] < 0.7
    assert np.isnan(DetailSlope().value)


def test_the_network_knows_nothing_of_the_grid_it_is_run_on(monkeypatch):
    net = scramble(UNet(UNetSpec(8, (1,), 1, (1,), patch=1, condition="nothing", embedding=16)))
    noises = measure([tensor(grainy(scene(i), i)) for i in range(4)])
    synthesis = Synthesis(noises, net, SynthesisSpec(), CPU)
    synthesis.net = net
    state, level = torch.rand(1, 3, 150, 133), torch.tensor([0.08])
    whole = synthesis._answer(state, level)
    assert whole.shape == state.shape
    monkeypatch.setattr(tiled, "TILE", 64)
    assert torch.allclose(synthesis._answer(state, level), whole, atol=1e-4)
    assert whole.std() > 0.1


def test_a_network_that_knows_the_noise_takes_the_picture_to_noise_and_back(monkeypatch):
    """One whose every answer is the clean picture: what comes out is the clean picture, in 8 bits."""
    clean = tensor(scene(2, 64, 64))
    noises = measure([tensor(grainy(scene(i), i)) for i in range(4)])
    net = UNet(UNetSpec(8, (1,), 1, (1,), patch=1, condition="nothing", embedding=16))
    synthesis = Synthesis(noises, net, SynthesisSpec(), CPU)

    def oracle(state, level):
        return synthesis.process.target(clean[None], level, (state - clean) / level)

    monkeypatch.setattr(synthesis, "_answer", oracle)
    partner = synthesis.partner(clean, torch.Generator().manual_seed(0))
    assert (partner - clean).abs().max() < 0.51 / 255


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_a_strength_that_was_not_learned_is_refused(strength):
    with pytest.raises(UsageError, match=r"give 1\.5 to 80 of 255"):
        SynthesisSpec(strength)


# --- folders of them -------------------------------------------------------------------------------------------


def test_every_clean_picture_gets_its_partner(folders, synth, tmp_path):
    done = synth(tmp_path / "out", "--crop", "0", "--soft", "0", "--json")
    facts = json.loads(done.out)
    assert (done.code, facts["pairs"], facts["new"], facts["failed"]) == (0, 4, 4, 0)
    assert facts["detail_slope"] >= 0.95
    assert f"detail slope {facts['detail_slope']:.3f}" in done.err
    names = ["a", "b", "sub/a", "sub/c"]
    assert sorted(contents(tmp_path / "out")) == sorted(f"{side}/{n}.png" for n in names for side in ("noisy", "clean"))
    for name in names:
        clean = images.read(tmp_path / "out" / "clean" / f"{name}.png").pixels
        assert np.array_equal(clean, images.read(folders / "clean" / f"{name}.png").pixels)
        noisy = images.read(tmp_path / "out" / "noisy" / f"{name}.png").pixels
        assert 0.02 < (noisy - clean).std() < 0.12
    record = json.loads((tmp_path / "out" / "synthesis.json").read_text())
    assert (record["pairs"], record["seed"], record["ddpm"]) == (4, 0, None)


def test_pixels_hang_on_seed_and_name_alone(synth, folders, tmp_path):
    synth(tmp_path / "all", "--crop", "96")
    whole = contents(tmp_path / "all")
    assert images.read(tmp_path / "all/noisy/a.png").pixels.shape == (96, 96, 3)
    save(tmp_path / "one" / "b.png", np.asarray(Image.open(folders / "clean" / "b.png")) / 255)
    synth(tmp_path / "alone", "--crop", "96", clean=tmp_path / "one")
    assert contents(tmp_path / "alone") == {name: whole[name] for name in ("clean/b.png", "noisy/b.png")}
    synth(tmp_path / "other", "--crop", "96", "--seed", "1")
    other = contents(tmp_path / "other")
    assert other.keys() == whole.keys()
    assert all(other[name] != whole[name] for name in whole)


def test_a_share_of_the_pictures_is_as_soft_as_a_cameras(synth, folders, tmp_path):
    def sharpness(out):
        pictures = [images.read(path).pixels for path in sorted((out / "clean").rglob("*.png"))]
        return np.array([np.abs(np.diff(pixels, axis=1)).mean() for pixels in pictures])

    for share in ("0", "1"):
        assert json.loads(synth(tmp_path / share, "--soft", share, "--json").out)["detail_slope"] > 0.93
    assert (sharpness(tmp_path / "1") < 0.98 * sharpness(tmp_path / "0")).all()


def test_a_second_run_makes_only_what_is_missing(synth, tmp_path):
    out = tmp_path / "out"
    synth(out)
    before, stamp = contents(out), (out / "noisy/b.png").stat().st_mtime_ns
    (out / "noisy/a.png").unlink()  # as a kill between the two would leave it
    (out / "clean/sub/c.png").unlink()
    (out / "noisy/.rng-0123456789abcdef.part").write_bytes(b"half")
    done = synth(out, "--json")
    assert json.loads(done.out)["new"] == 2
    assert contents(out) == before
    assert (out / "noisy/b.png").stat().st_mtime_ns == stamp
    assert not list(out.rglob("*.part"))


def test_a_pair_is_there_whole_or_not_at_all(synth, tmp_path, monkeypatch):
    real, calls = pairs.whole, []

    def full(path):
        calls.append(path)
        if len(calls) == 4:  # the second side of the second pair
            raise EnvironmentFault(f"{path} cannot be written (No space left on device)", "check the disk")
        return real(path)

    monkeypatch.setattr(pairs, "whole", full)
    done = synth(tmp_path / "out")
    assert done.code == 5
    assert "No space left" in done.err
    assert sorted(contents(tmp_path / "out")) == ["clean/a.png", "noisy/a.png"]
    assert not list((tmp_path / "out").rglob("*.part"))


def test_pairs_of_other_settings_are_not_mixed(synth, folders, tmp_path):
    synth(tmp_path / "out")
    before = contents(tmp_path / "out")
    done = synth(tmp_path / "out", "--seed", "3", "--crop", "64")
    assert done.code == 2
    assert "pairs of another crop and seed; give another OUT" in done.err
    save(tmp_path / "camera" / "0.png", grainy(scene(9), 9))
    assert "another camera" in synth(tmp_path / "out", camera=tmp_path / "camera").err
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("made_by", [(), ("--ddpm", "--minutes", "0.02", "--steps", "2", "--crop", "64")])
@pytest.mark.parametrize("cut_short", [False, True])
def test_a_broken_picture_is_named_and_the_others_are_made(synth, folders, tmp_path, made_by, cut_short):
    for folder in ("clean", "camera"):
        for path in sorted((folders / folder).glob("*.png")):
            save(tmp_path / folder / path.name, np.asarray(Image.open(path)) / 255)
        whole = path.read_bytes()
        broken = whole[: len(whole) // 2] if cut_short else b"\x89PNG\r\n\x1a\n no picture"
        (tmp_path / folder / "broken.png").write_bytes(broken)
    done = synth(tmp_path / "out", *made_by, clean=tmp_path / "clean", camera=tmp_path / "camera")
    assert done.code == 1
    pairs = [name for name in contents(tmp_path / "out") if not name.startswith("ddpm/")]
    assert sorted(pairs) == [f"{side}/{name}.png" for side in ("clean", "noisy") for name in "ab"]
    (failure,) = [line for line in done.err.splitlines() if line.startswith("rng: ")]
    assert "clean/broken.png" in failure
    assert "camera/broken.png is left out" in done.err


@pytest.mark.parametrize("out", ["clean/pairs", "camera", "clean", "."])
def test_pairs_never_lie_among_what_they_are_made_from(synth, folders, out):
    done = synth(folders / out)
    assert done.code == 2
    assert "are not apart" in done.err
    assert not (folders / out / "noisy").exists()


def test_no_photographs_are_said(synth, tmp_path):
    (tmp_path / "empty").mkdir()
    assert synth(tmp_path / "out", camera=tmp_path / "empty").code == 4
    assert synth(tmp_path / "out", clean=tmp_path / "empty").code == 4
    assert synth(tmp_path / "out", clean=tmp_path / "absent").code == 4
    save(tmp_path / "tiny" / "a.png", np.full((20, 20, 3), 0.5))
    done = synth(tmp_path / "out", camera=tmp_path / "tiny")
    assert done.code == 4
    assert "fewer than" in done.err
    assert synth(tmp_path / "out").code == 0, "what came to nothing stands in no other's way"


def test_a_network_of_the_camera_is_trained_once_and_kept(synth, tmp_path):
    options = ("--ddpm", "--minutes", "0.02", "--steps", "2", "--crop", "64")
    done = synth(tmp_path / "out", *options, "--json")
    assert done.code == 0
    assert json.loads(done.out)["pairs"] == 4
    before, state = contents(tmp_path / "out"), (tmp_path / "out/ddpm/state.pt").read_bytes()
    (tmp_path / "out/noisy/b.png").unlink()
    synth(tmp_path / "out", *options)
    assert contents(tmp_path / "out") == before
    assert (tmp_path / "out/ddpm/state.pt").read_bytes() == state
    record = json.loads((tmp_path / "out/synthesis.json").read_text())["ddpm"]
    assert (record["minutes"], record["evaluations"]) == (0.02, 2)
    assert "another ddpm" in synth(tmp_path / "out", "--crop", "64").err


def test_the_pairs_are_what_training_takes(synth, tmp_path, monkeypatch):
    synth(tmp_path / "out", "--crop", "0")
    given = [
        "train", "reconstruct", "--pairs", tmp_path / "out/noisy", tmp_path / "out/clean", "--steps", 1, "--batch", 2,
        "--crop", 64, "--size", "xs", "--no-compile", "--device", "cpu", "--run", tmp_path / "run",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["rng", *map(str, given)])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert (tmp_path / "run" / "bundle.safetensors").exists()


def test_the_second_camera_takes_faint_texture_away():
    """Which no measured noise can do: what the network of --ddpm is for."""
    slopes = []
    for texture in (0.004, 0.1):
        clean, slope = scene(4, 200, 200, texture=texture), DetailSlope()
        slope.add(tensor(cored(clean, 0)), tensor(clean))
        slopes.append(slope.value)
    assert slopes[0] < 0.8 * slopes[1]
