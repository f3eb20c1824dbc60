"""The networks have the shapes that the papers give, take any size, and see no tile."""

import math

import pytest
import torch
from torch.nn import functional as F

from rngcli.errors import ModelError
from rngcli.nets.bands import BandController, BandSpec
from rngcli.nets.controller import Controller, ControllerSpec
from rngcli.nets.folding import folded, plain_convolutions
from rngcli.nets.fusion import FusionNet, FusionSpec
from rngcli.nets.nafnet import NAFNet, NAFNetSpec, without_attention
from rngcli.nets.unet import UNet, UNetSpec
from rngcli.nets.windows import window_mean
from tests.tiny import GEN, NAF, scramble


def published_keys(width, encoder, middle, decoder):
    """The key list of the authors' checkpoints, written down from their architecture file."""
    keys = {
        "intro.weight": (width, 3, 3, 3),
        "intro.bias": (width,),
        "ending.weight": (3, width, 3, 3),
        "ending.bias": (3,),
    }

    def block(prefix, c):
        for conv, shape in {
            "conv1": (2 * c, c, 1, 1), "conv2": (2 * c, 1, 3, 3), "conv3": (c, c, 1, 1), "sca.1": (c, c, 1, 1),
            "conv4": (2 * c, c, 1, 1), "conv5": (c, c, 1, 1),
        }.items():  # fmt: skip
            keys[f"{prefix}.{conv}.weight"], keys[f"{prefix}.{conv}.bias"] = shape, shape[:1]
        for norm in ("norm1", "norm2"):
            keys[f"{prefix}.{norm}.weight"] = keys[f"{prefix}.{norm}.bias"] = (c,)
        keys[f"{prefix}.beta"] = keys[f"{prefix}.gamma"] = (1, c, 1, 1)

    c = width
    for level, blocks in enumerate(encoder):
        for i in range(blocks):
            block(f"encoders.{level}.{i}", c)
        keys[f"downs.{level}.weight"], keys[f"downs.{level}.bias"] = (2 * c, c, 2, 2), (2 * c,)
        c *= 2
    for i in range(middle):
        block(f"middle_blks.{i}", c)
    for level, blocks in enumerate(decoder):
        keys[f"ups.{level}.0.weight"] = (2 * c, c, 1, 1)
        c //= 2
        for i in range(blocks):
            block(f"decoders.{level}.{i}", c)
    return keys


def test_nafnet_sidd_width32_has_the_published_keys_and_shapes():
    net = NAFNet(NAFNetSpec())
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    assert shapes == published_keys(32, (2, 2, 4, 8), 12, (2, 2, 2, 2))
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(29.16e6, rel=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (17, 16), (64, 33)])
def test_nafnet_takes_any_size(size):
    x = torch.rand(2, 3, *size)
    assert scramble(NAFNet(NAF))(x).shape == x.shape


@pytest.mark.parametrize("radius", [1, 2, 8, 16])
def test_the_mean_of_a_window_is_pooling_s(radius):
    x = torch.rand(2, 3, 37, 21, dtype=torch.float64)
    pooled = F.avg_pool2d(x, 2 * radius + 1, 1, radius, count_include_pad=False)
    torch.testing.assert_close(window_mean(x, radius), pooled, rtol=0, atol=1e-14)


def test_the_mean_of_a_window_is_the_same_to_the_bit_in_a_part_of_the_picture():
    x = torch.rand(1, 3, 60, 50)
    part = window_mean(x[..., 7:55, 3:41], 8)
    assert torch.equal(part[..., 8:-8, 8:-8], window_mean(x, 8)[..., 15:47, 11:33])


def test_the_generator_conditions_on_what_its_spec_says():
    d, x, r, gamma = (
        torch.randn(2, 3, 32, 32),
        torch.rand(2, 3, 32, 32),
        torch.rand(2, 3, 32, 32),
        torch.tensor([0.2, 0.9]),
    )
    for condition, sees_x, sees_r in (("noisy", True, False), ("reconstruction", False, True), ("both", True, True)):
        net = scramble(UNet(UNetSpec(8, (1,), 1, (1,), condition=condition, embedding=16)))

        def answer(x, r, net=net):
            return net(d, net.condition(x, r), gamma)

        assert (not torch.equal(answer(x, r), answer(1 - x, r))) == sees_x
        assert (not torch.equal(answer(x, r), answer(x, 1 - r))) == sees_r


def test_the_generator_hears_the_noise_level():
    net = scramble(UNet(GEN))
    d, c = torch.randn(1, 3, 32, 32), torch.rand(1, 6, 32, 32)
    assert not torch.allclose(net(d, c, torch.tensor([0.5])), net(d, c, torch.tensor([0.6])), atol=1e-4)


def test_the_generator_sees_a_neighbourhood_and_no_tile():
    net = scramble(UNet(GEN))
    d, c, gamma = torch.randn(1, 3, 128, 128), torch.rand(1, 6, 128, 128), torch.tensor([0.5])
    whole = net(d, c, gamma)
    part = net(d[..., 32:96, 32:96], c[..., 32:96, 32:96], gamma)
    inner = slice(24, 40)
    torch.testing.assert_close(part[..., inner, inner], whole[..., 32:96, 32:96][..., inner, inner], atol=1e-5, rtol=0)


def test_the_controller_is_the_papers_and_small():
    net = Controller(ControllerSpec()).eval()
    assert len(net.blocks) == 8
    assert net(torch.rand(2, 3, 256, 256)).shape == (2, 11)
    assert sum(p.numel() for p in net.parameters()) < 0.05 * 5.3e6
    assert net.budget(torch.rand(3, 3, 64, 64)).shape == (3,)


def test_a_controller_sees_the_noisy_tile_or_what_the_reconstruction_makes_of_it():
    x, r, other = torch.rand(3, 2, 3, 64, 64)
    for condition, sees_r in (("noisy", False), ("parts", True)):
        net = scramble(Controller(ControllerSpec(condition=condition))).eval()
        logits = [net(net.condition(x, tile)) for tile in (r, other)]
        assert torch.equal(logits[0], logits[1]) is not sees_r
        assert not torch.equal(logits[0], net(net.condition(other, r)))


def test_bands_tell_how_strong_the_noise_is_and_how_sharp_the_picture():
    rng = torch.Generator().manual_seed(0)
    noise, texture = torch.randn(2, 1, 3, 128, 128, generator=rng)
    grey = texture.mean(1, keepdim=True).expand_as(texture)
    net, r = BandController(BandSpec()), 0.5 + 0.01 * grey
    of_noise, of_light, of_colour = slice(0, 6), slice(6, 9), slice(9, 12)
    once, twice = (net.condition(r + s * noise, r) for s in (0.3, 0.6))
    assert once.shape == (1, 12, 8, 8)
    torch.testing.assert_close((twice - once)[:, of_noise], torch.full((1, 6, 8, 8), math.log(2)), atol=0.01, rtol=0)
    assert torch.equal(twice[:, 6:], once[:, 6:]), "the noise does not tell of the picture"
    assert (once[:, of_colour] < -6.8).all(), "grey has no colour: the floor, 0.5·log(1e-6)"
    fine, coarse = once[:, of_light].mean(dim=(2, 3))[0, [0, 2]]
    assert fine > coarse + 0.5, "white texture has most in the finest octave"


def test_a_band_controller_takes_tiles_of_any_size_and_does_not_look_at_where_things_are():
    net = scramble(BandController(BandSpec()))
    for height, width in ((16, 16), (47, 80), (256, 256)):
        x, r = torch.rand(2, 2, 3, height, width)
        assert net(net.condition(x, r)).shape == (2, 11)
    seen = net.condition(x, r)
    torch.testing.assert_close(net(seen), net(seen.flip(2)), atol=1e-5, rtol=1e-5)
    assert net.budget(seen).shape == (2,)


def test_an_uneven_tile_is_told_from_an_even_one_of_the_same_energy():
    net = BandController(BandSpec())
    even = torch.full((1, 12, 4, 4), -3.0)
    uneven = even.clone()
    uneven[..., :2] = -3.0 + 0.5 * math.log(1.9)
    uneven[..., 2:] = -3.0 + 0.5 * math.log(0.1)
    (overall, typical), (other_overall, other_typical) = (net.statistics(x).chunk(2, dim=1) for x in (even, uneven))
    torch.testing.assert_close(overall, other_overall)
    assert (typical > other_typical + 0.2).all()


def test_a_fusion_net_starts_as_the_reconstruction_of_the_fused_picture():
    nafnet = scramble(NAFNet(NAF))
    rng = torch.Generator().manual_seed(0)
    y = torch.rand(1, 3, 64, 64, generator=rng)
    x = y + 0.1 * torch.randn(y.shape, generator=rng)
    net = FusionNet.from_reconstruction(nafnet, 0.05, x)
    d_t, gamma = torch.randn(y.shape, generator=rng), torch.tensor([0.5])  # σ = 1, so z has noise of 0.05
    v = net(d_t, net.condition(x, y), gamma)
    found = y + 0.05 * (gamma.sqrt() * d_t - (1 - gamma).sqrt() * v)
    z = y + 0.05 * d_t / gamma.sqrt()
    # Precisions 1/0.1² and 1/0.05²: one part of x to four of z, but for what 17×17 samples say about x's noise.
    torch.testing.assert_close(found, without_attention(nafnet, x)(0.2 * x + 0.8 * z), atol=0.02, rtol=0)


def test_without_attention_a_net_answers_its_examples_as_before_and_sees_only_what_is_near():
    nafnet, x = scramble(NAFNet(NAF)).eval(), torch.rand(1, 3, 64, 64)
    plain = without_attention(nafnet, x)
    torch.testing.assert_close(plain(x), nafnet(x), atol=1e-5, rtol=1e-4)
    assert not nafnet.encoders[0][0].sca._forward_hooks
    far = torch.cat([torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 256), x], dim=3)
    other = torch.cat([torch.rand(1, 3, 64, 64), far[..., 64:]], dim=3)
    torch.testing.assert_close(plain(far)[..., -64:], plain(other)[..., -64:], atol=0, rtol=0)
    assert not torch.equal(nafnet(far)[..., -64:], nafnet(other)[..., -64:])


def test_a_fusion_net_of_no_noise_in_x_trusts_x():
    net = FusionNet(FusionSpec(4, (1,), 1, (1,), sigma_d=0.05))
    torch.nn.init.zeros_(net.denoiser.ending.weight)
    torch.nn.init.zeros_(net.denoiser.ending.bias)
    x, d_t, gamma = torch.rand(1, 3, 32, 32), torch.randn(1, 3, 32, 32), torch.tensor([0.5])
    v = net(d_t, net.condition(x, x), gamma)
    torch.testing.assert_close(v, gamma.sqrt() * d_t / (1 - gamma).sqrt(), atol=1e-4, rtol=0)  # d̃_0 = 0


@pytest.mark.parametrize("attention", [True, False])
def test_a_folded_network_is_the_same_function(attention):
    net = scramble(NAFNet(NAFNetSpec(8, (1, 2), 1, (1, 1), attention=attention)))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    plain = folded(net)
    x = torch.rand(2, 3, 32, 40)
    torch.testing.assert_close(plain(x), net(x), atol=2e-6, rtol=0)
    with torch.inference_mode():
        packed = plain(x)
        assert torch.equal(packed, plain(x)), "what is overwritten is none of the network's inputs"
        torch.testing.assert_close(packed, net(x), atol=2e-6, rtol=0)
        with plain_convolutions():
            torch.testing.assert_close(packed, plain(x), atol=2e-6, rtol=0)
        halves = torch.cat([plain(x[:1]), plain(x[1:])])
        torch.testing.assert_close(packed, halves, atol=2e-6, rtol=0)
    assert all(torch.equal(net.state_dict()[key], value) for key, value in before.items()), "the original is as it was"
    left = {key.split(".")[-2] for key in plain.state_dict()} | {key.split(".")[-1] for key in plain.state_dict()}
    assert not left & {"norm1", "norm2", "beta", "gamma"}


def test_a_generator_is_folded_too():
    net = scramble(FusionNet(FusionSpec(8, (1,), 1, (1,), attention=False)))
    d_t, condition, gamma = torch.randn(2, 3, 32, 32), torch.rand(2, 6, 32, 32), torch.tensor([0.3, 0.9])
    torch.testing.assert_close(folded(net)(d_t, condition, gamma), net(d_t, condition, gamma), atol=1e-4, rtol=1e-5)
    unet = scramble(UNet(GEN))
    assert [type(m) for m in folded(unet).modules()] == [type(m) for m in unet.modules()], "its norms know the level"


def test_an_embedding_has_a_sine_for_each_cosine():
    with pytest.raises(ModelError, match="even embedding"):
        UNetSpec(embedding=5)
