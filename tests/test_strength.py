"""Less than all of the noise taken away, in brightness and in colour apart; and how much there was."""

import csv
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from rngcli.cli import main
from rngcli.images import read
from rngcli.inference.strength import LUMA, Strength
from rngcli.models.bundle import save
from tests.tiny import random_bundle


def pair(shape=(600, 40)):
    rng = np.random.default_rng(0)
    return rng.random((*shape, 3), np.float32), rng.random((*shape, 3), np.float32)


def test_all_of_it_is_the_result_itself():
    noisy, clean = pair()
    assert Strength().blended(noisy, clean) is clean


def test_none_of_it_is_the_input():
    noisy, clean = pair()
    assert np.array_equal(Strength(0, 0).blended(noisy, clean), noisy)


def test_a_share_lies_between_the_two():
    noisy, clean = pair()
    found = Strength(0.25, 0.25).blended(noisy, clean)
    assert np.abs(found - (0.75 * noisy + 0.25 * clean)).max() < 1e-6
    assert found.dtype == np.float32


def test_brightness_and_colour_are_apart():
    noisy, clean = (0.4 + 0.2 * picture for picture in pair())  # so that nothing is clipped
    bright, colour = Strength(1, 0).blended(noisy, clean), Strength(0, 1).blended(noisy, clean)
    assert np.abs(bright @ LUMA - clean @ LUMA).max() < 1e-5
    assert np.abs(colour @ LUMA - noisy @ LUMA).max() < 1e-5
    hue = [picture - (picture @ LUMA)[..., None] for picture in (bright, noisy, colour, clean)]
    assert np.abs(hue[0] - hue[1]).max() < 1e-5
    assert np.abs(hue[2] - hue[3]).max() < 1e-5
    grey = noisy.mean(axis=2, keepdims=True).repeat(3, axis=2)
    assert np.abs(Strength(1, 0).blended(grey, grey * 0.5) - grey * 0.5).max() < 1e-6, "grey has brightness alone"


@pytest.fixture
def place(tmp_path, monkeypatch):
    save(random_bundle(), tmp_path / "tiny.safetensors")
    (tmp_path / "in").mkdir()
    for name, sigma in (("a.png", 5), ("b.png", 30)):
        noise = np.random.default_rng(0).normal(128, sigma, (64, 64, 3))
        Image.fromarray(noise.round().clip(0, 255).astype(np.uint8)).save(tmp_path / "in" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def rng(place, monkeypatch, capfdbinary):
    def run(*arguments):
        given = ["rng", "denoise", *map(str, arguments), "--device", "cpu", "--model", "tiny.safetensors"]
        monkeypatch.setattr(sys, "argv", given)
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capfdbinary.readouterr()
        return SimpleNamespace(code=end.value.code, out=out, err=err.decode())

    return run


def pixels(path):
    return read(path).pixels


def test_the_command_gives_back_as_much_as_is_asked(place, rng):
    asked = {"all": "", "one": "--strength 1 --luma 1", "none": "--strength 0", "half": "--strength 0.5",
             "grain": "--luma 0.5", "less": "--strength 0.5 --chroma 0"}  # fmt: skip
    for out, options in asked.items():
        assert rng("in", out, *options.split()).code == 0
    noisy, clean = pixels(place / "in" / "b.png"), pixels(place / "all" / "b.png")
    assert (place / "one" / "b.png").read_bytes() == (place / "all" / "b.png").read_bytes()
    assert np.array_equal(pixels(place / "none" / "b.png"), noisy)
    assert np.abs(pixels(place / "half" / "b.png") - (noisy + clean) / 2).max() <= 1.01 / 255
    expected = {"grain": Strength(0.5, 1), "less": Strength(0.5, 0)}
    for name, strength in expected.items():
        assert np.abs(pixels(place / name / "b.png") - strength.blended(noisy, clean)).max() <= 2 / 255, (
            "8 bits, clipped"
        )


def test_another_strength_is_done_again_and_the_same_is_not(rng):
    assert "2 done, 0 done before" in rng("in", "out").err
    assert "2 done, 0 done before" in rng("in", "out", "--strength", 0.5).err
    assert "0 done, 2 done before" in rng("in", "out", "--strength", 0.5, "--luma", 1).err


def test_noise_that_is_taken_for_stronger_is_done_again(place, rng):
    assert rng("in", "out").code == 0
    before = pixels(place / "out" / "b.png")
    assert "2 done, 0 done before" in rng("in", "out", "--noise-scale", 1.5).err
    assert np.abs(pixels(place / "out" / "b.png") - before).max() > 2 / 255
    assert "0 done, 2 done before" in rng("in", "out", "--noise-scale", 1.5).err
    for value in ("0.2", "5", "nan"):
        assert rng("in", "out", "--noise-scale", value).code == 2
    refused = rng("in", "other", "--noise-scale", 2, "--method", "rddm")
    assert "the method rddm has no option --noise-scale" in refused.err


def test_a_share_beyond_all_is_refused(rng):
    for option in ("--strength", "--luma", "--chroma"):
        for value in ("1.5", "-0.1", "nan"):
            assert rng("in", "out", option, value).code == 2


def test_a_pipe_has_the_same_strength(place, rng):
    assert rng("in/b.png", "file.png", "--strength", 0.3).code == 0
    (place / "piped.png").write_bytes(rng("in/b.png", "-", "--strength", 0.3).out)
    assert np.array_equal(pixels(place / "piped.png"), pixels(place / "file.png"))


def test_the_noise_before_is_in_json_report_and_summary_also_the_second_time(place, rng):
    first = rng("in", "out", "--json", "--report", "r.csv")
    again = rng("in", "out", "--json", "--report", "r.json")
    for done in (first, again):
        sigma = {row["file"]: row["sigma"] for row in map(json.loads, done.out.splitlines()) if "file" in row}
        assert sigma["a.png"] == pytest.approx(5, rel=0.15)
        assert sigma["b.png"] == pytest.approx(30, rel=0.15)
        middle, least, most = ((sigma["a.png"] + sigma["b.png"]) / 2, sigma["a.png"], sigma["b.png"])
        assert f"noise before: σ {middle:.1f} of 255 in the median, {least:.1f} to {most:.1f}" in done.err
    assert f" s  noise {most:.1f}\n" in first.err
    with (place / "r.csv").open(newline="") as file:
        rows = {row["file"]: row["sigma"] for row in csv.DictReader(file)}
    assert rows == {row["file"]: str(row["sigma"]) for row in json.loads((place / "r.json").read_text())}
