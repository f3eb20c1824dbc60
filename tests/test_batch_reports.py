"""The report is the truth of the command: every picture, done now or before, whole or not at all, where it may."""

import csv
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from rngcli.batch.inputs import Task
from rngcli.batch.ownership import check_log, check_place, is_own
from rngcli.batch.reference import Reference
from rngcli.cli import main
from rngcli.errors import EnvironmentFault, PictureError, UsageError
from rngcli.evaluation.report import Case, Metric, Report, Row, read, write
from rngcli.models.bundle import save
from tests.tiny import identity_bundle

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working folder, with three pictures in `in` and a small model."""
    (tmp_path / "in").mkdir()
    for i in range(3):
        Image.fromarray(noise(i)).save(tmp_path / "in" / f"{i}.png")
    save(identity_bundle(), tmp_path / "tiny.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)


@pytest.fixture
def rng(monkeypatch, capfdbinary):
    """Run `rng denoise --detail 0` in this process, as its main program does."""

    def run(*arguments):
        given = ["rng", "denoise", *map(str, arguments), "--device", "cpu", "--model", "tiny.safetensors"]
        monkeypatch.setattr(sys, "argv", [*given, "--detail", "0"])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capfdbinary.readouterr()
        return SimpleNamespace(code=end.value.code, out=out, err=err.decode())

    return run


def rows(path):
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return {row["file"]: row for row in csv.DictReader(file)}
    return {row["file"]: row for row in json.loads(path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("form", ["csv", "json"])
def test_the_same_command_again_reports_the_same_pictures(place, rng, form):
    report = place / f"r.{form}"
    assert rng("in", "out", "--report", report).code == 0
    first = rows(report)
    Image.fromarray(noise(3)).save("in/3.png")
    (place / "in" / "4.png").write_text("no picture")
    assert rng("in", "out", "--report", report).code == 1
    second = rows(report)
    assert list(second) == ["0.png", "1.png", "2.png", "3.png", "4.png"], "in the order of the inputs"
    assert [row["status"] for row in second.values()] == ["skipped"] * 3 + ["done", "failed"]
    for name in first:
        for figure in ("megapixels", "steps", "seconds", "output", "notes"):
            assert second[name][figure] == first[name][figure]


def test_scores_are_added_to_what_is_finished_and_then_known(place, rng, monkeypatch):
    rng("in", "out")
    assert rng("in", "out", "--reference", "in", "--report", "r.json").code == 0
    scores = {name: row["psnr"] for name, row in rows(place / "r.json").items()}
    assert set(scores) == {"0.png", "1.png", "2.png"}
    monkeypatch.setattr("rngcli.metrics.suite.Judge.score", lambda *a: ({"psnr": 1.0}, []))
    rng("in", "out", "--reference", "in", "--report", "r.json")
    assert {name: row["psnr"] for name, row in rows(place / "r.json").items()} == scores, "not measured again"
    Image.fromarray(noise(9)).save("out/0.png")  # by hand, since
    rng("in", "out", "--reference", "in", "--report", "r.json")
    assert {name: row["psnr"] for name, row in rows(place / "r.json").items()} == scores | {"0.png": 1.0}


def test_equal_pictures_have_an_infinite_psnr_that_is_said_and_is_json(place, rng):
    (place / "clean").mkdir()
    for i in range(2):
        Image.fromarray(noise(i)).save(f"clean/{i}.png")
    Image.fromarray(noise(7)).save("clean/2.png")
    rng("in", "out")  # equal as files: what comes from the network is so but for its last bits
    done = rng("in", "out", "--reference", "clean", "--report", "r.json", "--json")
    assert "+ 2 ∞" in done.err
    strict = [json.loads(line, parse_constant=lambda c: pytest.fail(c)) for line in done.out.splitlines()]
    assert [row["psnr"] for row in strict[:2]] == ["inf", "inf"]
    assert math.isinf(float(rows(place / "r.json")["0.png"]["psnr"]))


def test_what_was_not_begun_is_in_the_report_too(place, rng):
    (place / "in" / "!.png").write_text("no picture")
    assert rng("in", "out", "--fail-fast", "--report", "r.json").code == 1
    assert [row["status"] for row in rows(place / "r.json").values()] == ["failed"] + ["not begun"] * 3


def test_a_report_that_does_not_fit_leaves_the_old_one_whole(place):
    many = place / "many"
    many.mkdir()
    for i in range(30):
        (many / f"{i}.png").write_text("no picture")
    command = f"'{sys.executable}' -m rngcli denoise many out --model tiny.safetensors --detail 0 -q --report r.json"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(["bash", "-c", command], env=environment, capture_output=True, check=False)
    before = (place / "r.json").read_bytes()
    assert len(json.loads(before)) == 30
    (many / "30.png").write_text("no picture")
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 4; trap '' XFSZ; {command}"], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 5, done.stderr
    assert (place / "r.json").read_bytes() == before
    assert done.stderr.count(b"failed: ") == 31, "told all the same"


# --- side outputs are guarded as pictures are --------------------------------------------------------------------


def test_a_foreign_file_is_no_place_for_a_report(place, rng):
    (place / "mine.csv").write_text("precious")
    done = rng("in", "out", "--report", "mine.csv")
    assert (done.code, "was not made by rng" in done.err) == (2, True)
    assert not (place / "out").exists()
    assert (place / "mine.csv").read_text() == "precious"
    (place / "empty.csv").touch()
    assert rng("in", "out", "--report", "empty.csv").code == 0


def test_a_log_is_never_appended_to_a_picture(place, rng):
    before = (place / "in/0.png").read_bytes()
    assert rng("in", "out", "--log", "in/0.png").code == 2
    assert (place / "in/0.png").read_bytes() == before
    (place / "data.bin").write_bytes(b"a\0b")
    with pytest.raises(UsageError, match="no log"):
        check_log(place / "data.bin")
    (place / "old.log").write_text("lines\n")
    check_log(place / "old.log")


def test_reports_of_every_form_are_known_as_rngs_own(place):
    metric = Metric("psnr", "PSNR", "high", 2, "dB")
    report = Report("rng eval: x", (Case("x", "p", 1),), ("rng",), (metric,), (
        Row("x", "rng", "a", {"psnr": math.inf}, 1, 1, 1), Row("x", "rng", "b", {"psnr": 30.0}, 1, 1, 1),
    ))  # fmt: skip
    for form in ("json", "csv", "md", "html"):
        path = place / f"r.{form}"
        write(report, path)
        check_place(path, "the report")
        path.write_text("precious")
        assert not is_own(path)
        with pytest.raises(UsageError, match="not made by rng"):
            check_place(path, "the report")
    write(report, place / "new.json")
    assert read(place / "new.json") == report
    assert "30.00 [30.00, 30.00] + 1 ∞" in (write(report, place / "new.md") or (place / "new.md").read_text())
    with pytest.raises(EnvironmentFault, match="takes no files"):
        check_place(place / "r.csv" / "r.json", "the report")


# --- the reference -------------------------------------------------------------------------------------------------


def test_a_reference_is_found_by_folder_and_stem_and_what_has_none_is_counted(place, rng):
    (place / "in/sub").mkdir()
    for name in ("sub/a.png", "sub/alone.png"):
        Image.fromarray(noise(4)).save(place / "in" / name)
    (place / "clean/sub").mkdir(parents=True)
    Image.fromarray(noise(0)).save("clean/0.tif")
    Image.fromarray(noise(8)).save("clean/1.PNG")
    Image.fromarray(noise(2)).save("clean/2.jpg")
    Image.fromarray(noise(2)).save("clean/2.webp")  # which of the two?
    Image.fromarray(noise(4)).save("clean/sub/A.tiff")
    Image.fromarray(noise(4)).save("clean/alone.png")  # in another folder
    done = rng("in", "out", "--reference", "clean", "--report", "r.json")
    assert done.code == 0
    assert "1 of 5 have no partner in the reference" in done.err
    found = rows(place / "r.json")
    assert {name: "psnr" in row for name, row in found.items()} == {
        "0.png": True, "1.png": True, "2.png": False, "sub/a.png": True, "sub/alone.png": False,
    }  # fmt: skip
    assert "2.jpg and 2.webp" in found["2.png"]["notes"]
    again = rng("in", "out", "--reference", "clean", "--report", "again.json")
    assert "1 of 5 have no partner in the reference" in again.err
    psnr = [{name: row.get("psnr") for name, row in rows(place / name).items()} for name in ("r.json", "again.json")]
    assert psnr[0] == psnr[1]


def test_the_inputs_own_score_and_the_gain_are_told(place, rng, monkeypatch):
    (place / "clean").mkdir()
    for i in range(3):
        Image.fromarray(np.clip(noise(i) * 0.9 + 10, 0, 255).astype(np.uint8)).save(f"clean/{i}.png")
    done = rng("in", "out", "--reference", "clean", "--report", "r.json")
    assert "gain" in done.err
    for name, row in rows(place / "r.json").items():
        x, y = (np.asarray(Image.open(place / folder / name), float) / 255 for folder in ("in", "clean"))
        assert row["input_psnr"] == pytest.approx(-10 * np.log10(np.mean((x - y) ** 2)), abs=1e-3)
        # This model gives back what it gets.
        assert row["psnr"] == pytest.approx(row["input_psnr"], abs=0.05)
    monkeypatch.setattr("rngcli.metrics.suite.Judge.score", lambda *a: pytest.fail("measured again"))
    rng("in", "out", "--reference", "clean", "--report", "again.json")
    assert [row["input_psnr"] for row in rows(place / "again.json").values()] == [
        row["input_psnr"] for row in rows(place / "r.json").values()
    ]


def test_a_raw_file_finds_the_png_of_its_folder(tmp_path):
    (tmp_path / "tour").mkdir()
    (tmp_path / "tour/DSC_1.png").touch()
    (tmp_path / "tour/DSC_1.xmp").touch()
    (tmp_path / "DSC_1.jpg").touch()
    reference = Reference(tmp_path)
    task = Task("tour/dsc_1.NEF", Path("tour/dsc_1.NEF"), Path("out"))
    assert reference.partner(task) == tmp_path / "tour/DSC_1.png"
    assert reference.state(task)[1] == 0, "its size"
    assert reference.partner(replace(task, name="tour/dsc_2.NEF")) is None
    assert reference.partner(replace(task, name="else/dsc_1.NEF")) is None
    (tmp_path / "tour/DSC_1.tif").touch()
    assert Reference(tmp_path).partner(replace(task, name="tour/DSC_1.tif")) == tmp_path / "tour/DSC_1.tif"
    with pytest.raises(PictureError, match="leave one"):
        reference.partner(task)
    assert reference.state(task) is None
