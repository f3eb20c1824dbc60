"""Batches as an engineer runs them: resumed with other settings, listed, piped, named, and on disks that refuse."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from rngcli import images
from rngcli.cli import main
from rngcli.models.bundle import save
from tests.tiny import identity_bundle, random_bundle


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save(random_bundle(), path)
    return path


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "in" / "trip").mkdir(parents=True)
    for i, name in enumerate(("0.png", "1.jpg", "trip/2.png")):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / "in" / name)
    return tmp_path / "in"


@pytest.fixture
def rng(model, monkeypatch, capfdbinary):
    """Run `rng denoise` in this process, as its main program does."""

    def run(*arguments):
        given = ["rng", "denoise", *map(str, arguments), "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", given + ["--model", str(model)] * ("--model" not in given))
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capfdbinary.readouterr()
        return SimpleNamespace(code=end.value.code, out=out, err=err.decode())

    return run


def statuses(done):
    """File -> status, of a run with --json."""
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert set(rows[-1]) == {"summary"}
    return {row["file"]: row["status"] for row in rows[:-1]}


def names(folder):
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(file) for file in files if file.parts[0] != ".rng")


def test_only_what_other_settings_or_other_sources_change_is_done_again(photos, rng, tmp_path):
    out = tmp_path / "out"
    assert set(statuses(rng(photos, out, "--json")).values()) == {"done"}
    assert set(statuses(rng(photos, out, "--json", "--reference", photos)).values()) == {"skipped"}
    assert set(statuses(rng(photos, out, "--json", "--seed", 1)).values()) == {"done"}
    assert set(statuses(rng(photos, out, "--json", "--detail", 0)).values()) == {"done"}
    assert set(statuses(rng(photos, out, "--json", "--detail", 0, "--seed", 5)).values()) == {"skipped"}, "no detail"
    Image.new("RGB", (20, 20)).save(photos / "0.png")
    Image.new("RGB", (20, 20)).save(photos / "new.png")
    again = statuses(rng(photos, out, "--json", "--detail", 0))
    assert again == {"0.png": "done", "new.png": "done", "1.jpg": "skipped", "trip/2.png": "skipped"}


def test_a_file_that_rng_did_not_make_is_replaced_only_when_asked(photos, rng, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "0.png").write_text("somebody's own")
    done = rng(photos, out, "--json")
    assert done.code == 1
    assert statuses(done) == {"0.png": "failed", "1.jpg": "done", "trip/2.png": "done"}
    assert "0.png exists and was not made by rng; use --overwrite" in done.err
    assert (out / "0.png").read_text() == "somebody's own"
    assert rng(photos, out, "--overwrite").code == 0
    assert Image.open(out / "0.png").size == (50, 40)
    picture = tmp_path / "mine.png"
    picture.write_text("somebody's own")
    assert rng(photos / "0.png", picture).code == 1
    assert picture.read_text() == "somebody's own"


def test_one_file_to_one_file_is_resumed_too(photos, rng, tmp_path):
    assert "1 done, 0 done before" in rng(photos / "0.png", tmp_path / "clean.png").err
    assert "0 done, 1 done before" in rng(photos / "0.png", tmp_path / "clean.png").err


def test_names_formats_and_a_log(photos, rng, tmp_path):
    (photos / "bad.png").write_text("no picture")
    log = tmp_path / "log.txt"
    done = rng(photos, tmp_path / "out", "--suffix", "-clean", "--format", "webp", "--quality", 60, "--log", log, "-q")
    assert done.code == 1
    assert names(tmp_path / "out") == ["0-clean.webp", "1-clean.webp", "trip/2-clean.webp"]
    lines = log.read_text().splitlines()
    assert any("trip/2.png" in line for line in lines), "the log has what --quiet leaves out"
    assert lines[-1] == done.err.strip() != ""
    assert lines[-1].startswith("failed: bad.png: ")


def test_several_inputs_a_list_and_a_glob(photos, rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert rng("in/trip", "in/1.jpg", "in/*.png", "out").code == 0
    assert names(tmp_path / "out") == ["0.png", "1.jpg", "2.png"]
    (tmp_path / "list").write_bytes(b"in/trip/2.png\0gone.png\0")
    done = rng("--files-from", "list", "-0", "--out", "listed", "--json")
    assert done.code == 1
    assert statuses(done) == {"in/trip/2.png": "done", "gone.png": "failed"}
    assert names(tmp_path / "listed") == ["in/trip/2.png"]
    assert rng("--files-from", "list", "listed").code == 2, "NULs without -0"


def test_names_in_any_bytes_and_of_any_length_are_one_line_each(photos, rng, tmp_path):
    odd = os.fsencode(photos) + b"/caf\xe9 \n\x1b[31m.png"
    long = "n" * 246 + ".png"
    try:
        for name in (odd, photos / long):
            Image.new("RGB", (20, 20)).save(name := os.fsdecode(name))
    except OSError:
        pytest.skip("this disk takes no such names")
    done = rng(photos, tmp_path / "out", "--json", "--suffix", "-clean")
    assert done.code == 1
    found = statuses(done)
    assert found.pop(long) == "failed"
    assert "caf\\xe9 \n\x1b[31m.png" in found
    assert set(found.values()) == {"done"}
    assert "\x1b" not in done.err
    assert "caf\\xe9 \\n\\x1b[31m.png" in done.err
    assert len([line for line in done.err.splitlines() if line.startswith("failed: ")]) == 1


def test_one_picture_through_a_pipe(photos, model, tmp_path):
    command = [sys.executable, "-m", "rngcli", "denoise", "--model", str(model), "--detail", "0"]
    picture = (photos / "1.jpg").read_bytes()
    done = subprocess.run([*command, "-", "-"], input=picture, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    (tmp_path / "piped.jpg").write_bytes(done.stdout)
    subprocess.run([*command, str(photos / "1.jpg"), str(tmp_path / "named.jpg")], check=True, capture_output=True)
    assert (tmp_path / "named.jpg").read_bytes() == done.stdout
    bad = subprocess.run([*command, "-", "-"], input=b"no picture", capture_output=True, check=False)
    assert (bad.returncode, bad.stdout) == (1, b"")
    assert b"Traceback" not in bad.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["IN"], 2, "missing"),
        (["--out", "OUT"], 2, "missing"),
        (["IN", "OUT", "--format", "bmp"], 2, "unknown --format"),
        (["IN", "OUT", "--suffix", "a/b"], 2, "slash"),
        (["IN", "OUT", "-0"], 2, "--files-from"),
        (["-", "-", "--json"], 2, "stdout is for the picture"),
        (["-", "IN/0.png", "OUT"], 2, "one picture"),
        (["--files-from", "nowhere", "OUT"], 4, "cannot be read"),
        (["IN/*.gif", "OUT"], 4, "does not exist"),
        (["IN", "/proc/out"], 5, "takes no files"),
        (["IN", "OUT", "--log", "nowhere/log"], 5, "log"),
        (["IN", "OUT", "--report", "nowhere/r.csv"], 5, "report"),
        (["IN", "OUT", "--step-map", "/proc/maps"], 5, "takes no files"),
    ],
)
def test_each_mistake_has_its_exit_code(photos, rng, tmp_path, arguments, code, says):
    if any(word.startswith("/proc") for word in arguments) and not os.path.isdir("/proc"):
        pytest.skip("no /proc here")
    places = {"IN": str(photos), "OUT": str(tmp_path / "out")}
    done = rng(*[places.get(word, word.replace("IN/", f"{photos}/")) for word in arguments])
    assert done.code == code, done.err
    assert says in done.err
    assert not (tmp_path / "out").exists()


def test_fail_fast(photos, rng, tmp_path):
    (photos / "!.png").write_text("no picture")
    done = rng(photos, tmp_path / "out", "--fail-fast", "--json")
    assert done.code == 1
    assert statuses(done) == {"!.png": "failed"}
    assert "0 done, 0 done before, 1 failed, 3 not begun" in done.err
    assert "failed: !.png: " in done.err.splitlines()[-1]
    assert json.loads(done.out.splitlines()[-1])["summary"]["not_begun"] == 3


def test_step_maps_have_names_of_their_own_and_are_made_up_for(photos, rng, tmp_path):
    Image.open(photos / "0.png").save(photos / "0.jpg")
    maps = tmp_path / "maps"
    maps.mkdir()
    part = maps / f"{images.PART_PREFIX}0{images.PART_SUFFIX}"
    part.touch()
    os.utime(part, (0, 0))
    done = (photos, tmp_path / "out", "--step-map", maps, "--json")
    assert set(statuses(rng(*done)).values()) == {"done"}
    assert names(maps) == ["0.jpg.steps.png", "0.png.steps.png", "1.jpg.steps.png", "trip/2.png.steps.png"]
    (maps / "0.png.steps.png").unlink()
    too_long = f"{'n' * 245}.png"
    Image.open(photos / "0.png").save(photos / too_long)
    for _ in range(2):
        again = rng(*done)
        assert [name for name, status in statuses(again).items() if status == "done"][-1] == too_long
        assert "not mapped" in again.err
    assert (maps / "0.png.steps.png").exists()
    (photos / "0.png.steps.png").write_bytes((photos / "0.png").read_bytes())
    assert rng(photos, tmp_path / "out", "--step-map", tmp_path / "out").code == 2


def test_a_score_that_cannot_be_had_is_told_and_not_invented(photos, rng, tmp_path):
    clean = tmp_path / "clean"
    clean.mkdir()
    (clean / "1.jpg").write_bytes((photos / "1.jpg").read_bytes())
    Image.new("RGB", (20, 20)).save(clean / "0.png")
    done = rng(photos, tmp_path / "out", "--reference", clean, "--json", "--log", tmp_path / "log")
    rows = {row["file"]: row for row in map(json.loads, done.out.splitlines()[:-1])}
    assert done.code == 0
    assert rows["1.jpg"]["psnr"] > 5
    assert rows["0.png"]["psnr"] is rows["0.png"]["ssim"] is None
    assert rows["0.png"]["notes"].count("50×40 px cannot be compared with 20×20 px") == 1
    assert "psnr" not in rows["trip/2.png"]
    assert "psnr n/a" in (tmp_path / "log").read_text()


def test_too_large_pictures_are_refused_unread(photos, rng, tmp_path):
    done = rng(photos, tmp_path / "out", "--max-pixels", 100)
    assert done.code == 1
    assert done.err.count("more than the limit") == 3


@pytest.fixture
def disk(tmp_path):
    """Mount a disk of its own below OUT, with these options."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    out = tmp_path / "out"
    out.mkdir()
    mounted = []

    def mount(*options):
        asked = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(out)]
        if subprocess.run(asked, capture_output=True, check=False).returncode:
            pytest.skip("no disk can be mounted here")
        mounted.append(out)
        return out

    yield mount
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_disk_that_fills_up(rng, tmp_path, disk):
    source, out = tmp_path / "in", disk("size=300k")
    source.mkdir()
    for i in range(6):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (200, 200, 3), np.uint8)).save(source / f"{i}.png")
    before = contents(source)
    done = rng(source, out, "--detail", 0, "--json")
    assert done.code == 5
    assert "No space left" in done.err
    written = [file for file, status in statuses(done).items() if status == "done"]
    assert written
    assert names(out) == written, "nothing half-written"
    for name in written:
        Image.open(out / name).load()
    assert before == contents(source)


def test_a_disk_without_room_for_even_the_manifest(photos, rng, disk):
    out = disk("nr_inodes=2")
    before = contents(photos)
    done = rng(photos, out, "--detail", 0)
    assert done.code == 5
    assert "No space left" in done.err
    assert before == contents(photos)
    assert not names(out)


def test_a_disk_that_takes_no_files(photos, rng, disk):
    before = contents(photos)
    done = rng(photos, disk("ro"), "--model", "none is needed to know")
    assert done.code == 5
    assert "takes no files (Read-only file system)" in done.err
    assert len(done.err.splitlines()) == 1, "before any work"
    assert before == contents(photos)


def test_a_model_that_cannot_do_what_is_asked_leaves_no_trace(photos, rng, tmp_path):
    save(identity_bundle(), tmp_path / "identity.safetensors")
    done = rng(photos, tmp_path / "out", "--model", tmp_path / "identity.safetensors")
    assert done.code == 3, "it has no generator"
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_stderr_is_for_people_not_for_what_pillow_warns_of(rng, tmp_path, recwarn):
    truncated = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0"
    path = tmp_path / "a.avif"
    Image.new("RGB", (20, 20)).save(path, exif=truncated)
    with pytest.warns(UserWarning, match="Corrupt EXIF"):
        images.read(path)
    recwarn.clear()
    done = rng(path, tmp_path / "b.avif", "--detail", "0")
    assert done.code == 0
    assert not [warning for warning in recwarn if "PIL" in warning.filename]
