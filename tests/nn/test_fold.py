"""Folding a resize into a convolution changes the order of sums and nothing else."""

from typing import Any

import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d, interpolate

from wasserflow.nn.fold import convolve_and_halve, enlarge_and_convolve
from wasserflow.nn.resnet import _DownBlock, _UpBlock, resnet_pair, resnet_plain_pair

EXACT: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-10}


def draw(*shape, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64, requires_grad=True)


def halve(x, weight):
    return avg_pool2d(conv2d(x, weight, padding=1), 2, ceil_mode=True)


def enlarge(size):
    return lambda x, weight: conv2d(interpolate(x, size, mode="nearest"), weight, padding=1)


@pytest.mark.parametrize("size", [(2, 2), (8, 6), (7, 7), (8, 5), (1, 4)])
def test_convolve_and_halve(size):
    same_to_the_second_order(convolve_and_halve, halve, draw(2, 3, *size))


@pytest.mark.parametrize(("size", "to"), [((4, 4), (8, 8)), ((3, 5), (6, 10)), ((4, 4), (7, 7)), ((4, 3), (8, 5))])
def test_enlarge_and_convolve(size, to):
    same_to_the_second_order(lambda x, w: enlarge_and_convolve(x, w, to), enlarge(to), draw(2, 3, *size))


def same_to_the_second_order(folded, literal, x):
    """Values, gradients of a nonlinear loss, and gradients of their norm, as gradient penalties take them."""
    weight = draw(4, 3, 3, 3, seed=1)

    def derivatives(function):
        y = function(x, weight)
        first = torch.autograd.grad(y.pow(3).sum(), (x, weight), create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), (x, weight))
        return y, *first, *second

    torch.testing.assert_close(derivatives(folded), derivatives(literal), **EXACT)


def test_even_sizes_take_one_kernel_of_four_by_four():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        convolve_and_halve(draw(1, 3, 8, 6), draw(4, 3, 3, 3))
        enlarge_and_convolve(draw(1, 3, 4, 3), draw(4, 3, 3, 3), (8, 6))
    assert {(4, 3, 4, 4), (3, 4, 4, 4)} <= {tuple(shape) for shape in kept}


def literal_down(block, x):
    """The block as the paper draws it."""
    x = x if block.first else x.relu()
    x = block.conv2(block.conv1(x).relu()) + block.skip(x)
    return avg_pool2d(x, 2, ceil_mode=True) if block.down else x


def literal_up(block, x):
    x = block.resize(x.relu())
    return block.conv2(block.norm(block.conv1(x)).relu()) + block.skip(x)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 9, 14)])
@pytest.mark.parametrize("build", [resnet_pair, resnet_plain_pair])
def test_resnet_is_the_literal_one(build, shape, training, monkeypatch):
    """With spectral norm at work, whose power iterations both forms take once per pass."""
    torch.manual_seed(0)
    pair = [net.double().train(training) for net in build(shape, 8, 4)]
    inputs = [draw(3, 8), draw(3, *shape)]
    states = [{name: value.clone() for name, value in net.state_dict().items()} for net in pair]

    def derivatives():
        results = []
        for net, state, x in zip(pair, states, inputs, strict=True):
            net.load_state_dict(state)
            y = net(x)
            results.append((y, *torch.autograd.grad(y.square().sum(), (x, *net.parameters()))))
            results.append(tuple(net.buffers()))
        return results

    folded = derivatives()
    monkeypatch.setattr(_DownBlock, "forward", literal_down)
    monkeypatch.setattr(_UpBlock, "forward", literal_up)
    torch.testing.assert_close(folded, derivatives(), **EXACT)
