"""Time-conditioned networks: shapes, second derivatives, points on their own."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from wasserflow.nn.timed import Encoder, TimedMLP

NETWORKS = {
    "mlp": ((3,), lambda classes: TimedMLP((3,), 8, classes=classes)),
    "encoder": ((2, 7, 6), lambda classes: Encoder((2, 7, 6), 4, depth=2, classes=classes)),
    "energies": ((2, 7, 6), lambda classes: Encoder((2, 7, 6), 4, depth=2, classes=classes, energies=True)),
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


def test_slopes_of_energies_are_linear_filters():
    """As those of a normal law's log density are, and as no other feature's is; those of the largest maps are the same
    at any place."""
    width, shape = 4, (2, 8, 8)
    torch.manual_seed(0)
    network = Encoder(shape, width, energies=True).double()
    scales = 2 * width  # maps of 4 and of 2 pixels a side
    x = torch.randn(3, *shape, dtype=torch.float64)
    x[2] = (x[0] + x[1]) / 2
    x.requires_grad_()
    out = network(x, torch.full((3,), 0.4, dtype=torch.float64))
    for part, linear in ((slice(-scales, None), True), (slice(None, -scales), False)):
        (slope,) = torch.autograd.grad(out[:, part].sum(), x, retain_graph=True)
        assert torch.allclose(slope[2], (slope[0] + slope[1]) / 2) is linear
    shifted = torch.zeros(2, *shape, dtype=torch.float64)
    shifted[0, :, 2:4, 2:4] = shifted[1, :, 4:6, 4:6] = x[0, :, 2:4, 2:4].detach()
    out = network(shifted, torch.full((2,), 0.4, dtype=torch.float64))[:, -scales:]
    torch.testing.assert_close(out[0, :width], out[1, :width])


@pytest.mark.parametrize("side", [16, 64, 128])
def test_the_slope_of_the_energies_witness_depends_little_on_the_size(side):
    """Between noise and noise nine tenths as strong, for a new network."""
    torch.manual_seed(0)
    network = Encoder((3, side, side), 32, energies=True)
    energies = 32 * network.scales
    x = torch.randn(16, 3, side, side, requires_grad=True)
    t = torch.full((16,), 0.5)
    u, v = network(x, t)[:, -energies:], network(0.9 * x, t)[:, -energies:]
    (slope,) = torch.autograd.grad((u @ (u - v).mean(0).detach()).sum(), x)
    assert 0.3 < slope.flatten(1).norm(dim=1).mean() < 3
