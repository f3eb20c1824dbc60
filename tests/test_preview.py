"""Before the long run: a part of a picture at several details, how noisy it is, and how long all will take."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from rngcli import images
from rngcli.cli import main
from rngcli.cli.forecast import told
from rngcli.cli.progress import duration
from rngcli.inference.estimate import Pace, pace
from rngcli.inference.noisiest import noisiest
from rngcli.inference.pipeline import Pipeline
from rngcli.methods.contract import Frame, Request
from rngcli.models.bundle import save
from tests.tiny import identity_bundle, random_bundle


@pytest.fixture
def place(tmp_path, monkeypatch):
    save(random_bundle(), tmp_path / "tiny.safetensors")
    save(identity_bundle(), tmp_path / "identity.safetensors")
    (tmp_path / "in" / "trip").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (160, 200, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "in" / "a.png")
    Image.fromarray(noise[:100]).save(tmp_path / "in" / "trip" / "b.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def rng(place, monkeypatch, capfd):
    def run(*arguments, model="tiny"):
        given = ["rng", "denoise", *map(str, arguments), "--device", "cpu", "--model", f"{model}.safetensors"]
        monkeypatch.setattr(sys, "argv", given)
        with pytest.raises(SystemExit) as end:
            main()
        return SimpleNamespace(code=end.value.code, err=capfd.readouterr().err)

    return run


def test_the_noisiest_part_with_texture_is_looked_at():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:512, 0:512]
    pixels = np.full((512, 512, 3), 0.5, np.float32)
    pixels[256:] += (0.15 * np.sin(y[256:] / 5) * np.sin(x[256:] / 5))[..., None]  # the lower half has texture
    sigma = np.where(x < 256, 0.01, 0.06)  # and the right half noise
    sigma[:256, 256:] = 0.12  # most of it where all is flat
    pixels = (pixels + sigma[..., None] * rng.normal(size=pixels.shape)).astype(np.float32)
    assert noisiest(pixels, 256) == (256, 256)
    assert noisiest(pixels, 1000) == (0, 0)
    assert noisiest(pixels[:5, :3], 64) == (0, 0)


def test_panes_noise_and_time(place, rng):
    before = {path: path.read_bytes() for path in place.rglob("*.*") if path.is_file()}
    done = rng("in/a.png", "--preview", 64, "p.png")
    assert done.code == 0, done.err
    assert re.search(r"200 by 160 px, here 64 px at \d+,\d+\nnoise \d+\.\d of 255, here \d+\.\d\n", done.err)
    assert re.search(r"about [\d.]+ (s|min) a picture of 0.032 Mpx here \(24 Mpx: [\d.]+ (s|min|h)\)", done.err)
    sheet = Image.open(place / "p.png")
    assert sheet.size[0] == 4 * (64 + 8) - 8, "the input, and detail 0, 0.5, 1"
    bottom = np.asarray(sheet)[-64:]
    panes = [bottom[:, i * 72 : i * 72 + 64] for i in range(4)]
    assert len({pane.tobytes() for pane in panes}) == 4
    picture, at = np.asarray(Image.open(place / "in/a.png")), re.search(r"at (\d+),(\d+)", done.err)
    left, top = int(at[1]), int(at[2])
    assert np.array_equal(panes[0], picture[top : top + 64, left : left + 64])
    assert {path: path.read_bytes() for path in before} == before
    assert rng("in/a.png", "--preview", 64, "p.png").code == 0, "its own file may be replaced"


def test_a_place_may_be_named_and_the_pane_is_what_the_model_makes_of_it(place, rng):
    assert rng("in/a.png", "--preview", "64@150,110", "p.png", "--detail", 0, model="identity").code == 0
    bottom = np.asarray(Image.open(place / "p.png"))[-50:]
    assert bottom.shape[1] == 2 * (50 + 8) - 8, "what there is of it; no generator, no more details"
    assert np.array_equal(bottom[:, :50], np.asarray(Image.open(place / "in/a.png"))[110:, 150:])
    assert np.array_equal(bottom[:, 58:], bottom[:, :50])


def test_a_strength_that_is_asked_for_is_shown_and_a_folder_is_meant_as_a_whole(place, rng):
    done = rng("in", "--preview", 100, "p.html", "--luma", 0.5, "--detail", 0.7)
    assert done.code == 0, done.err
    assert re.search(r"of 0\.026 Mpx here, .* for 2 pictures", done.err)
    page = (place / "p.html").read_text()
    titles = ["input", "detail 0", "detail 0.5", "detail 0.7", "detail 1", "detail 0.7, luma 0.5, chroma 1"]
    assert re.findall("<figcaption>(.*?)</figcaption>", page) == titles
    assert page.count("data:image/png;base64,") == 6
    assert rng("in", "--preview", 100, "p.html", "--detail", 0).code == 0


@pytest.mark.parametrize("given", [["in", "out"], ["in/*.png", "in/trip"], ["in/a.png", "in/trip/*"]])
def test_time_is_that_of_the_pictures_of_the_run(place, rng, given):
    assert "for 2 pictures" in rng(*given, "--preview", 64, "p.png").err, "OUT is none; no shell has expanded the globs"


def test_a_turned_picture_is_shown_upright(place, rng):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (300, 100), (200, 30, 30)).save(place / "turned.jpg", exif=exif)
    assert "100 by 300 px" in rng("turned.jpg", "--preview", "64@10,210", "p.png").err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["in/a.png", "--preview", "9", "p.png"], 2, "is no part of a picture; give 64..2048"),
        (["in/a.png", "--preview", "64@1", "p.png"], 2, "is no part"),
        (["in/a.png", "--preview", "64@200,0", "p.png"], 2, "the picture ends at 200,160"),
        (["in/a.png", "--preview", "64", "p.jpg"], 2, "neither .png nor .html"),
        (["in/a.png", "--preview", "64", "in/a.png"], 2, "was not made by rng"),
        (["in/a.png", "--preview", "64", "nowhere/p.png", "--out", "o"], 2, "writes its own file"),
        (["--preview", "64", "p.png"], 4, "no picture to look at"),
        (["gone.png", "--preview", "64", "p.png"], 4, "gone.png does not exist"),
        (["gone*.png", "out", "--preview", "64", "p.png"], 4, "gone*.png does not exist"),
    ],
)
def test_what_cannot_be_meant_is_refused(place, rng, arguments, code, says):
    done = rng(*arguments)
    assert (done.code, says in done.err, (place / "p.png").exists()) == (code, True, False), done.err


def test_a_dry_run_says_how_long_it_takes_or_why_that_is_not_known(place, rng):
    done = rng("in", "out", "--dry-run")
    assert re.search(r"2 to do, 0 done already\nabout .* a picture of 0\.026 Mpx here, .* for 2 pictures", done.err)
    assert "cannot be said: no model file at" in rng("in", "out", "--dry-run", model="nobody").err
    assert not (place / "out").exists()
    assert rng("in", "out").code == 0
    assert "about" not in rng("in", "out", "--dry-run").err, "nothing is to be done"


def test_the_summary_says_what_a_photograph_takes(rng):
    assert re.search(r"0 failed in [\d.]+ s \([\d.]+ Mpx/s: 24 Mpx in [\d.]+ (s|min|h)\)", rng("in", "out").err)


def test_time_is_tiles_by_their_pace(place):
    known = Pace(2.0, Frame())
    assert known.seconds(512, 512) == 2
    assert known.seconds(512, 513) == 4
    assert (
        told([Path("in/a.png")] * 3, known)
        == "about 2.0 s a picture of 0.032 Mpx here, 6.0 s for 3 pictures (24 Mpx: 3.9 min)"
    )
    assert "3.0 s for 3 pictures" in told([Path("in/a.png")] * 3, known, devices=2)
    measured = pace(Pipeline(random_bundle(), "cpu", "fp32", 2), Request(), np.zeros((40, 600, 3), np.float32))
    assert 0 < measured.tile < 60
    assert [duration(s) for s in (0.04, 9.94, 70, 200, 5000, 7200, 90000)] == [
        "0.0 s", "9.9 s", "70 s", "3.3 min", "83 min", "2.0 h", "25 h"
    ]  # fmt: skip


@pytest.mark.parametrize("format", ["jpeg", "png", "tiff", "webp", "avif", "heic", "jxl"])
def test_the_size_of_a_picture_is_in_its_header(tmp_path, format, monkeypatch):
    path = tmp_path / f"a{images.SUFFIX_OF_FORMAT[format]}"
    images.write(path, images.Image(np.zeros((40, 70, 3), np.float32), format=format))
    assert images.size_of(path) == (40, 70)
