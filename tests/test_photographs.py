"""The folders that `rng train` and `rng ablate` are given: what of them is loaded, and what is refused."""

import shutil

import numpy as np
import PIL.Image
import pytest
import tifffile
import torch

from rngcli import images
from rngcli.data.image_cache import Pool
from rngcli.data.photographs import photographs_of
from rngcli.errors import NoInputError
from tests.dng_files import NEUTRAL, counts, light, mosaic
from tests.tiny import clouds

CPU = torch.device("cpu")
HELD_OUT = {23, 29}  # of 0.png … 59.png, by their names' hashes


@pytest.fixture(scope="module")
def sixty(tmp_path_factory):
    """One picture under sixty names."""
    (picture,) = clouds(tmp_path_factory.mktemp("one"), 1, (64, 64)).glob("*.png")
    folder = tmp_path_factory.mktemp("sixty")
    for i in range(60):
        shutil.copy(picture, folder / f"{i}.png")
    return folder


def test_raw_files_beside_the_photographs_are_passed_over(sixty, tmp_path):
    shutil.copytree(sixty, tmp_path / "all")
    (tmp_path / "all" / "negative.dng").write_bytes(b"not even a RAW file")
    loaded = photographs_of(tmp_path / "all", 32, CPU)
    assert (len(loaded.train), len(loaded.held_out)) == (60 - len(HELD_OUT), len(HELD_OUT))


def test_a_limit_holds_for_what_is_learned_and_for_what_is_held_out(sixty):
    loaded = photographs_of(sixty, 32, CPU, limit=1)
    assert (len(loaded.train), len(loaded.held_out)) == (1, 1)


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(NoInputError, match="is no folder"):
        photographs_of(tmp_path / "nowhere", 32, CPU)


def test_samples_of_a_training_thumbnails_and_hidden_folders_are_no_photographs(sixty, tmp_path):
    (picture,) = sixty.glob("0.png")
    for folder in ("", "samples", "runs/mine/reconstruct/samples", "a/thumbs", "a/.thumbnails", "a/@eaDir", ".hidden"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, tmp_path / folder / "photo.png")
    (tmp_path / "runs/mine/reconstruct/state.pt").touch()
    loaded = photographs_of(tmp_path, 32, CPU)
    names = {("photo.png",), ("samples", "photo.png")}
    assert len(loaded.train) + len(loaded.held_out) == len(names), "a folder of one's own may be called samples"


def test_pictures_are_read_as_everywhere_else(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    PIL.Image.fromarray(ramp).save(tmp_path / "grey16.png")
    pool = Pool([tmp_path / "grey16.png"], 64)
    assert pool.pixels.float().mean().item() == pytest.approx(127.5, abs=0.5), "not white"
    assert torch.equal(pool.pixels[:, 0], pool.pixels[:, 2])
    colours = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    turned = PIL.Image.fromarray(colours)
    exif = turned.getexif()
    exif[274] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    pool = Pool([tmp_path / "turned.png"], 48)
    assert pool.sizes.tolist() == [[64, 48]]
    assert np.array_equal(pool.pixels.numpy(), colours.reshape(-1, 3)), "8-bit sRGB as it is"


def test_a_raw_file_is_as_large_as_it_is_developed_and_not_as_its_thumbnail(tmp_path):
    sensor, thumbnail = counts(mosaic(light(96, 128) * NEUTRAL)), np.zeros((24, 32, 3), np.uint8)
    version = (50706, "B", 4, bytes((1, 4, 0, 0)), True)
    pattern = [(33421, "H", 2, (2, 2), True), (33422, "B", 4, bytes((0, 1, 1, 2)), True)]
    file = tmp_path / "a.dng"
    with tifffile.TiffWriter(file) as tiff:
        tiff.write(thumbnail, photometric="rgb", subfiletype=1, subifds=1, metadata=None, extratags=[version])
        tiff.write(sensor, photometric="cfa", metadata=None, extratags=pattern)
    assert images.sniff(file.read_bytes()) == "raw"
    assert Pool([file], 64).sizes.tolist() == [[96, 128]]


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.avif"])
def test_the_size_in_the_header_is_that_of_the_pixels(tmp_path, name):
    pixels = np.random.default_rng(0).random((40, 56, 3), np.float32)
    images.write(tmp_path / name, images.Image(pixels))
    assert Pool([tmp_path / name], 32).sizes.tolist() == [[40, 56]]


def test_what_is_decoded_is_told_of(sixty):
    heard = []

    def track(work, doing, total, unit):
        done = list(work)
        heard.append((doing, total, unit, len(done)))
        return done

    photographs_of(sixty, 32, CPU, track=track)
    assert heard == [("decoding", 58, "pictures", 58), ("decoding", 2, "pictures", 2)]
