"""The field of a ratio is the Wasserstein gradient: it lowers KL(q|p) at the rate the theory gives."""

from typing import Any

import pytest
import torch

from wasserflow.divergence import CATALOGUE, alpha, define_map, named
from wasserflow.field.known_ratio import RatioField
from wasserflow.flows import flow

F64: dict[str, Any] = {"dtype": torch.float64}
ROWS = (*CATALOGUE, named("vanilla").shifted(3.0), alpha(-0.7), alpha(0.3), define_map("kink", lambda d: d + d.relu()))
rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name}+{row.shift}" if row.shift else row.name)


class GaussianRatio:
    """``log p/q`` of p = N(0, I) and q = N(mean, var I), exact."""

    def __init__(self, mean, var):
        self.mean, self.var = mean, var

    def __call__(self, x):
        d = x.shape[1]
        log_p = -0.5 * x.square().sum(1)
        log_q = -0.5 * (x - self.mean).square().sum(1) / self.var - 0.5 * d * torch.log(torch.tensor(self.var, **F64))
        return log_p - log_q


@rows
def test_velocity_is_the_gradient_of_h(row):
    ratio = GaussianRatio(torch.tensor([1.0, -0.5], **F64), 0.6)
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), **F64)
    y = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(row.h(ratio(y)).sum(), y)
    torch.testing.assert_close(RatioField(ratio, row)(x), gradient)


@rows
def test_dissipation_at_a_gaussian(row):
    """dKL(q_t|p)/dt = -E_q[s(d) |grad d|^2] at t = 0.

    Under x -> x + t v(x) the KL becomes E_q[-log(1 + t v'(x)) + (x + t v(x))^2 / 2] plus a constant. Its slope,
    by central differences and quadrature in one dimension, knows nothing of the identity that is tested.
    """
    ratio = GaussianRatio(torch.tensor([0.8], **F64), 0.7)
    x = torch.linspace(-9, 11, 200_001, **F64)
    q = torch.exp(-0.5 * (x - 0.8) ** 2 / 0.7) / (2 * torch.pi * 0.7) ** 0.5
    v = RatioField(ratio, row)(x[:, None])[:, 0]
    slope_of_v = torch.gradient(v, spacing=(x,))[0]

    def kl_moved(t):
        return torch.trapezoid(q * (-torch.log1p(t * slope_of_v) + 0.5 * (x + t * v) ** 2), x)

    t = 1e-7
    slope = (kl_moved(t) - kl_moved(-t)) / (2 * t)
    dissipation = torch.trapezoid(q * v**2 / row.rate(ratio(x[:, None])), x)
    assert slope.item() == pytest.approx(-dissipation.item(), rel=1e-4)


def test_gaussian_flow_has_its_closed_form():
    """With p = N(0, 1) and q_t = N(m_t, s_t^2), the KL flow keeps q Gaussian: m' = -m, (s^2)' = 2 (1 - s^2)."""
    state = {"m": 2.0, "v": 0.25}
    x = torch.linspace(-1, 1, 11, **F64)[:, None]

    def field(points, t):
        m, v = 2.0 * torch.exp(torch.tensor(-t, **F64)), 1 + (0.25 - 1) * torch.exp(torch.tensor(-2 * t, **F64))
        return RatioField(GaussianRatio(m, v.item()), named("kl"))(points)

    m1, v1 = state["m"] * torch.exp(torch.tensor(-1.0)), 1 - 0.75 * torch.exp(torch.tensor(-2.0))
    exact = m1 + (v1 / 0.25).sqrt() * (x - 2.0)  # the affine map between the two Gaussians
    moved = flow(x, field, steps=100, step_size=0.01, solver="rk4")
    torch.testing.assert_close(moved, exact.double(), rtol=1e-6, atol=1e-6)


def test_particle_step_leaves_parameters_alone():
    net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.SiLU(), torch.nn.Linear(8, 1), torch.nn.Flatten(0))
    with torch.no_grad():
        v = RatioField(net, named("logd"))(torch.randn(5, 2))
    assert v.shape == (5, 2)
    assert not v.requires_grad
    assert all(p.grad is None for p in net.parameters())


def test_bound_field_equals_the_field():
    ratio = GaussianRatio(torch.tensor([1.0, 0.0], **F64), 2.0)
    field = RatioField(ratio, named("js"))
    x = torch.randn(7, 2, **F64)
    torch.testing.assert_close(field.at(x, 0.3)(x), field(x, 0.3))


def test_binding_freezes_the_weights_of_a_module():
    """Parameters and buffers changed afterwards, in place and by training, move the field and not the velocity."""
    net = torch.nn.Sequential(
        torch.nn.Linear(2, 8), torch.nn.BatchNorm1d(8), torch.nn.SiLU(), torch.nn.Linear(8, 1), torch.nn.Flatten(0)
    ).eval()
    field, x = RatioField(net, "js"), torch.randn(6, 2)
    velocity = field.at(x)
    before = velocity(x)
    assert torch.equal(before, field(x))
    with torch.no_grad():
        for value in (*net.parameters(), *net.buffers()):
            value.add_(1)
    assert torch.equal(velocity(x), before)
    assert not torch.equal(field(x), before)


def test_other_callables_are_used_as_they_are():
    scale = [1.0]
    velocity = RatioField(lambda x: scale[0] * x.square().sum(1), "kl").at(torch.zeros(1, 2))
    before = velocity(torch.ones(1, 2))
    scale[0] = 2.0
    torch.testing.assert_close(velocity(torch.ones(1, 2)), 2 * before)
