"""NAFNet, the reconstructive network: noisy picture in, reconstruction r(x) out (Chen et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from ..errors import ModelError


def check_shape(width: int, encoder: Sequence[int], middle: int, decoder: Sequence[int]) -> None:
    """ModelError for a U of levels that no network has, so that a damaged file cannot ask for one to be built."""
    blocks = (*encoder, middle, *decoder)
    if not (1 <= width <= 4096 and 1 <= len(encoder) == len(decoder) <= 8 and 0 <= min(blocks) <= max(blocks) <= 256):
        cause = f"impossible network of width {width}, blocks {list(encoder)}, {middle}, {list(decoder)}"
        raise ModelError(cause, "use a width up to 4096, and up to 8 levels of up to 256 blocks on both sides")


@dataclass(frozen=True)
class NAFNetSpec:
    """Shape of a NAFNet; the defaults are the authors' SIDD-width32 (29.16 M parameters)."""

    width: int = 32
    encoder: tuple[int, ...] = (2, 2, 4, 8)
    middle: int = 12
    decoder: tuple[int, ...] = (2, 2, 2, 2)
    inputs: int = 3  # channels; what comes out is a correction of the first three
    attention: bool = True  # SCA, which pools over the whole picture that it is given

    def __post_init__(self) -> None:
        check_shape(self.width, self.encoder, self.middle, self.decoder)
        if not 3 <= self.inputs <= 64:
            raise ModelError(f"impossible network of {self.inputs} input channels", "use 3 to 64")

    @property
    def multiple(self) -> int:
        """Height and width are padded to a multiple of this [px]."""
        return 2 ** len(self.encoder)


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each pixel, (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        # In channels_last memory this permutation is a view, so no copy is made either way.
        nhwc = x.permute(0, 2, 3, 1)
        # In the weights' format (float32 in training), out in the features': the fastest of the ways under autocast.
        normal = F.layer_norm(nhwc.to(self.weight.dtype), self.weight.shape, self.weight, self.bias, self.eps)
        return normal.to(x.dtype).permute(0, 3, 1, 2)


def simple_gate(x: Tensor) -> Tensor:
    """SG: split the channels in two halves and multiply, (N, 2C, H, W) -> (N, C, H, W)."""
    a, b = x.chunk(2, dim=1)
    return a * b


class NAFBlock(nn.Module):
    """Two gated residual branches (Chen et al. 2022, fig. 3c); starts as the identity, since β = γ = 0."""

    def __init__(self, channels: int, attention: bool = True) -> None:
        super().__init__()
        c = channels
        self.beta = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.norm1, self.norm2 = ChannelNorm(c), ChannelNorm(c)
        self.conv1 = nn.Conv2d(c, 2 * c, 1)
        self.conv2 = nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c, 1)) if attention else None
        self.conv3 = nn.Conv2d(c, c, 1)
        self.conv4 = nn.Conv2d(c, 2 * c, 1)
        self.conv5 = nn.Conv2d(c, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        # β and γ in the features' format: float32 ones would make every later tensor float32 under autocast.
        beta, gamma = self.beta.to(x.dtype), self.gamma.to(x.dtype)
        z = simple_gate(self.conv2(self.conv1(self.norm1(x))))
        y = x + beta * self.conv3(z if self.sca is None else z * self.sca(z))
        return y + gamma * self.conv5(simple_gate(self.conv4(self.norm2(y))))


def upsample(channels: int) -> nn.Sequential:
    """Twice the height and width, half the channels: 1×1 convolution, then pixel shuffle."""
    return nn.Sequential(nn.Conv2d(channels, 2 * channels, 1, bias=False), nn.PixelShuffle(2))


class NAFNet(nn.Module):
    """Noisy RGB (N, 3, H, W) in [0, 1] -> reconstruction of the same shape, not clamped.

    Parameter names are the authors', so their checkpoints load strictly.
    """

    def __init__(self, spec: NAFNetSpec) -> None:
        super().__init__()
        self.spec = spec
        c = spec.width

        def blocks(count: int) -> nn.Sequential:
            return nn.Sequential(*(NAFBlock(c, spec.attention) for _ in range(count)))

        self.intro = nn.Conv2d(spec.inputs, c, 3, padding=1)
        self.ending = nn.Conv2d(c, 3, 3, padding=1)
        self.encoders, self.downs = nn.ModuleList(), nn.ModuleList()
        for count in spec.encoder:
            self.encoders.append(blocks(count))
            self.downs.append(nn.Conv2d(c, 2 * c, 2, stride=2))
            c *= 2
        self.middle_blks = blocks(spec.middle)
        self.ups, self.decoders = nn.ModuleList(), nn.ModuleList()
        for count in spec.decoder:
            self.ups.append(upsample(c))
            c //= 2
            self.decoders.append(blocks(count))

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        m = self.spec.multiple
        noisy = F.pad(x, (0, -w % m, 0, -h % m))
        features = self.intro(noisy.to(self.intro.weight.dtype))
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            features = encoder(features)
            skips.append(features)
            features = down(features)
        features = self.middle_blks(features)
        for decoder, up in zip(self.decoders, self.ups, strict=True):
            features = decoder(up(features) + skips.pop())
        # Added in x's own number format: in bfloat16 the picture itself would be rounded to 8 bits.
        return (self.ending(features) + noisy[:, :3])[..., :h, :w]


@torch.no_grad()
def without_attention(net: NAFNet, examples: Tensor) -> NAFNet:
    """The same network with every block's attention fixed at its mean over `examples` (N, inputs, H, W).

    What is left sees only its receptive field, so that a tile's surroundings beyond it change nothing. The fixed
    factors are folded into the convolution that follows them.
    """
    if not net.spec.attention:
        return deepcopy(net)
    means: dict[str, Tensor] = {}

    def watch(name: str, sca: nn.Module) -> RemovableHandle:
        return sca.register_forward_hook(lambda _, __, factors: means.update({name: factors.float().mean(0, True)}))

    blocks = {name: block for name, block in net.named_modules() if isinstance(block, NAFBlock)}
    watched = [watch(name, block.sca) for name, block in blocks.items() if block.sca]
    net(examples)
    for handle in watched:
        handle.remove()
    weights = {key: value.clone() for key, value in net.state_dict().items() if ".sca." not in key}
    for name, mean in means.items():
        weights[f"{name}.conv3.weight"] *= mean
    plain = NAFNet(replace(net.spec, attention=False))
    plain.load_state_dict(weights)
    return plain
