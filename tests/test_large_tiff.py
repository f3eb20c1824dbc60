"""A large TIFF by rows: the same file, to the sample and the tag, as one that is whole in memory."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch

from rngcli import images
from rngcli.batch import inputs, worker
from rngcli.batch.file_options import FileOptions
from rngcli.batch.manifest import Manifest, State
from rngcli.batch.manifest_writer import journal_of
from rngcli.errors import EnvironmentFault, PictureError
from rngcli.images import BandedTiff, ifd
from rngcli.inference.pipeline import Pipeline
from rngcli.methods.contract import Request
from tests.test_images_metadata import XMP, exif_block
from tests.tiny import identity_bundle, random_bundle

HEIGHT, WIDTH = 1400, 700
FILES, GENERATED = FileOptions(), Request()


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """Every TIFF is large."""
    monkeypatch.setattr(worker, "LARGE", 1)


def stored(path, kind=np.uint8, channels=3, **more):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    values = (np.stack([np.sin(x / 90 + k) * np.cos(y / 70) for k in range(channels)], -1) + 1) / 2
    noisy = (values + np.random.default_rng(0).normal(0, 0.04, values.shape)).clip(0, 1)
    array = (noisy * np.iinfo(kind).max).astype(kind)
    photometric = "rgb" if channels == 3 else "minisblack"
    tifffile.imwrite(path, array if channels == 3 else array[..., 0], photometric=photometric, metadata=None, **more)
    return path


def run(source, out, bundle, files=FILES, request=GENERATED):
    tasks = inputs.plan([source], out).tasks
    (outcome,) = worker.run(tasks, Pipeline(bundle, "cpu", "fp32", 2), request, files)
    return outcome


@pytest.mark.filterwarnings("error:The given NumPy array")
@pytest.mark.parametrize(
    ("kind", "channels", "more"),
    [(np.uint8, 3, {"compression": "zlib"}), (np.uint16, 3, {"byteorder": ">"}), (np.uint16, 1, {"tile": (64, 64)}),
     (np.uint8, 1, {"compression": "zlib", "byteorder": ">", "predictor": True})],
)  # fmt: skip
def test_rows_give_the_file_that_the_whole_gives(tmp_path, monkeypatch, kind, channels, more):
    source = stored(tmp_path / "a.tif", kind, channels, description="a scan", resolution=(300, 300), **more)
    read = []
    original = images.read_stored
    monkeypatch.setattr(images, "read_stored", lambda *given: read.append(original(*given)) or read[-1])
    by_rows = run(source, tmp_path / "rows", random_bundle())
    assert by_rows.error is None, by_rows.error
    assert read[0] is not None
    assert read[0].samples.dtype == kind
    monkeypatch.setattr(worker, "LARGE", None)
    whole = run(source, tmp_path / "whole", random_bundle())
    for outcome in (by_rows, whole):
        assert outcome.steps > 0
    assert replace(by_rows, task=whole.task, seconds=0) == replace(whole, seconds=0)
    one, other = ((tmp_path / name / "a.tif") for name in ("rows", "whole"))
    assert np.array_equal(tifffile.imread(one), tifffile.imread(other))
    trees = [ifd.parse(path.read_bytes()) for path in (one, other)]
    layout = (0x111, 0x116, 0x117)
    tags = [{tag: tree.numbers(tag) or tree.text(tag) for tag in tree.fields if tag not in layout} for tree in trees]
    assert tags[0] == tags[1]
    assert images.decode(one.read_bytes()).metadata == images.decode(other.read_bytes()).metadata


def test_exif_and_xmp_go_along(tmp_path):
    metadata = images.Metadata(exif_block(6), XMP)
    picture = images.Image(
        np.random.default_rng(0).random((HEIGHT, WIDTH, 3), np.float32), "tiff", 16, metadata=metadata
    )
    images.write(tmp_path / "a.tif", picture)
    assert run(tmp_path / "a.tif", tmp_path / "out", identity_bundle(), request=Request(detail=0)).error is None
    written = images.read(tmp_path / "out" / "a.tif")
    assert written.metadata.orientation == 6
    assert ifd.parse(written.metadata.exif).children.keys() >= {ifd.EXIF_POINTER, ifd.GPS_POINTER}
    assert b"Wald" in written.metadata.xmp
    assert np.abs(written.pixels - images.read(tmp_path / "a.tif").pixels).max() < 1 / 65535


def test_the_manifest_knows_it_and_a_file_that_turned_up_stays(tmp_path):
    source = stored(tmp_path / "a.tif")
    with journal_of(Manifest(tmp_path / "out"), "s") as journal:
        outcome = run(source, tmp_path / "out", identity_bundle(), FileOptions(journal=journal), Request(detail=0))
    assert Manifest(tmp_path / "out").state(source, outcome.task.target, lambda: "s") is State.DONE
    outcome.task.target.write_text("somebody's own")
    fresh = replace(outcome.task, fresh=True)
    (again,) = worker.run([fresh], Pipeline(identity_bundle(), "cpu", "fp32", 2), Request(detail=0), FileOptions())
    assert "turned up" in str(again.error)
    assert outcome.task.target.read_text() == "somebody's own"
    assert len(list((tmp_path / "out").iterdir())) == 2, "and nothing is left half written"


class Hungry(Pipeline):
    """Runs out of memory once, when rows have been written already."""

    left = 1

    def finish(self, tiles, *more):
        if tiles[0].index > 1 and Hungry.left and self.capacity > 1:
            Hungry.left = 0
            raise torch.OutOfMemoryError("out of memory")
        return super().finish(tiles, *more)


def test_a_picture_that_is_begun_anew_is_written_anew(tmp_path):
    source = stored(tmp_path / "a.tif")
    tasks = inputs.plan([source], tmp_path / "out").tasks
    (outcome,) = worker.run(tasks, Hungry(identity_bundle(), "cpu", "fp32", 2), Request(detail=0), FileOptions())
    assert not Hungry.left
    assert outcome.error is None
    assert np.array_equal(tifffile.imread(tasks[0].target), tifffile.imread(source))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.tif"]


def test_a_disk_that_refuses_rows_fails_the_picture_and_leaves_nothing(tmp_path, monkeypatch):
    def full(tiff, place, rows):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(BandedTiff, "__setitem__", full)
    with pytest.raises(EnvironmentFault, match="No space"):
        run(stored(tmp_path / "a.tif"), tmp_path / "out", identity_bundle(), request=Request(detail=0))
    assert not list((tmp_path / "out").iterdir())


def test_what_needs_the_whole_picture_is_read_whole(tmp_path):
    least = 1
    assert images.read_stored(stored(tmp_path / "a.tif"), images.ReadOptions(), least)
    assert images.read_stored(tmp_path / "a.tif", images.ReadOptions(), HEIGHT * WIDTH + 1) is None
    for name, array, more in (
        ("alpha", np.zeros((9, 9, 4), np.uint8), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        ("floats", np.zeros((9, 9, 3), np.float32), {"photometric": "rgb"}),
        ("planes", np.zeros((3, 9, 9), np.uint8), {"photometric": "rgb", "planarconfig": "separate"}),
        ("inverted", np.zeros((9, 9), np.uint8), {"photometric": "miniswhite"}),
    ):
        tifffile.imwrite(tmp_path / f"{name}.tif", array, metadata=None, **more)
        assert images.read_stored(tmp_path / f"{name}.tif", images.ReadOptions(), least) is None, name
    with pytest.raises(PictureError, match="max-pixels"):
        images.read_stored(tmp_path / "a.tif", images.ReadOptions(max_pixels=100), least)
