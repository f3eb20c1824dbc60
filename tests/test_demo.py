"""The demo runs from photographs to a table, and its noise is the same everywhere."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("skimage", reason="the demo's photographs come with scikit-image")

from rngcli.cli import demo
from rngcli.models.bundle import save
from tests.tiny import random_bundle

SMALL = tuple(
    demo.Photograph(photograph.file, (96, 128, 48, 64), photograph.noise_name, photograph.noise, (0, 0))
    for photograph in demo.PHOTOGRAPHS[:2]
)


@pytest.fixture
def model(tmp_path):
    save(random_bundle(), tmp_path / "tiny.safetensors")
    return str(tmp_path / "tiny.safetensors")


@pytest.mark.parametrize("photograph", demo.PHOTOGRAPHS, ids=lambda photograph: photograph.output)
def test_the_parts_lie_inside_the_photographs(photograph):
    height, width = photograph.box[2:]
    assert photograph.clean(demo.photograph_folder()).shape == (height, width, 3)
    assert height % 16 == width % 16 == 0
    assert all(at + demo.DETAIL <= side for at, side in zip(photograph.detail, (height, width), strict=True))


def test_noise_is_noise_and_the_same_each_time(tmp_path):
    scores = [demo.prepare(tmp_path / name, SMALL) for name in "ab"]
    assert scores[0] == scores[1]
    assert 19 < scores[0]["astronaut.png"] < 22, "σ = 25 is 20.2 dB, a little less noise where it is clipped"
    for photograph in SMALL:
        first, second = ((tmp_path / name / "noisy" / photograph.output).read_bytes() for name in "ab")
        assert first == second


def test_from_photographs_to_a_table(model, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("RNG_LPIPS", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "out" / "denoised").mkdir(parents=True)
    (tmp_path / "out" / "denoised" / SMALL[0].output).write_bytes(b"of an earlier demo")
    demo.run(tmp_path / "out", model, SMALL)
    told = capfd.readouterr().out
    assert told.count("$ rng denoise ") == 2
    assert "LPIPS n/a: " in told
    assert told.count("reconstruction  ") == len(SMALL)
    assert "…" not in told, "the table fits a terminal of 80 columns"
    for photograph in SMALL:
        path = tmp_path / "out" / "side-by-side" / photograph.output
        assert f"{path}\n" in told
        panels = np.asarray(Image.open(path))[demo.LABEL : demo.LABEL + 48]
        noisy = np.asarray(Image.open(tmp_path / "out" / "noisy" / photograph.output))
        clean = np.asarray(Image.open(tmp_path / "out" / "clean" / photograph.output))
        assert np.array_equal(panels[:, :64], noisy)
        last = 3 * (demo.DETAIL + demo.GAP)
        assert np.array_equal(panels[:, last : last + 64], clean)
        assert (tmp_path / "out" / "steps" / f"{photograph.output}.steps.png").is_file()


def test_where_the_command_fails_the_demo_ends_with_its_code(tmp_path):
    with pytest.raises(SystemExit) as end:
        demo.run(tmp_path / "out", "nowhere", SMALL[:1])
    assert end.value.code == 3
