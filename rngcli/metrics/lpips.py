"""LPIPS v0.1 (Zhang et al. 2018): the distance between two pictures as a classifier's features see them.

The three feature stacks are written out by hand, under torchvision's parameter names, so that its weight files load:
only their convolutions are needed, and torchvision, which must fit torch's very build, would be one more thing that
everybody has to install, for one metric.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..errors import EnvironmentFault, ModelError, PictureError, UsageError

HEADS_URL = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/"


@dataclass(frozen=True)
class BackboneSpec:
    """A feature stack: where LPIPS taps it, and the two files that hold its weights."""

    taps: tuple[int, ...]  # indices into `features` after which a map is taken
    channels: tuple[int, ...]
    smallest: int  # [px] the shortest side that still reaches the last tap
    patterns: tuple[str, ...]  # names of the backbone's file
    url: str
    digest: str  # SHA-256 of that file, or its first digits (torch hub's convention: they are part of the name)
    heads_digest: str


TORCH_MODELS = "https://download.pytorch.org/models/"
BACKBONES = {
    "alex": BackboneSpec(
        taps=(1, 4, 7, 9, 11),
        channels=(64, 192, 384, 256, 256),
        smallest=31,
        patterns=("alexnet-owt-*.pth", "alexnet_features.pth"),
        url=TORCH_MODELS + "alexnet-owt-7be5be79.pth",
        digest="7be5be79",
        heads_digest="df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    ),
    "vgg": BackboneSpec(
        taps=(3, 8, 15, 22, 29),
        channels=(64, 128, 256, 512, 512),
        smallest=16,
        patterns=("vgg16-*.pth", "vgg16_features.pth"),
        url=TORCH_MODELS + "vgg16-397923af.pth",
        digest="397923af",
        heads_digest="a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    ),
    "squeeze": BackboneSpec(
        taps=(1, 4, 7, 9, 10, 11, 12),
        channels=(64, 128, 256, 384, 384, 512, 512),
        smallest=17,
        patterns=("squeezenet1_1-*.pth", "squeezenet1_1_features.pth"),
        url=TORCH_MODELS + "squeezenet1_1-b8a52dc0.pth",
        digest="b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
        heads_digest="4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76",
    ),
}


class Fire(nn.Module):
    """SqueezeNet's block: squeeze 1×1, then 1×1 and 3×3 side by side."""

    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1).relu()


def _alex() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    )


def _vgg() -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers[:-1])


def _squeeze() -> nn.Sequential:
    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return nn.Sequential(
        *(nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(), pool()),
        *(Fire(64, 16, 64), Fire(128, 16, 64), pool()),
        *(Fire(128, 32, 128), Fire(256, 32, 128), pool()),
        *(Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)),
    )


STACKS = {"alex": _alex, "vgg": _vgg, "squeeze": _squeeze}


class WeightFiles(NamedTuple):
    """The two files behind one LPIPS: the classifier's features and the linear heads."""

    features: Path
    heads: Path


class LPIPS(nn.Module):
    """LPIPS v0.1 with one backbone; takes RGB in [0, 1] and maps it to [-1, 1] inside. float32; gradients reach
    the pictures, not the weights."""

    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: str = "alex") -> None:
        super().__init__()
        self.backbone = backbone
        self.spec = backbone_spec(backbone)
        self.stack = STACKS[backbone]()
        self.heads = nn.ParameterList(torch.zeros(1, c, 1, 1) for c in self.spec.channels)
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    @classmethod
    def find(cls, backbone: str = "alex", directory: str | Path | None = None) -> WeightFiles:
        """The weight files of `backbone`: in `directory`, else $RNG_LPIPS, else torch hub's cache.

        Raises ModelError naming the files and where they come from.
        """
        spec = backbone_spec(backbone)
        places = _places(directory)
        found = [_first(places, patterns) for patterns in (spec.patterns, _head_names(backbone))]
        if found[0] is None or found[1] is None:
            names = (Path(spec.url).name, _head_names(backbone)[0])
            missing = [name for name, path in zip(names, found, strict=True) if path is None]
            raise ModelError(
                f"LPIPS ({backbone}) lacks {' and '.join(missing)} (looked in {', '.join(map(str, places))})",
                f"`rng eval --lpips-download` fetches them; or put {spec.url} and {HEADS_URL}{backbone}.pth into a "
                "folder that the variable RNG_LPIPS names",
            )
        return WeightFiles(found[0], found[1])

    @classmethod
    def load(
        cls, backbone: str = "alex", directory: str | Path | None = None, device: str | torch.device = "cpu"
    ) -> LPIPS:
        """A ready LPIPS from files found as `find` does. Raises ModelError for absent or foreign files."""
        files = cls.find(backbone, directory)
        model = cls(backbone)
        stack = {k.removeprefix("features."): v for k, v in _read(files.features).items() if k.startswith("features.")}
        heads = _read(files.heads)
        try:
            model.stack.load_state_dict(stack)
            model.heads.load_state_dict({str(i): heads[f"lin{i}.model.1.weight"] for i in range(len(model.heads))})
        except (RuntimeError, KeyError) as error:
            raise ModelError(f"{files.features} and {files.heads} are not LPIPS ({backbone}) weights") from error
        return model.to(device)

    def features(self, images: Tensor) -> list[Tensor]:
        """Unit-length feature maps of RGB (N, 3, H, W) in [0, 1]; keep them to compare one picture with many."""
        if images.shape[1] != 3 or min(images.shape[-2:]) < self.spec.smallest:
            raise PictureError(
                f"LPIPS ({self.backbone}) cannot see a picture of shape {tuple(images.shape[1:])}",
                f"it needs RGB of at least {self.spec.smallest} px on each side",
            )
        with torch.autocast(images.device.type, enabled=False):
            x = (images.float() * 2 - 1 - self.shift) / self.scale
            maps = []
            for index, layer in enumerate(self.stack):
                x = layer(x)
                if index in self.spec.taps:
                    # Clamped, since a root's slope at 0 is infinite, and a training would go on with no numbers.
                    length = x.square().sum(dim=1, keepdim=True).clamp(min=1e-20).sqrt()
                    maps.append(x / (length + 1e-10))
            return maps

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Distance (N,) between feature maps of N pictures, or of one picture and N."""
        total = torch.zeros((), device=a[0].device)
        for head, x, y in zip(self.heads, a, b, strict=True):
            total = total + (head * (x - y).square()).sum(dim=1).mean(dim=(1, 2))
        return total

    def forward(self, image: Tensor, truth: Tensor) -> Tensor:
        """LPIPS distance, (N, 3, H, W) ×2 in [0, 1] -> (N,); 0 for equal pictures."""
        return self.distance(self.features(image), self.features(truth))


def backbone_spec(name: str) -> BackboneSpec:
    """The spec of `name`; UsageError naming the known ones."""
    if name not in BACKBONES:
        raise UsageError(f"LPIPS has no backbone {name!r}", f"choose one of {', '.join(BACKBONES)}")
    return BACKBONES[name]


def download(backbone: str, directory: str | Path | None = None) -> WeightFiles:
    """Fetch both files from their official addresses into `directory` (torch hub's cache), SHA-256 checked."""
    spec = backbone_spec(backbone)
    folder = Path(directory) if directory else _hub()
    folder.mkdir(parents=True, exist_ok=True)
    features, heads = folder / Path(spec.url).name, folder / _head_names(backbone)[0]
    for url, digest, target in (
        (spec.url, spec.digest, features),
        (f"{HEADS_URL}{backbone}.pth", spec.heads_digest, heads),
    ):
        if not target.exists():
            _fetch(url, digest, target)
    return WeightFiles(features, heads)


def _fetch(url: str, digest: str, target: Path) -> None:
    """One file, whole or not at all, its SHA-256 checked."""
    try:
        torch.hub.download_url_to_file(url, str(target), hash_prefix=digest, progress=sys.stderr.isatty())
    except OSError as error:
        raise EnvironmentFault(f"{url} cannot be fetched ({error})", "fetch it by hand: see --lpips-weights") from error
    except RuntimeError as error:
        raise ModelError(f"{url} gave a file of another SHA-256 ({error})", "fetch it by hand") from error


def _hub() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _places(directory: str | Path | None) -> list[Path]:
    """Folders to look in; a folder named on purpose is the only one."""
    named = directory or os.environ.get("RNG_LPIPS")
    return [Path(named)] if named else [_hub()]


def _head_names(backbone: str) -> tuple[str, str]:
    return f"lin_v0.1_{backbone}.pth", f"{backbone}.pth"


def _first(places: list[Path], patterns: tuple[str, ...]) -> Path | None:
    return next((path for place in places for pattern in patterns for path in sorted(place.glob(pattern))), None)


def _read(path: Path) -> dict[str, Tensor]:
    import pickle

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ModelError(f"{path} is not a readable weight file", "fetch it again") from error
