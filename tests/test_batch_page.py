"""`rng denoise --report FILE.html`: before and after of one's own files; every picture, whole, bounded in size."""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from rngcli.batch import gallery as gallery_module
from rngcli.batch.gallery import Gallery
from rngcli.batch.inputs import Outcome, Task
from rngcli.batch.ownership import is_own
from rngcli.batch.picture_view import view_of
from rngcli.cli import main
from rngcli.images import ReadOptions
from rngcli.models.bundle import save
from tests.browser import drawn, in_a_browser
from tests.tiny import random_bundle


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working folder, with three pictures in `in`, one of them noisy at one place alone, and a small model."""
    (tmp_path / "in").mkdir()
    for i in range(3):
        Image.fromarray(picture(i)).save(tmp_path / "in" / f"{i}.png")
    save(random_bundle(), tmp_path / "tiny.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def picture(seed, size=(300, 400)):
    rng = np.random.default_rng(seed)
    smooth = np.linspace(40, 200, size[1])[None, :, None] + np.zeros((*size, 3))
    return (smooth + rng.normal(0, 5 * (seed + 1), smooth.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture
def rng(monkeypatch, capfdbinary):
    """Run `rng denoise` in this process, as its main program does."""

    def run(*arguments):
        given = ["rng", "denoise", *map(str, arguments), "--device", "cpu", "--model", "tiny.safetensors"]
        monkeypatch.setattr(sys, "argv", given)
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capfdbinary.readouterr()
        return SimpleNamespace(code=end.value.code, out=out, err=err.decode())

    return run


def stored(path: Path) -> dict:
    text = path.read_text(encoding="utf-8")
    data = text.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    return json.loads(data, parse_constant=lambda c: pytest.fail(c))


def decoded(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))).convert("RGB"))


def test_the_page_has_every_picture_of_the_command_also_those_done_before(place, rng):
    assert rng("in", "out", "--report", "r.html").code == 0
    first = {p["file"]: p for p in stored(place / "r.html")["pictures"]}
    Image.fromarray(picture(3)).save("in/3.png")
    (place / "in/<script>.png").write_text("no picture")
    assert rng("in", "out", "--report", "r.html").code == 1
    second = {p["file"]: p for p in stored(place / "r.html")["pictures"]}
    assert {name: p["status"] for name, p in second.items()} == {
        "0.png": "skipped", "1.png": "skipped", "2.png": "skipped", "3.png": "done", "<script>.png": "failed",
    }  # fmt: skip
    for name, before in first.items():
        # What was done before is shown as it was when it was done, the detail map from the manifest included.
        for fact in ("view", "detail", "steps"):
            assert second[name][fact] == before[fact]
        assert before["detail"], name
    assert "view" not in second["<script>.png"]
    text = (place / "r.html").read_text()
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert is_own(place / "r.html")


def test_the_page_shows_what_is_on_disk(place, rng):
    rng("in", "out", "--report", "r.html")
    p = next(p for p in stored(place / "r.html")["pictures"] if p["file"] == "2.png")
    view = p["view"]
    assert (view["width"], view["height"]) == (400, 300)
    for side, folder in zip(range(2), ("in", "out"), strict=True):
        pixels = np.asarray(Image.open(f"{folder}/2.png").convert("RGB"), float)
        x, y, w, h = view["crop_box"]
        assert np.abs(decoded(view["crop"][side]) - pixels[y : y + h, x : x + w]).mean() < 7
        assert np.abs(decoded(view["whole"][side]).mean(axis=(0, 1)) - pixels.mean(axis=(0, 1))).max() < 2
    assert view["noise"][0] == pytest.approx(15, abs=1.5)


def test_the_crop_lies_where_most_was_changed(tmp_path):
    before = np.full((600, 900, 3), 100, np.uint8)
    after = before.copy()
    after[400:440, 700:740] += 60
    for name, pixels in (("a", before), ("b", after)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    outcome = Outcome(Task("a.png", tmp_path / "a.png", tmp_path / "b.png"), detail_map=("0f3", "777"))
    view = view_of(outcome, ReadOptions())
    x, y, w, h = view.crop_box
    assert x <= 700
    assert x + w >= 740
    assert y <= 400
    assert y + h >= 440
    assert view.change == pytest.approx(60 * 40 / 256, rel=0.01)
    assert (len(view.rows), len(view.columns)) == (3, 4)
    for size in ((1, 1), (5, 700), (17, 15)):
        Image.new("RGB", size).save(tmp_path / "a.png")
        Image.new("RGB", size, (9, 9, 9)).save(tmp_path / "b.png")
        small = view_of(outcome, ReadOptions())
        assert small.change == pytest.approx(9)
        assert small.crop_box[2:] == tuple(min(side, 256) for side in size)


def test_a_page_is_bounded_and_the_worst_keep_their_pictures(tmp_path, monkeypatch):
    outcomes = []
    for i in range(6):
        Image.fromarray(np.full((64, 64, 3), 100, np.uint8)).save(tmp_path / f"{i}.png")
        Image.fromarray(np.full((64, 64, 3), 100 + 10 * (i * 5 % 6), np.uint8)).save(tmp_path / f"{i}.out.png")
        outcomes.append(Outcome(Task(f"{i}.png", tmp_path / f"{i}.png", tmp_path / f"{i}.out.png")))
    one = view_of(outcomes[0], ReadOptions())
    monkeypatch.setattr(gallery_module, "LARGE", int(2.5 * one.bytes_large))
    monkeypatch.setattr(gallery_module, "SMALL", int(4.5 * one.bytes_small))
    views = Gallery(ReadOptions())
    for outcome in outcomes:
        views.add(outcome)
    (tmp_path / "5.out.png").write_bytes(b"torn")
    views.close()
    seen = [views.view(outcome) for outcome in outcomes]
    by_change = sorted(filter(None, seen), key=lambda view: -view.change)
    assert [bool(view.whole) for view in by_change[:3]] == [True, True, False]
    assert [bool(view.small) for view in by_change[:5]][:4] == [True] * 4


def test_a_picture_that_cannot_be_shown_is_said_and_stops_nothing(tmp_path):
    Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"torn")
    outcome = Outcome(Task("a.png", tmp_path / "a.png", tmp_path / "b.png"))
    views = Gallery(ReadOptions())
    views.add(outcome)
    views.close()
    assert views.view(outcome) is None
    assert "no picture" in (views.reason(outcome) or "")


def test_a_page_that_cannot_be_written_leaves_the_old_one_whole(place, rng, monkeypatch):
    assert rng("in", "out", "--report", "r.html").code == 0
    before = (place / "r.html").read_bytes()
    monkeypatch.setattr("rngcli.atomic.os.replace", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left")))
    assert rng("in", "out", "--report", "r.html").code == 5
    assert (place / "r.html").read_bytes() == before
    (place / "mine.html").write_text("<!doctype html><title>precious</title>")
    assert rng("in", "out", "--report", "mine.html").code == 2


def test_scores_and_gains_are_on_the_page_and_the_least_gain_comes_first(place, rng):
    (place / "clean").mkdir()
    for i in (0, 1):
        Image.fromarray(picture(i).astype(float).clip(60, 190).astype(np.uint8)).save(f"clean/{i}.tif")
    rng("in", "out", "--report", "r.html", "--reference", "clean")
    page = stored(place / "r.html")
    assert page["alone"] == 1
    found = {p["file"]: p for p in page["pictures"]}
    for name in ("0.png", "1.png"):
        p = found[name]
        assert p["gains"]["psnr"] == pytest.approx(p["psnr"] - p["input_psnr"], abs=1e-3)
        assert p["badness"] == pytest.approx(-p["gains"]["psnr"])
    assert found["2.png"]["badness"] < min(found[name]["badness"] for name in ("0.png", "1.png"))


USE = """
const bar = document.querySelector('.card .handle');
bar.focus();
const press = (key) => bar.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
['Home', 'ArrowRight', 'ArrowRight'].forEach(press);
$('map').click();
$('find').value = '2'; $('find').dispatchEvent(new Event('input'));
$('table').querySelectorAll('th button')[2].click(); $('table').querySelectorAll('th button')[2].click();
document.title = getComputedStyle(document.body).backgroundColor + ' ' + document.documentElement.scrollWidth;
"""


@in_a_browser
@pytest.mark.parametrize(("width", "dark"), [(1100, False), (500, True)])
def test_the_page_can_be_used(place, rng, width, dark):
    rng("in", "out", "--report", "r.html")
    body = drawn((place / "r.html").read_text(), place, USE, width, dark)
    assert body.startswith("rgb(25, 26, 27)" if dark else "rgb(253, 253, 252)"), "the colours of the scheme"
    assert int(body.split("\n")[0].split()[-1]) <= width, "the page itself never scrolls sideways"
    assert body.count("<article") == 1, "only what was looked for"
    assert body.count("<img") == 4
    assert all(f'alt="2.png, {side}"' in body for side in ("before", "after"))
    assert "<rect" in body
    assert 'aria-sort="descending"><button type="button">noise before ▼' in body
    rows = body.split("<tbody>")[1]
    assert rows.index("2.png") < rows.index("1.png") < rows.index("0.png"), "the noisiest first"
    table = body.split('id="every"')[1]
    assert 'role="region"' in table
    if width == 500:
        assert 'class="scroll tall wider"' in table, "a hint that it scrolls"
        assert 'tabindex="0"' in table
    whole = drawn((place / "r.html").read_text(), place, "document.querySelector('.handle').focus()", width)
    assert whole.count("<article") == 3
    moved = drawn((place / "r.html").read_text(), place, USE.split("$('map')")[0], width)
    assert 'aria-valuenow="4"' in moved
    assert "inset(0px 96% 0px 0px)" in moved
    assert "4 % before, the rest after" in moved


def test_a_picture_that_was_enlarged_is_shown_beside_its_small_one(tmp_path):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(small).save(tmp_path / "a.png")
    Image.fromarray(small.repeat(2, axis=0).repeat(2, axis=1)).save(tmp_path / "b.png")
    view = view_of(Outcome(Task("a.png", tmp_path / "a.png", tmp_path / "b.png")), ReadOptions())
    assert (view.width, view.height, view.change) == (120, 80, 0)
    assert decoded(view.crop[0]).shape == decoded(view.crop[1]).shape == (80, 120, 3)
