"""LPIPS: published example values with the real squeeze files; layout, search and loading for all backbones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rngcli.errors import ModelError, PictureError, UsageError
from rngcli.metrics import lpips
from rngcli.metrics.lpips import BACKBONES, LPIPS

SHARED = Path(os.environ.get("RNG_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data/weights/lpips"
needs_weights = pytest.mark.skipif(not SHARED.is_dir(), reason="the LPIPS development files are not here")


def picture(name: str) -> torch.Tensor:
    pixels = np.asarray(Image.open(SHARED / name).convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)


def write_files(folder: Path, backbone: str, prefix: str = "features.") -> LPIPS:
    """Files of the public layout with random weights, and the model they describe."""
    torch.manual_seed(0)
    model = LPIPS(backbone)
    heads = {}
    for index, head in enumerate(model.heads):
        head.copy_(torch.rand_like(head))
        heads[f"lin{index}.model.1.weight"] = head.clone()
    stack = {prefix + key: value for key, value in model.stack.state_dict().items()}
    name = BACKBONES[backbone].patterns[0].replace("*", "00")
    torch.save({**stack, "classifier.1.bias": torch.zeros(3)}, folder / name)
    torch.save(heads, folder / f"lin_v0.1_{backbone}.pth")
    return model


@needs_weights
def test_the_published_example_triple() -> None:
    model = LPIPS.load("squeeze", SHARED)
    reference = model.features(picture("ex_ref.png"))
    both = torch.cat([picture("ex_p0.png"), picture("ex_p1.png")])
    assert model.distance(reference, model.features(both)).tolist() == pytest.approx([0.711, 0.148], abs=1e-3)
    assert model(picture("ex_p1.png"), picture("ex_ref.png")).item() == pytest.approx(0.148, abs=1e-3)


@needs_weights
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_published_heads_fit_every_backbone(backbone: str) -> None:
    heads = torch.load(SHARED / f"lin_v0.1_{backbone}.pth", map_location="cpu", weights_only=True)
    assert [tuple(h.shape) for h in heads.values()] == [tuple(h.shape) for h in LPIPS(backbone).heads]


# torchvision's own parameter names: first and last convolution of each stack.
LAYOUT = {
    "alex": {"0.weight": (64, 3, 11, 11), "10.weight": (256, 256, 3, 3)},
    "vgg": {"0.weight": (64, 3, 3, 3), "28.weight": (512, 512, 3, 3)},
    "squeeze": {"0.weight": (64, 3, 3, 3), "12.expand3x3.weight": (256, 64, 3, 3)},
}


@pytest.mark.parametrize("backbone", BACKBONES)
def test_loads_files_of_the_public_layout(backbone: str, tmp_path: Path) -> None:
    written = write_files(tmp_path, backbone)
    state = written.stack.state_dict()
    for key, shape in LAYOUT[backbone].items():
        assert tuple(state[key].shape) == shape
    loaded = LPIPS.load(backbone, tmp_path)
    generator = torch.Generator().manual_seed(1)
    a, b = torch.rand(2, 1, 3, 48, 48, generator=generator)
    assert loaded(a, b).item() == written(a, b).item() > 0
    assert loaded(a, a).item() == 0


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_smallest_picture_is_seen_and_a_smaller_one_named(backbone: str) -> None:
    model, side = LPIPS(backbone), BACKBONES[backbone].smallest
    assert all(m.shape[-1] > 0 for m in model.features(torch.zeros(1, 3, side, side)))
    with pytest.raises(PictureError, match=f"at least {side} px"):
        model.features(torch.zeros(1, 3, side - 1, side))


def test_one_reference_serves_many_candidates(tmp_path: Path) -> None:
    model = write_files(tmp_path, "squeeze")
    generator = torch.Generator().manual_seed(2)
    reference, candidates = (torch.rand(n, 3, 40, 40, generator=generator) for n in (1, 4))
    cached = model.distance(model.features(reference), model.features(candidates))
    alone = torch.cat([model(c.unsqueeze(0), reference) for c in candidates])
    torch.testing.assert_close(cached, alone)


def test_search_order_and_the_way_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub, named = tmp_path / "hub", tmp_path / "named"
    for folder in (hub / "checkpoints", named):
        folder.mkdir(parents=True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(hub))
    monkeypatch.delenv("RNG_LPIPS", raising=False)
    with pytest.raises(ModelError, match=r"squeezenet1_1-b8a52dc0.pth and lin_v0.1_squeeze.pth.*https://download"):
        LPIPS.find("squeeze")
    write_files(hub / "checkpoints", "squeeze")
    assert LPIPS.find("squeeze").features.parent == hub / "checkpoints"
    monkeypatch.setenv("RNG_LPIPS", str(named))
    with pytest.raises(ModelError):
        LPIPS.find("squeeze")
    write_files(named, "squeeze")
    assert LPIPS.find("squeeze").heads.parent == named
    with pytest.raises(UsageError, match="alex, vgg, squeeze"):
        LPIPS.find("resnet")


def test_foreign_and_damaged_files_are_named(tmp_path: Path) -> None:
    write_files(tmp_path, "squeeze", prefix="body.")
    with pytest.raises(ModelError, match="not LPIPS"):
        LPIPS.load("squeeze", tmp_path)
    (tmp_path / "lin_v0.1_squeeze.pth").write_bytes(b"<html>quota exceeded</html>")
    with pytest.raises(ModelError, match="not a readable weight file"):
        LPIPS.load("squeeze", tmp_path)


def test_download_checks_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib
    from dataclasses import replace

    source = tmp_path / "server"
    source.mkdir()
    (source / "net.pth").write_bytes(b"right")
    (source / "squeeze.pth").write_bytes(b"wrong")
    digest = hashlib.sha256(b"right").hexdigest()
    spec = replace(BACKBONES["squeeze"], url=(source / "net.pth").as_uri(), digest=digest, heads_digest=digest)
    monkeypatch.setitem(lpips.BACKBONES, "squeeze", spec)
    monkeypatch.setattr(lpips, "HEADS_URL", source.as_uri() + "/")
    target = tmp_path / "cache"
    with pytest.raises(ModelError, match="another SHA-256"):
        lpips.download("squeeze", target)
    assert sorted(p.name for p in target.iterdir()) == ["net.pth"]
    (source / "squeeze.pth").write_bytes(b"right")
    assert lpips.download("squeeze", target).heads.read_bytes() == b"right"
