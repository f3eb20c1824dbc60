"""TIFF of several pages: every page denoised, its tags kept, one file in every count, all of it or nothing."""

import json
import struct
from contextlib import suppress
from fractions import Fraction

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from typer.testing import CliRunner

from rngcli import images
from rngcli.batch import inputs
from rngcli.batch.document_writer import DocumentWriter
from rngcli.batch.file_options import FileOptions, Watch
from rngcli.batch.manifest import Manifest, State
from rngcli.batch.manifest_writer import journal_of
from rngcli.batch.worker import run
from rngcli.cli.commands import app
from rngcli.errors import PictureError
from rngcli.images import PageAppender, TiffPages, ifd
from rngcli.inference.pipeline import Pipeline
from rngcli.methods.contract import Request
from rngcli.models.bundle import save
from tests.tiny import identity_bundle, random_bundle

PLAIN = Request(detail=0)
SHAPES = [((40, 50, 3), np.uint8), ((1100, 20), np.uint16), ((31, 33, 4), np.uint8), ((25, 35), np.float32)]


def page(k):
    shape, kind = SHAPES[k % len(SHAPES)]
    values = np.random.default_rng(k).random(shape)
    return values.astype(kind) if kind is np.float32 else (values * np.iinfo(kind).max).astype(kind)


def scan(path, count=4, order="<", big=False, thumbnails=False):
    """A file of pages that differ in size, depth and channels, each with a name, a density and a private rational."""
    with tifffile.TiffWriter(path, byteorder=order, bigtiff=big) as writer:
        for k in range(count):
            array = page(k)
            writer.write(
                array, photometric="minisblack" if array.ndim == 2 else "rgb", compression="zlib", metadata=None,
                extrasamples=["unassalpha"] if array.shape[2:] == (4,) else None, software=False, subfiletype=2,
                resolution=(300 + k, 300), resolutionunit=2, description=f"sheet {k}",
                extratags=[(285, 2, None, f"page {k}", True), (297, 3, 2, (k, count), True),
                           (50_001, 5, 2, (k + 1, 3, 5, 7), True)],
            )  # fmt: skip
            if thumbnails:
                writer.write(array[::2, ::2], photometric="rgb" if array.ndim == 3 else "minisblack", subfiletype=1)
    return path


def denoised(source, out, **files):
    tasks = inputs.plan([source], out).tasks
    return list(run(tasks, Pipeline(identity_bundle(), "cpu", "fp32", 2), PLAIN, FileOptions(**files)))


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
def test_every_page_comes_out_with_its_samples_and_its_tags(tmp_path, order, big):
    (outcome,) = denoised(scan(tmp_path / "scan.tif", 4, order, big), tmp_path / "out")
    assert outcome.error is None, outcome.error
    assert outcome.pages == 4
    assert outcome.megapixels == pytest.approx(sum(page(k).shape[0] * page(k).shape[1] for k in range(4)) / 1e6)
    with tifffile.TiffFile(tmp_path / "out" / "scan.tif") as written:
        assert (written.byteorder, len(written.pages)) == (order, 4)
        for k, sheet in enumerate(written.pages):
            assert sheet.dtype == page(k).dtype
            assert np.abs(sheet.asarray() - page(k)).max() < 1e-6  # floats go through a fixed point of 2⁻²⁴
            assert sheet.tags[285].value == f"page {k}"
            assert sheet.tags[297].value == (k, 4)
            assert sheet.tags[50_001].value == (k + 1, 3, 5, 7)
            assert sheet.tags[50_001].count == 2
            assert Fraction(*sheet.tags[282].value) == 300 + k
            assert sheet.tags[254].value == 2
    with Pillow.open(tmp_path / "out" / "scan.tif") as independent:
        assert independent.n_frames == 4
        independent.seek(2)
        assert np.array_equal(np.asarray(independent), page(2))


def test_a_rational_of_a_single_picture_keeps_its_count(tmp_path):
    data = scan(tmp_path / "one.tif", 1).read_bytes()
    kept = ifd.parse(images.encode(images.decode(data), "tiff")).fields[50_001]
    assert (kept.count, kept.data) == (2, struct.pack("<4I", 1, 3, 5, 7))


def test_smaller_versions_among_the_pages_are_left_out_and_said(tmp_path):
    (outcome,) = denoised(scan(tmp_path / "scan.tif", 2, thumbnails=True), tmp_path / "out")
    assert outcome.pages == 2
    assert "page 1: the smaller versions on its further pages were left out" in outcome.notes


def test_a_page_with_exif_and_a_maker_note_keeps_them_wherever_it_lies(tmp_path):
    note = struct.pack("<HHHII", 1, 0x1234, 2, 12, 0) + b"eleven char\0"  # one tag whose text lies behind the rows
    pictures = []
    for k in range(3):
        camera = ifd.Directory("<", {0x829A: ifd.Field(ifd.RATIONAL, 1, struct.pack("<II", 1, 60 + k)),
                                     0x927C: ifd.Field(ifd.UNDEFINED, len(note), note)})  # fmt: skip
        exif = ifd.stream(ifd.Directory("<", {0x10F: ifd.ascii_field("Maker")}, {ifd.EXIF_POINTER: camera}))
        at = exif.index(note)
        exif = exif.replace(struct.pack("<II", 12, 0), struct.pack("<II", 12, at + 14))
        pictures.append(images.Image(np.full((9, 9, 3), 0.5, np.float32), "tiff", metadata=images.Metadata(exif=exif)))
    path = tmp_path / "cards.tif"
    with path.open("w+b") as file:
        appender = PageAppender(file)
        for picture in pictures:
            appender.append(images.encode(picture, "tiff"))
    data = path.read_bytes()
    with TiffPages.of(path) as pages:
        for k in range(3):
            tree = pages._pages[k][1]
            camera = tree.children[ifd.EXIF_POINTER]
            assert camera.numbers(0x829A) == (1 / (60 + k),)
            kept = camera.fields[0x927C]
            far = struct.unpack_from("<I", kept.data, 10)[0]
            assert data[far : far + 11] == b"eleven char"
            assert kept.at <= far < kept.at + len(note)


def test_a_page_that_cannot_be_denoised_fails_the_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "in" / "mixed.tif"
    path.parent.mkdir()
    Pillow.new("RGB", (30, 30)).save(
        path, save_all=True, append_images=[Pillow.new("1", (9, 9)), Pillow.new("L", (9, 9))]
    )
    Pillow.new("RGB", (30, 30), "red").save(tmp_path / "in" / "good.png")
    outcomes = {outcome.task.name: outcome for outcome in denoised(path.parent, tmp_path / "out")}
    assert "page 2 of 3: a TIFF of 1 bit" in str(outcomes["mixed.tif"].error)
    assert not outcomes["good.png"].error
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["good.png"], "no half-written file either"


def test_pages_that_finish_out_of_order_are_written_in_order(tmp_path):
    task = inputs.plan([scan(tmp_path / "scan.tif", 3)], tmp_path / "out").tasks[0]
    from rngcli.batch.picture_reader import read_page, read_picture
    from rngcli.inference.engine import Result

    first = read_picture(task, FileOptions())
    reads = [first, *(read_page(task, first, k, FileOptions()) for k in (1, 2))]
    writer = DocumentWriter(task, first, FileOptions())
    for read in (reads[2], reads[0], reads[1]):
        result = Result(str(read.page), read.picture.pixels, np.full((1, 1), read.page, np.int32), 1.0)
        outcome = writer.add(read, result)
    assert outcome.seconds == 3
    with tifffile.TiffFile(task.target) as written:
        assert all(np.array_equal(sheet.asarray(), page(k)) for k, sheet in enumerate(written.pages))
    assert writer.add(reads[1], Result("1", reads[1].picture.pixels, np.zeros((1, 1), np.int32), 1.0)) is None
    assert writer.fail(ValueError()) is None, "settled once"


def test_one_file_with_n_pages_in_the_count_the_progress_and_the_manifest(tmp_path):
    source, begun = scan(tmp_path / "scan.tif", 3), []
    tasks = inputs.plan([source], tmp_path / "out").tasks
    watch = Watch(begun=lambda task, megapixels, tiles: begun.append((task.name, round(megapixels, 6), tiles)))
    with journal_of(Manifest(tmp_path / "out"), "s") as journal:
        files = FileOptions(journal=journal, step_maps=tmp_path / "maps", reference=tmp_path,
                            score=lambda x, y: ({"off": float(np.abs(x - y).max())}, ()))  # fmt: skip
        pipeline = Pipeline(random_bundle(), "cpu", "fp32", 2)
        (outcome,) = run(tasks, pipeline, Request(), files, watch)
    assert begun == [("scan.tif", round(outcome.megapixels, 6), 4)]
    assert 0 < outcome.scores["off"] < 1
    manifest = Manifest(tmp_path / "out")
    assert manifest.state(source, tasks[0].target, lambda: "s") is State.DONE
    assert manifest.figures(tasks[0].target)["pages"] == 3
    names = sorted(path.name for path in (tmp_path / "maps").glob("*.png"))
    assert names == ["scan.tif.2.steps.png", "scan.tif.3.steps.png", "scan.tif.steps.png"]
    assert Pillow.open(tmp_path / "maps" / "scan.tif.2.steps.png").size == (20, 1100)


def test_the_same_bits_as_the_pages_one_by_one(tmp_path):
    scan(tmp_path / "in.tif", 2)
    (tmp_path / "single").mkdir()
    with TiffPages.of(tmp_path / "in.tif") as pages:
        for k in range(2):
            images.write(tmp_path / "single" / f"{k}.tif", images.decode_page(pages, k))
    pipeline = Pipeline(random_bundle(), "cpu", "fp32", 2)
    for source in (tmp_path / "in.tif", tmp_path / "single"):
        tasks = inputs.plan([source], tmp_path / "out").tasks
        assert not any(outcome.error for outcome in run(tasks, pipeline, Request(), FileOptions()))
    for k in range(2):
        alone = tifffile.imread(tmp_path / "out" / f"{k}.tif")
        assert np.array_equal(tifffile.imread(tmp_path / "out" / "in.tif", key=k), alone)


def test_a_format_of_one_picture_refuses_pages(tmp_path):
    task = inputs.plan([scan(tmp_path / "scan.tif", 3)], tmp_path / "out", inputs.Naming(format="png")).tasks[0]
    (outcome,) = run([task], Pipeline(identity_bundle(), "cpu", "fp32", 1), PLAIN, FileOptions())
    assert "3 pages, and a PNG holds one" in str(outcome.error)
    with pytest.raises(PictureError, match="several pages"):
        images.decode((tmp_path / "scan.tif").read_bytes())


def test_samples_beyond_4_gib_ask_for_a_bigtiff(tmp_path, monkeypatch):
    monkeypatch.setattr("rngcli.images.tiff.CLASSIC_LIMIT", 10)
    denoised(scan(tmp_path / "scan.tif", 2), tmp_path / "out")
    with tifffile.TiffFile(tmp_path / "out" / "scan.tif") as written:
        assert written.is_bigtiff
        assert np.array_equal(written.pages[1].asarray(), page(1))


def test_a_chain_of_pages_that_bites_its_tail_ends(tmp_path):
    data = bytearray(scan(tmp_path / "scan.tif", 2).read_bytes())
    first = struct.unpack_from("<I", data, 4)[0]
    last = ifd.parse_at(bytes(data), first).next
    struct.pack_into("<I", data, last + 2 + 12 * struct.unpack_from("<H", data, last)[0], first)
    (tmp_path / "scan.tif").write_bytes(data)
    with TiffPages.of(tmp_path / "scan.tif") as pages:
        assert len(pages) <= 3


def test_damage_anywhere_in_the_pages_is_an_error_of_this_file(tmp_path):
    whole = np.frombuffer(scan(tmp_path / "whole.tif", 3).read_bytes(), np.uint8)
    chance = np.random.default_rng(0)
    for k in range(60):
        broken = whole.copy()
        broken[chance.integers(0, len(whole), 12)] = chance.integers(0, 256, 12)
        cut = len(whole) if k % 3 else chance.integers(9, len(whole))
        (tmp_path / "broken.tif").write_bytes(broken.tobytes()[:cut])
        with suppress(PictureError):
            list(images.read_pages(tmp_path / "broken.tif", images.ReadOptions(max_pixels=10**6)))


def test_the_command_counts_one_file_and_goes_on_where_it_was(tmp_path):
    save(random_bundle(), tmp_path / "tiny")
    scan(tmp_path / "scan.tif", 3)
    command = ["denoise", str(tmp_path / "scan.tif"), str(tmp_path / "out"), "--model", str(tmp_path / "tiny"),
               "--json", "--report", str(tmp_path / "report.json"), "--device", "cpu"]  # fmt: skip
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    row, summary = (json.loads(line) for line in first.stdout.splitlines())
    assert (row["status"], row["pages"]) == ("done", 3)
    assert summary["summary"]["done"] == 1
    again = CliRunner().invoke(app, command)
    row = json.loads(again.stdout.splitlines()[0])
    assert (row["status"], row["pages"]) == ("skipped", 3)
    assert json.loads((tmp_path / "report.json").read_text())[0]["pages"] == 3
    assert "3 pages" in first.stderr


def test_a_file_shorter_than_its_directory_is_no_document(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0\x08\0\0\0" + b"\x05\0")
    assert TiffPages.of(tmp_path / "a.tif") is None
    with pytest.raises(PictureError):
        list(images.read_pages(tmp_path / "a.tif"))
