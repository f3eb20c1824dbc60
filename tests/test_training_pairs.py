"""Real pairs are a source of equal rank: both sides cut and turned alike, mixed with degraded photographs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from rngcli.cli import app
from rngcli.data.crops import Batches, Photographs
from rngcli.data.image_cache import Pool
from rngcli.errors import NoInputError, PictureError, UsageError
from rngcli.models import bundle as checkpoint


def put(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def random_pixels(seed, height=90, width=100):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def sidd(tmp_path_factory):
    """SIDD-Medium's layout, in small: a folder a scene, both sides in it; the noisy one is the clean one's negative."""
    data = tmp_path_factory.mktemp("SIDD") / "Data"
    for i in range(3):
        clean = random_pixels(i)
        scene = data / f"000{i}_001_S6_00100"
        put(scene / f"000{i}_GT_SRGB_010.PNG", clean)
        put(scene / f"000{i}_NOISY_SRGB_010.PNG", 255 - clean)
    return data


@pytest.fixture
def pairs(sidd):
    sources = list(zip(sorted(sidd.rglob("*NOISY*")), sorted(sidd.rglob("*GT*")), strict=True))
    return Photographs.load(sources, 64)


def is_negative(x, y):
    """Crop by crop."""
    return ((x + y - 1).abs().amax(dim=(1, 2, 3)) < 1e-6).tolist()


def test_both_sides_of_a_pair_are_cut_and_turned_alike(pairs):
    crops = pairs.train.sample(50, torch.Generator().manual_seed(0))
    assert crops.shape == (50, 6, 64, 64)
    assert all(is_negative(crops[:, :3], crops[:, 3:]))
    assert len(crops[:, 3:].flatten(1).unique(dim=0)) == 50, "each crop is another"
    clean = pairs.clean.train.sample(50, torch.Generator().manual_seed(0))
    assert torch.equal(clean, crops[:, 3:]), "the clean sides serve as photographs"


def test_a_batch_has_its_share_of_real_pairs(pairs):
    batches = Batches(pairs.clean, 8, pairs=pairs, pairs_share=0.25)
    clean, noisy = batches.draw(torch.Generator().manual_seed(0))
    assert is_negative(clean, noisy) == [False] * 6 + [True] * 2
    assert all(is_negative(*replace(batches, pairs_share=1.0).draw(torch.Generator().manual_seed(0))))
    without = replace(batches, pairs_share=0.0), replace(batches, pairs=None)
    drawn = [kind.draw(torch.Generator().manual_seed(0)) for kind in without]
    assert all(torch.equal(*sides) for sides in zip(*drawn, strict=True)), "no pairs, no change"
    held_out = batches.held_out_pairs(5)
    assert all(is_negative(*held_out))
    assert all(torch.equal(*sides) for sides in zip(held_out, batches.held_out_pairs(5), strict=True))


def test_a_held_out_picture_is_held_out_from_pairs_too(tmp_path):
    names = [f"{i}.png" for i in range(64)]
    for i, name in enumerate(names):
        put(tmp_path / "clean" / name, random_pixels(i, 16, 16))
    alone = Photographs.load([tmp_path / "clean" / name for name in names], 16)
    both = Photographs.load([(tmp_path / "clean" / name, tmp_path / "clean" / name) for name in names], 16)
    assert len(alone.held_out) == len(both.held_out) < len(names) / 8
    assert torch.equal(alone.held_out.pixels, both.clean.held_out.pixels)


def train(stage, *arguments):
    about = ["--steps", "1", "--batch", "2", "--crop", "64", "--size", "xs", "--no-compile", "--device", "cpu"]
    result = CliRunner().invoke(app, ["train", stage, *about, *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_command_learns_from_pairs_alone_and_beside_photographs(sidd, tmp_path):
    put(tmp_path / "data" / "a.png", random_pixels(9))
    train("reconstruct", "--pairs", sidd, sidd, "--run", tmp_path / "run")
    train("generate", "--pairs", sidd, sidd, "--data", tmp_path / "data", "--run", tmp_path / "run")
    facts = checkpoint.load(tmp_path / "run" / "bundle.safetensors").provenance
    assert [(facts[stage]["pairs"], facts[stage]["pairs_share"]) for stage in ("reconstruct", "generate")] == [
        (2, 1.0), (2, 0.5),
    ]  # fmt: skip
    (line,) = (tmp_path / "run" / "reconstruct" / "log.jsonl").read_text().splitlines()
    scores = json.loads(line)["scores"]
    assert scores["input_pairs"] == pytest.approx(10 * np.log10(3), abs=0.3), "of white noise and its negative"
    assert "psnr_pairs" in scores


def test_what_is_no_pair_is_said(sidd, tmp_path):
    noisy = put(tmp_path / "noisy" / "a.png", random_pixels(0))
    other = put(tmp_path / "clean" / "a.png", random_pixels(0, 90, 101))
    with pytest.raises(PictureError, match="100×90 px but its truth is 101×90"):
        Pool([(noisy, other)], 64)
    (tmp_path / "broken.png").write_text("no picture")
    with pytest.raises(PictureError, match=r"broken\.png cannot be decoded"):
        Pool([tmp_path / "broken.png"], 64)
    put(other, random_pixels(0))
    with pytest.raises(NoInputError, match="128×128"):
        Pool([(noisy, other)], 128)
    put(tmp_path / "noisy" / "b.png", random_pixels(1))
    put(tmp_path / "noisy" / "c.png", random_pixels(1))
    run = ("--run", tmp_path / "run")
    with pytest.raises(NoInputError, match=r"b\.png: no partner in .*, nor have 1 more"):
        train("reconstruct", "--pairs", tmp_path / "noisy", tmp_path / "clean", *run)
    with pytest.raises(UsageError, match="--data DIR, or --pairs"):
        train("reconstruct", *run)
    with pytest.raises(UsageError, match="of 2 crops is 0"):
        train("reconstruct", "--data", sidd, "--pairs", sidd, sidd, "--pairs-share", "0.1", *run)
