"""Objectives against each other and against closed forms; engines against each other."""

import shutil
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.mixture import Mixture
from wasserflow._core.autograd import value_and_gradient
from wasserflow.nn.potential import Potential, build_energy
from wasserflow.path import Linear, LogHomotopy, VariancePreserving
from wasserflow.potential.engine import ENGINES
from wasserflow.potential.objective import OBJECTIVES, draw, ends, pair, time_scored

EXACT_ENGINES = ["double-backward", "func", "jvp"]


def potential(shape, network, head, path=None, dtype=torch.float64):
    torch.manual_seed(0)
    path = path or Linear()
    model = Potential(build_energy(network, head, shape, 4, 2, scale=3.0), shape, path).to(dtype)
    model.standardise(torch.randn(50, *shape, dtype=dtype) * 0.5 + 0.3)
    return model


def points(shape, path=None, n=6, dtype=torch.float64, **settings):
    rng = torch.Generator().manual_seed(1)
    x1, eps = torch.randn(2, n, *shape, generator=rng, dtype=dtype)
    t = torch.linspace(0.1, 0.9, n, dtype=dtype)
    return draw(path or Linear(), x1, eps, t, **settings)


def weight_gradients(engine, model, d, objective):
    model.zero_grad()
    value, losses = ENGINES[engine](model, d, OBJECTIVES[objective])
    for loss in losses:
        loss.backward()
    return value, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


CASES = [((2, 7, 6), "encoder", "scalar"), ((3,), "mlp", "autoencoder"), ((3,), "mlp", "dot")]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("shape", "network", "head"), CASES)
def test_engines_agree(objective, shape, network, head):
    model, d = potential(shape, network, head), points(shape, weight="s")
    value, expected = weight_gradients("double-backward", model, d, objective)
    for engine in EXACT_ENGINES[1:]:
        same, found = weight_gradients(engine, model, d, objective)
        torch.testing.assert_close(same, value, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10 * expected.abs().max().item())
    same, found = weight_gradients("finite-difference", model, d, objective)
    torch.testing.assert_close(same, value, rtol=1e-10, atol=1e-10)
    assert (found - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize("objective", ["fm", "action-matching"])
@pytest.mark.parametrize("factor", [1.0, 1.5, 2.0])
def test_finite_differences_adapt_their_step_to_the_network(factor, objective):
    """A U-Net of float32 whose weights have grown: with a fixed step of 0.03 the error is tens of per cent."""
    shape = (1, 8, 8)
    torch.manual_seed(0)
    model = Potential(build_energy("unet", "dot", shape, 8, 1), shape, Linear())
    with torch.no_grad():
        for p in model.energy.parameters():
            p.add_(torch.randn(p.shape) * 0.05).mul_(factor)
    d = points(shape, n=16, dtype=torch.float32)
    _, expected = weight_gradients("double-backward", model, d, objective)
    _, found = weight_gradients("finite-difference", model, d, objective)
    assert (found - expected).norm() < 0.02 * expected.norm()


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_compiled_equals_eager():
    objective = "vapo-tmlr"  # which needs psi and both its slopes
    torch.manual_seed(0)
    model = Potential(build_energy("mlp", "scalar", (3,), 4, 1, scale=3.0), (3,), Linear())
    d = points((3,), dtype=torch.float32)
    value, expected = weight_gradients("double-backward", model, d, objective)
    same, found = weight_gradients("compiled", model, d, objective)
    torch.testing.assert_close(same, value, rtol=1e-5, atol=1e-6)
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_gradient_is_the_slope_without_a_graph():
    model, d = potential((3,), "mlp", "scalar"), points((3,))
    psi, g = value_and_gradient(model, d.x, d.t)
    assert not psi.requires_grad
    assert not g.requires_grad
    step = 1e-6 * torch.ones_like(d.x)
    slope = (model(d.x + step, d.t) - model(d.x - step, d.t)) / 2e-6
    torch.testing.assert_close(g.sum(1), slope.detach(), rtol=1e-6, atol=1e-6)


class Quadratic(nn.Module):
    """``psi = sum_k theta_k phi_k(x, t)``, linear in its weights: gradients of the objectives have a closed form."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([0.7, -0.4, 0.3, 0.5], dtype=torch.float64))

    def forward(self, x, t, label=None):
        half = x.square().sum(1) / 2
        return torch.stack([half, t * half, x[:, 0], t.square() * x[:, 1]], 1) @ self.theta

    def slopes(self, x, t):
        """``grad phi_k``, (4, N, 2)."""
        one, two = torch.eye(2, dtype=x.dtype)
        return torch.stack([x, t[:, None] * x, one.expand_as(x), t[:, None].square() * two])


MEAN, SIGMA, MARGIN = torch.tensor([0.8, -0.3], dtype=torch.float64), 0.6, 0.05


def exact_gradient(model, path, weight):
    """``d/d theta_k E_t w/2 E |grad psi - v|^2 / D`` for Gaussian data, by quadrature in t and moments in x."""
    t = torch.linspace(MARGIN, 1 - MARGIN, 2001, dtype=torch.float64)
    mu, s = path.mu(t), path.s(t)
    variance = (mu * SIGMA) ** 2 + s**2
    # The integrand is a polynomial of degree 2 in x: three Gauss-Hermite points per axis are exact.
    nodes = torch.tensor([-(3**0.5), 0.0, 3**0.5], dtype=torch.float64)
    weights = torch.tensor([1 / 6, 2 / 3, 1 / 6], dtype=torch.float64)
    total = torch.zeros(4, dtype=torch.float64)
    slope = (mu * path.mu_dot(t) * SIGMA**2 + s * path.s_dot(t)) / variance
    for i in range(3):
        for j in range(3):
            x = mu[:, None] * MEAN + variance.sqrt()[:, None] * torch.stack([nodes[i], nodes[j]])
            v = path.mu_dot(t)[:, None] * MEAN + slope[:, None] * (x - mu[:, None] * MEAN)
            basis = model.slopes(x, t)
            off = torch.einsum("k,knd->nd", model.theta.detach(), basis) - v
            w = s if weight == "s" else torch.ones_like(t)
            integrand = w * (basis * off).sum(2) / 2
            total += weights[i] * weights[j] * torch.trapezoid(integrand, t) / (1 - 2 * MARGIN)
    return total


@pytest.mark.parametrize("path", [Linear(), VariancePreserving(), LogHomotopy(nu=0.3)])
@pytest.mark.parametrize("weight", ["one", "s"])
@pytest.mark.parametrize("objective", ["fm", "vapo", "action-matching"])
def test_gradients_of_the_objectives_have_the_closed_form_as_their_mean(objective, weight, path):
    model, rng = Quadratic(), torch.Generator().manual_seed(0)
    found = []
    for _ in range(60):
        n = 2000
        x1 = MEAN + SIGMA * torch.randn(n, 2, generator=rng, dtype=torch.float64)
        eps = torch.randn(n, 2, generator=rng, dtype=torch.float64)
        t = MARGIN + (1 - 2 * MARGIN) * torch.rand(n, generator=rng, dtype=torch.float64)
        d = draw(path, x1, eps, t, weight=weight)
        model.zero_grad()
        _, losses = ENGINES["double-backward"](model, d, OBJECTIVES[objective])
        for loss in losses:
            loss.backward()
        if OBJECTIVES[objective].ends:
            ends(model, path, x1, eps, margin=MARGIN, weight=weight).backward()
        assert model.theta.grad is not None
        found.append(model.theta.grad.clone())
    mean, error = torch.stack(found).mean(0), torch.stack(found).std(0) / 60**0.5
    assert ((mean - exact_gradient(model, path, weight)).abs() < 4 * error + 1e-12).all()
    assert (error < 0.05).all()


@pytest.mark.parametrize("time", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("path", [Linear(), VariancePreserving(), LogHomotopy(nu=0.3)])
def test_the_innovation_term_integrated_by_parts(path, time):
    """``E[psi gamma | x1] = E[grad psi . v | x1]``, for a psi that is no polynomial, by Gauss-Hermite quadrature."""
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(60))
    eps, weight = torch.cartesian_prod(nodes, nodes), torch.cartesian_prod(weights, weights).prod(1)
    weight = weight / weight.sum()
    for x1 in torch.tensor([[0.8, -0.3], [-1.7, 0.4]], dtype=torch.float64):
        d = draw(path, x1.expand_as(eps), eps, torch.full((len(eps),), time, dtype=torch.float64))
        psi, slope = value_and_gradient(lambda x: (x[:, 0] - 0.4 * x[:, 1]).sin() * (x[:, 1] / 2).exp(), d.x)
        assert weight @ d.gamma == pytest.approx(0, abs=1e-10)
        by_innovation, by_velocity = weight @ (psi * d.gamma), weight @ (slope * d.v).sum(1)
        assert abs(by_velocity) > 0.01
        torch.testing.assert_close(by_innovation, by_velocity, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("path", [Linear(), LogHomotopy(nu=0.3)])
def test_the_published_covariance_at_one_time_has_that_mean_too(path):
    model, rng, n, time = Quadratic(), torch.Generator().manual_seed(0), 500, 0.4
    found = []
    for literal in [True] * 400 + [False] * 400:
        x1 = MEAN + SIGMA * torch.randn(n, 2, generator=rng, dtype=torch.float64)
        eps = torch.randn(n, 2, generator=rng, dtype=torch.float64)
        d = draw(path, x1, eps, torch.full((n,), time, dtype=torch.float64), literal=literal)
        model.zero_grad()
        next(ENGINES["double-backward"](model, d, OBJECTIVES["vapo"])[1]).backward()
        assert model.theta.grad is not None
        found.append(model.theta.grad.clone())
    published, exact = torch.stack(found[:400]), torch.stack(found[400:])
    error = (published.var(0) / 400 + exact.var(0) / 400).sqrt()
    assert ((published.mean(0) - exact.mean(0)).abs() < 4 * error).all()


def test_closed_form_tells_objectives_apart():
    """The published covariance over many times has another mean: the tests above can fail."""
    model, path, rng, n = Quadratic(), Linear(), torch.Generator().manual_seed(0), 100_000
    x1 = MEAN + SIGMA * torch.randn(n, 2, generator=rng, dtype=torch.float64)
    eps = torch.randn(n, 2, generator=rng, dtype=torch.float64)
    t = MARGIN + (1 - 2 * MARGIN) * torch.rand(n, generator=rng, dtype=torch.float64)
    d = draw(path, x1, eps, t, literal=True)
    next(ENGINES["double-backward"](model, d, OBJECTIVES["vapo"])[1]).backward()
    assert model.theta.grad is not None
    assert (model.theta.grad - exact_gradient(model, path, "one")).abs().max() > 0.3


@pytest.mark.parametrize(("time", "uncentred", "centred"), [(0.1, 1600, 54), (0.5, 2000, 58), (0.9, 9200, 235)])
def test_noise_of_the_innovation_against_that_of_the_velocity(time, uncentred, centred):
    """Samples of ``psi gamma`` and ``grad psi . v`` have one mean; psi = |x|^2/2, D = 3072, data of deviation 1/2."""
    rng, n, size = torch.Generator().manual_seed(0), 2000, 3072
    x1 = 0.5 * torch.randn(n, size, generator=rng)
    eps = torch.randn(n, size, generator=rng)
    d = draw(Linear(), x1, eps, torch.full((n,), time))
    psi = d.x.square().sum(1) / 2
    flat = ((d.x * d.v).sum(1)).std()
    assert abs(psi.mul(d.gamma).std() / flat / uncentred - 1) < 0.12
    assert abs((psi - psi.mean()).mul(d.gamma).std() / flat / centred - 1) < 0.12


@pytest.mark.parametrize("path", [Linear(), VariancePreserving()])
def test_time_score_vanishes_in_the_mean_at_the_exact_log_density(path):
    """Its gradient in a shift of psi is zero where psi holds the normalised log-density, and only there."""
    known = Mixture(path, torch.tensor([[1.0, 0.5], [-1.0, 0.0]], dtype=torch.float64), 0.4)

    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.zeros((), dtype=torch.float64))

        def forward(self, x, t, label=None):
            return path.potential(known.log_density(x, t), x, t) + self.shift * t

    rng, model, n = torch.Generator().manual_seed(0), Shifted(), 2000

    def slope():
        x1, eps = known.sample(n, rng), torch.randn(n, 2, generator=rng, dtype=torch.float64)
        d = draw(path, x1, eps, 0.1 + 0.8 * torch.rand(n, generator=rng, dtype=torch.float64))
        model.zero_grad()
        for loss in ENGINES["double-backward"](model, d, time_scored(OBJECTIVES["fm"], 1.0))[1]:
            loss.backward()
        assert model.shift.grad is not None
        return model.shift.grad.clone()

    slopes = torch.stack([slope() for _ in range(20)])
    error = slopes.std() / 20**0.5
    assert slopes.mean().abs() < 4 * error
    model.shift.data.fill_(1.0)
    assert slope() > 20 * error


def test_tmlr_follows_its_formula():
    model, d = potential((3,), "mlp", "autoencoder"), points((3,))
    x, t = d.x.clone().requires_grad_(), d.t.clone().requires_grad_()
    psi = model(x, t)
    g, rate = torch.autograd.grad(psi.sum(), (x, t))
    gamma = ((1 - t)[:, None] * (d.eps**2 - d.x1 * d.eps)).mean(1)
    gamma = gamma - gamma.mean()
    by_hand = (gamma * psi).mean() / (gamma.std() * psi.std()) + (g**2).mean() / 2 + 0.1 * (rate**2).mean()
    v = d.x1 - d.eps
    for i in range(len(x)):
        by_hand = by_hand - (g[i] @ v[i]) / 3 / (g[i].norm() * v[i].norm()) ** t[i] / len(x)
    value, _ = ENGINES["double-backward"](model, d, OBJECTIVES["vapo-tmlr"])
    torch.testing.assert_close(value, by_hand.detach(), rtol=1e-6, atol=1e-6)


def test_pairing_is_the_cheapest_and_keeps_the_noise():
    rng = torch.Generator().manual_seed(0)
    x1, eps = torch.randn(2, 6, 2, generator=rng)
    paired = pair(x1, eps)
    assert sorted(map(tuple, paired.tolist())) == sorted(map(tuple, eps.tolist()))
    costs = [(x1 - eps[list(order)]).square().sum() for order in permutations(range(6))]
    torch.testing.assert_close((x1 - paired).square().sum(), min(costs))


def test_gaussian_data_leave_the_network_nothing_to_learn():
    for path in (Linear(), VariancePreserving(), LogHomotopy(nu=0.2)):
        model = Potential(build_energy("mlp", "scalar", (3,), 4, 1), (3,), path).double()
        x = torch.randn(50, 3, dtype=torch.float64) * 0.4 + torch.tensor([1.0, 0.0, -2.0])
        model.standardise(x)
        nn.init.zeros_(model.get_parameter("energy.head.layer.weight"))
        mean, sd = x.mean(0), (x - x.mean(0)).square().mean().sqrt()
        t = torch.rand(50, dtype=torch.float64) * 0.9 + 0.05
        _, v = value_and_gradient(model, x, t)
        torch.testing.assert_close(v, Mixture(path, mean[None], float(sd)).velocity(x, t))
