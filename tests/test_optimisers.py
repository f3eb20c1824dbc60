"""Muon's step is orthogonal, as large as AdamW's, and taken where a weight is a matrix."""

import pytest
import torch
from torch import nn

from rngcli.errors import UsageError
from rngcli.nets.nafnet import NAFNet
from rngcli.training.optim import Muon, optimisers, orthogonal
from tests.tiny import WIDER


@pytest.mark.parametrize("shape", [(3, 32, 64), (2, 64, 16), (1, 24, 24)])
def test_orthogonal_keeps_the_directions_and_levels_their_lengths(shape):
    rng = torch.Generator().manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape, generator=rng), full_matrices=False)
    lengths = torch.logspace(0, -1.5, u.shape[-1])
    levelled = orthogonal(3 * u @ torch.diag(lengths) @ v)
    assert levelled.shape == shape
    assert levelled.dtype == torch.float32
    along = (u.mT @ levelled @ v.mT).diagonal(dim1=-2, dim2=-1)
    assert 0.6 < along.min() <= along.max() < 1.3
    assert (u.mT @ levelled @ v.mT - torch.diag_embed(along)).abs().max() < 0.05


def test_a_matrix_of_no_gradient_stays():
    assert not orthogonal(torch.zeros(1, 16, 16)).any()


def test_each_weight_has_one_optimiser_and_only_mixing_layers_have_muon():
    net = NAFNet(WIDER)
    names = {id(w): name for name, w in net.named_parameters()}
    adamw, muon = optimisers(net, "muon", 1e-3, 0.0)
    theirs = [[names[id(w)] for group in o.param_groups for w in group["params"]] for o in (adamw, muon)]
    assert sorted(theirs[0] + theirs[1]) == sorted(names.values())
    assert "middle_blks.0.conv1.weight" in theirs[1]
    assert "downs.0.weight" in theirs[1]
    assert not any(part in name for name in theirs[1] for part in ("intro", "ending", "conv2", "norm", "beta", "bias"))
    (alone,) = optimisers(net, "adamw", 1e-3, 0.0)
    assert len(alone.param_groups[0]["params"]) == len(names)


def test_a_step_is_as_long_as_one_of_adamw_whatever_the_gradient():
    for scale in (1e-6, 1e3):
        weight = nn.Parameter(torch.zeros(32, 16, 2, 2))
        weight.grad = scale * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        Muon([weight], lr=1e-2, weight_decay=0.0).step()
        assert weight.detach().square().mean().sqrt().item() == pytest.approx(0.2 * 1e-2, rel=0.2)
        assert (weight * weight.grad).sum() < 0, "downhill"


def test_muon_learns_what_hardly_shows_in_the_gradient():
    """A linear map seen through inputs whose directions differ a hundredfold in strength."""
    rng = torch.Generator().manual_seed(0)
    turn, _ = torch.linalg.qr(torch.randn(16, 16, generator=rng))
    x = torch.randn(256, 16, generator=rng) * torch.logspace(0, -2, 16) @ turn
    truth = torch.randn(16, 16, generator=rng)
    left = {}
    for name in ("muon", "adamw"):
        net = nn.Linear(16, 16, bias=False)
        nn.init.zeros_(net.weight)
        moving = optimisers(net, name, 0.0, 0.0)[-1]
        for step in range(300):
            moving.param_groups[0]["lr"] = 0.1 * (1 - step / 300)
            net.zero_grad()
            (net(x) - x @ truth.T).square().mean().backward()
            moving.step()
        left[name] = (net.weight - truth).square().mean().item()
    assert left["muon"] < 0.5 * left["adamw"]


def test_an_unknown_one_is_refused():
    with pytest.raises(UsageError, match="unknown optimiser 'sgd'"):
        optimisers(NAFNet(WIDER), "sgd", 1e-3, 0.0)
