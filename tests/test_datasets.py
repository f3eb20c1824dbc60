"""Named benchmarks on synthetic files of the official layouts, paired folders, and the noise protocol."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from rngcli.data import awgn, clean_folder, named, paired, with_noise, write_submission
from rngcli.data.folders import keyed
from rngcli.errors import NoInputError, PictureError, UsageError

SHARED = Path(os.environ.get("RNG_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data/test"


def save(path: Path, seed: int = 0, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    """A random picture (height, width) in a file; its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def write_sidd(folder: Path, images: int = 3, blocks: int = 2, side: int = 16) -> dict[str, np.ndarray]:
    """Files of the official layout, with fewer and smaller blocks."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    stems = ("ValidationNoisyBlocksSrgb", "ValidationGtBlocksSrgb", "BenchmarkNoisyBlocksSrgb")
    arrays = {stem: rng.integers(0, 256, (images, blocks, side, side, 3), dtype=np.uint8) for stem in stems}
    for stem, array in arrays.items():
        savemat(folder / f"{stem}.mat", {stem: array}, do_compression=True)
    return arrays


def test_awgn_is_the_published_protocol() -> None:
    pixels = np.random.default_rng(1).random((64, 48, 3), dtype=np.float32)
    noisy = awgn(pixels, 25)
    np.random.seed(0)
    expected = pixels + np.random.normal(0, 25 / 255.0, pixels.shape)
    assert noisy.dtype == np.float32
    assert np.abs(noisy - expected).max() < 1e-6
    assert noisy.min() < 0
    assert noisy.max() > 1


@pytest.mark.skipif(not (SHARED / "cbsd68").is_dir(), reason="CBSD68 is not here")
def test_noisy_cbsd68_scores_what_arithmetic_demands() -> None:
    (benchmark,) = named("cbsd68", SHARED, [25])
    scores = [-10 * np.log10(np.mean((p.noisy - p.clean) ** 2, dtype=np.float64)) for p in benchmark]
    assert len(scores) == 68
    assert 20.165 < np.mean(scores) < 20.185


def test_sidd_blocks_come_one_by_one(tmp_path: Path) -> None:
    arrays = write_sidd(tmp_path / "SIDD")
    (benchmark,) = named("sidd", tmp_path)
    assert benchmark.keys == ("00-00", "00-01", "01-00", "01-01", "02-00", "02-01")
    assert benchmark.ssim == "matlab-3d"
    pair = benchmark.load("02-01")
    assert pair.noisy.dtype == pair.clean.dtype == np.float32
    assert np.array_equal(np.rint(pair.noisy * 255), arrays["ValidationNoisyBlocksSrgb"][2, 1])
    assert np.array_equal(np.rint(pair.clean * 255), arrays["ValidationGtBlocksSrgb"][2, 1])


def test_the_benchmark_has_no_truth_and_takes_a_submission(tmp_path: Path) -> None:
    arrays = write_sidd(tmp_path)
    (benchmark,) = named("sidd-benchmark", tmp_path)
    assert all(pair.clean is None for pair in benchmark)
    noisy = arrays["BenchmarkNoisyBlocksSrgb"]
    write_submission(tmp_path / "SubmitSrgb.mat", noisy, 1.5, "rng")
    stored = loadmat(tmp_path / "SubmitSrgb.mat")
    assert np.array_equal(stored["DenoisedBlocksSrgb"], noisy)
    assert stored["TimeMPSrgb"].item() == 1.5


def test_wrong_sidd_files_are_named(tmp_path: Path) -> None:
    write_sidd(tmp_path / "sidd")
    other = np.zeros((3, 2, 8, 8, 3), np.uint8)
    savemat(tmp_path / "sidd/ValidationGtBlocksSrgb.mat", {"ValidationGtBlocksSrgb": other})
    with pytest.raises(NoInputError, match="differ in shape"):
        named("sidd", tmp_path)
    savemat(tmp_path / "sidd/ValidationGtBlocksSrgb.mat", {"other": np.zeros(3)})
    with pytest.raises(NoInputError, match="holds no ValidationGtBlocksSrgb"):
        named("sidd", tmp_path)
    (tmp_path / "sidd/ValidationGtBlocksSrgb.mat").write_bytes(b"<html>quota exceeded</html>" * 20)
    with pytest.raises(NoInputError, match=r"not a readable \.mat"):
        named("sidd", tmp_path)


@pytest.mark.parametrize("name", ["sidd", "sidd-benchmark", "cbsd68", "polyu"])
def test_an_absent_set_says_how_to_get_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RNG_DATA", raising=False)
    sigmas = [25] if name == "cbsd68" else []
    for root in (None, tmp_path):
        with pytest.raises(NoInputError) as caught:
            named(name, root, sigmas)
        lines = str(caught.value).splitlines()
        assert len(lines) == 5
        assert [line.split(":")[0].strip() for line in lines[1:]] == ["page", "files", "size", "layout"]
        assert "https://" in lines[1]


def test_sets_are_found_whatever_the_case_and_directly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = save(tmp_path / "CBSD68/original_png/0001.png")
    save(tmp_path / "CBSD68/noisy25/0001.png", seed=1)
    monkeypatch.setenv("RNG_DATA", str(tmp_path))
    ten, fifty = named("cbsd68", None, [10, 50])
    assert ten.keys == fifty.keys == ("0001",)
    assert "1 of the official 68 pictures" in ten.protocol
    assert ten.name == "cbsd68 σ=10"
    assert np.allclose(ten.load("0001").clean * 255, pixels, atol=1e-3)
    assert fifty.load("0001").noisy.std() > ten.load("0001").noisy.std()
    assert named("cbsd68", tmp_path / "CBSD68", [10])[0].keys == ("0001",)
    save(tmp_path / "kodak24/kodim01.png")
    assert named("kodak24", tmp_path / "kodak24", [10])[0].keys == ("kodim01",)


def test_noise_is_asked_for_exactly_where_it_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--sigma 15,25,50"):
        named("kodak24", tmp_path)
    with pytest.raises(UsageError, match="leave out --sigma"):
        named("sidd", tmp_path, [25])
    with pytest.raises(UsageError, match="cbsd68"):
        named("bsd1000", tmp_path)


def test_polyu_in_its_official_layout(tmp_path: Path) -> None:
    noisy = save(tmp_path / "PolyU/CroppedImages/Canon_1_real.png", 0)
    clean = save(tmp_path / "PolyU/CroppedImages/Canon_1_mean.png", 1)
    (benchmark,) = named("polyu", tmp_path)
    pair = benchmark.load("canon_1")
    assert np.allclose(pair.noisy * 255, noisy, atol=1e-3)
    assert np.allclose(pair.clean * 255, clean, atol=1e-3)


def test_pairs_match_by_name_and_the_rest_is_named(tmp_path: Path) -> None:
    for name in ("a.png", "deep/b_NOISY_010.png", "lonely.png"):
        save(tmp_path / "noisy" / name)
    for name in ("a.tif", "deep/b_GT_010.png", "widow.png"):
        save(tmp_path / "clean" / name)
    benchmark = paired(tmp_path / "noisy", tmp_path / "clean")
    assert benchmark.keys == ("a", "deep/b_010")
    assert len(benchmark.problems) == 2
    assert "lonely.png: no partner in" in benchmark.problems[0]
    assert "widow.png: no partner in" in benchmark.problems[1]
    save(tmp_path / "clean/A.png")
    with pytest.raises(UsageError, match="would both be 'a'"):
        paired(tmp_path / "noisy", tmp_path / "clean")


def test_one_bad_pair_does_not_hide_the_others(tmp_path: Path) -> None:
    for side in ("noisy", "clean"):
        save(tmp_path / side / "good.png")
    save(tmp_path / "noisy/small.png")
    save(tmp_path / "clean/small.png", size=(20, 29))
    save(tmp_path / "noisy/torn.png")
    (tmp_path / "clean/torn.png").write_bytes(b"\x89PNG")
    benchmark = paired(tmp_path / "noisy", tmp_path / "clean")
    assert benchmark.load("good").noisy.shape == (20, 30, 3)
    with pytest.raises(PictureError, match=r"small\.png is 30×20 px but its truth is 29×20 px"):
        benchmark.load("small")
    with pytest.raises(PictureError, match=r"clean/torn\.png"):
        benchmark.load("torn")


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    import tifffile

    for side, level in (("noisy", 1001), ("clean", 1000)):
        (tmp_path / side).mkdir()
        tifffile.imwrite(tmp_path / side / "x.tif", np.full((8, 8, 3), level, np.uint16), photometric="rgb")
    pair = paired(tmp_path / "noisy", tmp_path / "clean").load("x")
    assert pair.noisy[0, 0, 0] - pair.clean[0, 0, 0] == pytest.approx(1 / 65535, rel=1e-3)


def test_crop_and_limit_say_what_they_did(tmp_path: Path) -> None:
    for index in range(3):
        save(tmp_path / f"{index}.png", index)
    (whole,) = with_noise(tmp_path, [25])
    less = whole.limited(2).cropped(10)
    assert less.keys == ("0", "1")
    pair = less.load("1")
    assert pair.noisy.shape == pair.clean.shape == (10, 10, 3)
    assert np.array_equal(pair.noisy, whole.load("1").noisy[5:15, 10:20])
    assert less.protocol.endswith("first 2 of 3; centre crop 10 px")
    assert whole.cropped(100).load("0").noisy.shape == (20, 30, 3)


def test_clean_folder_takes_pictures_only(tmp_path: Path) -> None:
    for name in ("b.png", "sub/a.avif", "sub/c.JPG"):
        save(tmp_path / name)
    (tmp_path / "index.tsv").write_text("no picture")
    (tmp_path / ".hidden.png").write_text("no picture")
    (tmp_path / "empty").mkdir()
    assert [p.relative_to(tmp_path).as_posix() for p in clean_folder(tmp_path)] == ["b.png", "sub/a.avif", "sub/c.JPG"]
    with pytest.raises(NoInputError, match="no pictures below"):
        clean_folder(tmp_path / "empty")
    with pytest.raises(NoInputError, match="is no folder"):
        clean_folder(tmp_path / "absent")


def test_no_two_pictures_have_one_key(tmp_path):
    names = ["a.png", "a.jpg", "a.png.tif", "b.png"]
    keys = keyed(tmp_path, [tmp_path / name for name in names])
    assert keys == {key: tmp_path / name for key, name in zip([*names[:3], "b"], names, strict=True)}
