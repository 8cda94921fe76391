"""Time-conditioned networks: shapes, second derivatives, points on their own."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from wasserflow.nn.timed import Encoder, TimedMLP

NETWORKS = {
    "mlp": ((3,), lambda classes: TimedMLP((3,), 8, classes=classes)),
    "encoder": ((2, 7, 6), lambda classes: Encoder((2, 7, 6), 4, depth=2, classes=classes)),
}


def build(name, classes=0):
    shape, make = NETWORKS[name]
    torch.manual_seed(0)
    return shape, make(classes).double()


@pytest.mark.parametrize("name", NETWORKS)
def test_features(name):
    shape, network = build(name)
    out = network(torch.randn(5, *shape, dtype=torch.float64), torch.rand(5, dtype=torch.float64))
    assert out.shape == (5, network.features)


@pytest.mark.parametrize("name", NETWORKS)
def test_first_and_second_derivatives_in_x_and_t(name):
    shape, network = build(name)
    x = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    t = torch.tensor([2e-3, 7e-3], dtype=torch.float64, requires_grad=True)
    direction = torch.randn(network.features, dtype=torch.float64)

    def value(x, t):
        return network(x, t) @ direction

    assert gradcheck(value, (x, t))
    assert gradgradcheck(value, (x, t))


@pytest.mark.parametrize("name", NETWORKS)
def test_points_do_not_mix_and_the_time_matters(name):
    shape, network = build(name)
    x, t = torch.randn(5, *shape, dtype=torch.float64), torch.rand(5, dtype=torch.float64)
    together = network(x, t)
    torch.testing.assert_close(together[1:3], network(x[1:3], t[1:3]))
    assert not torch.allclose(together, network(x, t + 0.01))


@pytest.mark.parametrize("name", NETWORKS)
def test_labels(name):
    shape, network = build(name, classes=3)
    x, t = torch.randn(4, *shape, dtype=torch.float64), torch.rand(4, dtype=torch.float64)
    none = network(x, t)
    torch.testing.assert_close(none, network(x, t, torch.full((4,), -1)))
    assert not torch.allclose(none, network(x, t, torch.tensor([0, 1, 2, 0])))
