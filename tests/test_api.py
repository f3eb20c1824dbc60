"""rng from Python: what the command gives, for arrays of any kind; or a named error."""

import inspect
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Pillow

import rngcli
from rngcli import api, images
from rngcli.cli import main
from rngcli.inference.pipeline import Pipeline
from rngcli.models import bundle as checkpoint
from tests.dng_files import bayer_dng, light
from tests.tiny import random_bundle

ROOT = Path(__file__).resolve().parents[1]
SHAPES = [(40, 50), (40, 50, 1), (40, 50, 3), (40, 50, 4)]
TYPES = [np.uint8, np.uint16, np.float32, np.float64]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "rng-s.safetensors"
    checkpoint.save(random_bundle(), path)
    return path


@pytest.fixture(scope="module")
def denoiser(model):
    return rngcli.Denoiser(model, device="cpu")


@pytest.fixture
def rng(model, monkeypatch):
    """Run `rng denoise` in this process, as its main program does."""

    def run(*arguments):
        given = ["rng", "denoise", *map(str, arguments), "--device", "cpu", "--model", str(model), "--quiet"]
        monkeypatch.setattr(sys, "argv", given)
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code

    return run


def samples(dtype, shape, seed=0):
    found = np.random.default_rng(seed).random(shape)
    return (found * np.iinfo(dtype).max).astype(dtype) if np.dtype(dtype).kind == "u" else found.astype(dtype)


def as_file(array, path):
    """The same samples as a TIFF without a profile."""
    channels = array.shape[2] if array.ndim == 3 else 1
    held = array.reshape(array.shape[:2]) if channels == 1 else array
    held = held.astype(np.float32) if held.dtype == np.float64 else held
    more = {"photometric": "minisblack"} if channels == 1 else {"photometric": "rgb"}
    more |= {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    tifffile.imwrite(path, held, metadata=None, **more)
    return path


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", TYPES)
def test_the_array_comes_back_in_its_type_and_shape_as_the_command_would_write_it(
    denoiser, rng, tmp_path, dtype, shape
):
    given = samples(dtype, shape)
    kept = given.copy()
    clean = denoiser(given, detail=0.7, strength=0.9, seed=3)
    assert (clean.dtype, clean.shape) == (given.dtype, given.shape)
    assert np.array_equal(given, kept), "the caller's array is not written to"
    assert not np.array_equal(clean, given)
    file = as_file(given, tmp_path / "a.tif")
    assert rng(file, tmp_path / "b.tif", "--detail", 0.7, "--strength", 0.9, "--seed", 3) == 0
    written, of_file = tifffile.imread(tmp_path / "b.tif"), denoiser(file, detail=0.7, strength=0.9, seed=3)
    assert np.array_equal(of_file, written)
    assert np.array_equal(clean.reshape(written.shape).astype(written.dtype), written)
    if shape[2:] == (4,):
        assert np.array_equal(clean[..., 3], given[..., 3])


@pytest.mark.parametrize("high", [4.0, 300.0, 70_000.0])
def test_floats_beyond_one_are_what_they_are_to_the_command(denoiser, rng, tmp_path, high):
    given = samples(np.float32, (40, 50, 3)) ** 3 * np.float32(high)
    assert rng(as_file(given, tmp_path / "a.tif"), tmp_path / "b.tif") == 0
    assert np.array_equal(tifffile.imread(tmp_path / "b.tif"), denoiser(given))


def test_views_and_other_byte_orders_are_arrays_too(denoiser):
    given = samples(np.uint16, (80, 100, 3))
    plain = denoiser(given[::-2, ::2])
    assert np.array_equal(denoiser(np.ascontiguousarray(given[::-2, ::2])), plain)
    swapped = denoiser(given[::-2, ::2].astype(">u2"))
    assert swapped.dtype == np.dtype(">u2")
    assert np.array_equal(swapped, plain)


def test_a_file_comes_back_with_the_samples_of_the_commands_output(model, rng, tmp_path):
    Pillow.fromarray(samples(np.uint8, (30, 40, 3))).save(tmp_path / "a.jpg", exif=exif_turned())
    assert rng(tmp_path / "a.jpg", tmp_path / "b.png") == 0
    assert images.read(tmp_path / "b.png").pixels.shape == (40, 30, 3), "a PNG is turned, since its tag may be unseen"
    found = rngcli.denoise(str(tmp_path / "a.jpg"), model=model, device="cpu")
    assert np.array_equal(np.rot90(found, -1), np.array(Pillow.open(tmp_path / "b.png")))


def exif_turned():
    exif = Pillow.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize(
    ("array", "error", "says"),
    [
        (np.full((8, 8), np.nan), rngcli.PictureError, "not numbers"),
        (np.full((8, 8, 3), np.inf, np.float32), rngcli.PictureError, "not numbers"),
        (np.full((8, 8, 3), 1e300), rngcli.PictureError, "not numbers"),
        (np.zeros((8, 8, 3), np.int64), rngcli.UsageError, "an array of int64 is no picture; give uint8"),
        (np.zeros((8, 8, 3), np.float16), rngcli.UsageError, "float16"),
        (np.zeros((8, 8, 3), bool), rngcli.UsageError, "bool"),
        (np.zeros((8, 8, 3), complex), rngcli.UsageError, "complex"),
        (np.array([["a"]]), rngcli.UsageError, "is no picture"),
        (np.zeros(8, np.uint8), rngcli.UsageError, r"shape \(8,\)"),
        (np.zeros((8, 8, 2), np.uint8), rngcli.UsageError, r"shape \(8, 8, 2\)"),
        (np.zeros((3, 8, 8, 3), np.uint8), rngcli.UsageError, r"shape \(3, 8, 8, 3\)"),
        (np.zeros((0, 8, 3), np.uint8), rngcli.UsageError, r"shape \(0, 8, 3\)"),
        ("nowhere.jpg", rngcli.PictureError, "cannot be read"),
        (ROOT, rngcli.PictureError, "no regular file"),
    ],
)
def test_what_is_no_picture_has_a_named_error(denoiser, array, error, says):
    with pytest.raises(error, match=says):
        denoiser(array)
    assert issubclass(error, rngcli.RngError)


@pytest.mark.parametrize(
    "setting",
    [{"detail": 1.1}, {"detail": float("nan")}, {"strength": -1}, {"luma": 2}, {"chroma": 2}, {"max_steps": -1},
     {"steps": 10**6}, {"sigma": 256}, {"sigma": 5}],
)  # fmt: skip
def test_a_setting_out_of_its_range_or_not_the_methods_is_refused(denoiser, setting):
    with pytest.raises(rngcli.UsageError, match=next(iter(setting))):
        denoiser(samples(np.uint8, (8, 8)), **setting)
    with pytest.raises(TypeError):
        denoiser(samples(np.uint8, (8, 8)), strenght=1)


def test_settings_reach_the_engine(denoiser):
    given = samples(np.uint8, (40, 50, 3))
    plain = denoiser(given)
    assert np.array_equal(denoiser(given, strength=0), given)
    for changed in ({"detail": 0}, {"seed": 1}, {"steps": 1}, {"max_steps": 1}, {"luma": 0.5}, {"chroma": 0.5}):
        assert not np.array_equal(denoiser(given, **changed), plain), changed


def test_other_models_devices_and_methods(model):
    with pytest.raises(rngcli.ModelError, match="no model is named 'nobody'"):
        rngcli.denoise(samples(np.uint8, (8, 8)), model="nobody")
    with pytest.raises(rngcli.EnvironmentFault, match="no CUDA device 63"):
        rngcli.denoise(samples(np.uint8, (8, 8)), model=model, device="cuda:63")
    with pytest.raises(rngcli.UsageError, match="holds no method 'magic'"):
        rngcli.Denoiser(model, method="magic")
    given = samples(np.uint8, (40, 50, 3))
    other = rngcli.denoise(given, model=model, device="cpu", method="diffpir", sigma=25.0, steps=2)
    assert not np.array_equal(other, rngcli.denoise(given, model=model, device="cpu"))


def test_a_hundred_arrays_take_one_load(model, monkeypatch):
    loads = []
    monkeypatch.setattr(api, "load", lambda name: loads.append(name) or checkpoint.load(name))
    arrays = [samples(np.uint8, (16, 16 + i % 7, 3), seed=i) for i in range(100)]
    denoiser = rngcli.Denoiser(model, device="cpu", batch_size=4)
    together = denoiser.many(iter(arrays), detail=0)
    assert len(loads) == 1
    assert all(np.array_equal(denoiser(arrays[i], detail=0), together[i]) for i in range(0, 100, 9))
    api._kept.cache_clear()
    for array, clean in list(zip(arrays, together, strict=True))[:20]:
        one = rngcli.denoise(array, detail=0, model=model, device="cpu")
        assert np.abs(one.astype(int) - clean).max() <= 1, "in batches of another size, to a rounding"
    assert len(loads) == 2, "the function keeps what it has loaded, too"


def test_another_file_of_the_same_name_is_loaded_anew(model, tmp_path):
    given, path = samples(np.uint8, (40, 50, 3)), tmp_path / "m.safetensors"
    checkpoint.save(random_bundle(1), path)
    first = rngcli.denoise(given, model=path, device="cpu")
    path.unlink()
    checkpoint.save(random_bundle(2), path)
    assert not np.array_equal(rngcli.denoise(given, model=path, device="cpu"), first)


def test_threads_may_share_a_denoiser(denoiser):
    arrays = [samples(np.uint8, (300, 30, 3), seed=i) for i in range(6)]
    alone, found = [denoiser(array) for array in arrays], {}
    threads = [threading.Thread(target=lambda i=i: found.update({i: denoiser(arrays[i])})) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[i], alone[i]) for i in range(6))


def test_after_memory_has_run_out_it_still_serves(model, monkeypatch):
    denoiser, given = rngcli.Denoiser(model, device="cpu", batch_size=2), samples(np.uint8, (40, 50, 3))
    start, failed = Pipeline.start, []

    def failing(self, *arguments):
        if not failed:
            failed.append(True)
            raise torch.OutOfMemoryError("no memory")
        return start(self, *arguments)

    plain = denoiser(given)
    monkeypatch.setattr(Pipeline, "start", failing)
    assert np.abs(denoiser(given).astype(int) - plain).max() <= 1
    assert failed
    assert np.abs(denoiser(given).astype(int) - plain).max() <= 1


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "in" / "trip").mkdir(parents=True)
    for i, name in enumerate(("0.png", "trip/1.png")):
        Pillow.fromarray(samples(np.uint8, (40, 50, 3), seed=i)).save(tmp_path / "in" / name)
    (tmp_path / "in" / "bad.png").write_text("no picture")
    return tmp_path / "in"


def test_a_folder_is_done_as_the_command_does_it(model, rng, photos, tmp_path):
    about = {"model": model, "device": "cpu"}
    outcomes = {o.task.name: o for o in rngcli.denoise_folder(photos, tmp_path / "out", detail=0.5, **about)}
    assert set(outcomes) == {"0.png", "trip/1.png", "bad.png"}
    assert "no picture" in str(outcomes["bad.png"].error)
    assert outcomes["0.png"].sigma > 0
    assert rng(photos, tmp_path / "theirs", "--detail", 0.5) == 1
    for name in ("0.png", "trip/1.png"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
    again = {o.task.name: o for o in rngcli.denoise_folder([str(photos)], tmp_path / "out", detail=0.5, **about)}
    assert {name for name, outcome in again.items() if outcome.before} == {"0.png", "trip/1.png"}
    assert again["0.png"].sigma == outcomes["0.png"].sigma
    assert rng(photos, tmp_path / "out", "--detail", 0.5) == 1, "the command, too, finds it done"


def test_raw_files_become_dng(model, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.dng").write_bytes(bayer_dng(light()))
    for out in (tmp_path / "out", tmp_path / "one.dng"):
        settings = {} if out.suffix else {"format": "dng"}
        source = tmp_path / "in" / "a.dng"
        (outcome,) = rngcli.denoise_folder(source, out, detail=0, model=model, device="cpu", **settings)
        assert outcome.error is None
        assert images.sniff(outcome.task.target.read_bytes()) == "raw"


def test_a_folder_is_refused_at_once(model, photos, tmp_path):
    with pytest.raises(rngcli.NoInputError):
        rngcli.denoise_folder(tmp_path / "nowhere", tmp_path / "out", model=model)
    with pytest.raises(rngcli.UsageError, match="unknown format"):
        rngcli.denoise_folder(photos, tmp_path / "out", model=model, format="bmp")
    with pytest.raises(rngcli.UsageError, match="the same"):
        rngcli.denoise_folder(photos, photos, model=model)
    with pytest.raises(rngcli.UsageError, match="quality"):
        rngcli.denoise_folder(photos, tmp_path / "out", model=model, quality=101)
    with pytest.raises(rngcli.ModelError):
        rngcli.denoise_folder(photos, tmp_path / "out", model="nobody")
    assert not (tmp_path / "out").exists()


def test_a_folder_left_half_way_is_whole(model, photos, tmp_path):
    outcomes = rngcli.denoise_folder(photos, tmp_path / "out", model=model, device="cpu", format="jpg", suffix="-c")
    next(outcomes)
    outcomes.close()
    assert not list((tmp_path / "out").rglob(".rng-*"))
    assert {path.name for path in (tmp_path / "out").rglob("*.*g")} <= {"0-c.jpg", "1-c.jpg", ".rng"}


def test_the_import_is_light_and_knows_its_names():
    program = """
import sys, rngcli
assert "numpy" not in sys.modules and "torch" not in sys.modules
assert set(rngcli.__all__) <= set(dir(rngcli))
assert not hasattr(rngcli, "nothing")
assert rngcli.denoise.__module__ == "rngcli.api" and "torch" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_what_type_checkers_see_are_the_names_that_there_are():
    stub = (ROOT / "rngcli" / "__init__.pyi").read_text()
    names = {line.split(" as ")[1] for line in stub.splitlines() if " as " in line}
    assert names == set(rngcli.__all__)
    assert (ROOT / "rngcli" / "py.typed").exists()


def test_settings_are_the_keywords_of_denoise():
    named = set(inspect.signature(rngcli.denoise).parameters) - {"picture", "model", "device", "precision", "method"}
    assert named == set(rngcli.Settings.__annotations__) == set(inspect.signature(api._asked).parameters)
