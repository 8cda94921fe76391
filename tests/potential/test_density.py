"""Log-densities and likelihoods read off the exact potential of a mixture are those of the mixture."""

import pytest
import torch
from torch import nn

from benchmarks.mixture import Mixture
from wasserflow.path import Linear, VariancePreserving
from wasserflow.potential.density import flow_log_likelihood, log_density


class Exact(nn.Module):
    """The potential of a mixture in closed form; half a unit more at every time, which changes nothing."""

    def __init__(self, mixture):
        super().__init__()
        self.mixture = mixture

    def forward(self, x, t, label=None):
        t = t.clamp(min=1e-3)
        return self.mixture.path.potential(self.mixture.log_density(x, t), x, t) + 0.5


def mixture(path, d=2, dtype=torch.float64):
    means = torch.randn(3, d, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return Mixture(path, means, 0.4)


def test_the_oracle_solves_its_own_equations():
    """Its velocity is the path's image of its density's slope, and its density is that of its samples."""
    known = mixture(Linear())
    x = torch.randn(40, 2, dtype=torch.float64).requires_grad_()
    t = torch.linspace(0.1, 0.9, 40, dtype=torch.float64)
    (score,) = torch.autograd.grad(known.log_density(x, t).sum(), x)
    torch.testing.assert_close(known.velocity(x.detach(), t), known.path.velocity_from_score(score, x, t).detach())
    grid = torch.linspace(-6, 6, 301, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    mass = known.log_density(points, torch.full((len(points),), 0.7, dtype=torch.float64)).exp().sum() * 0.04**2
    assert abs(mass - 1) < 1e-6


@pytest.mark.parametrize("path", [Linear(), VariancePreserving()])
def test_log_density_is_that_of_the_blurred_data(path):
    known, t = mixture(path), 0.8
    x = known.sample(50, torch.Generator().manual_seed(1))
    mu, s = (f(torch.tensor(t, dtype=torch.float64)) for f in (path.mu, path.s))
    blurred = Mixture(path, known.means, float((known.sd**2 + (s / mu) ** 2).sqrt()))
    expected = blurred.log_density(x, torch.ones(50, dtype=torch.float64))
    found = log_density(Exact(known), path, x, t)
    torch.testing.assert_close(found - found.mean(), expected - expected.mean())


@pytest.mark.parametrize("path", [Linear(), VariancePreserving()])
def test_flow_likelihood_is_the_density_at_the_end(path):
    known = mixture(path)
    x = known.sample(20, torch.Generator().manual_seed(1))
    expected = known.log_density(x, torch.full((20,), 0.95, dtype=torch.float64))
    found, start = flow_log_likelihood(Exact(known), path, x, steps=200, probes=None, end=0.95)
    assert start.shape == x.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3)


def test_hutchinson_is_unbiased_and_points_have_probes_of_their_own():
    known = mixture(Linear(), d=4)
    x = known.sample(6, torch.Generator().manual_seed(1))
    exact, _ = flow_log_likelihood(Exact(known), known.path, x, steps=20, probes=None, end=0.9)
    estimates = torch.stack(
        [flow_log_likelihood(Exact(known), known.path, x, steps=20, probes=8, end=0.9, seed=i)[0] for i in range(24)]
    )
    error = estimates.std(0) / 24**0.5
    assert ((estimates.mean(0) - exact).abs() < 4 * error + 1e-9).all()
    parts = [flow_log_likelihood(Exact(known), known.path, x[i : i + 3], steps=20, end=0.9, first=i)[0] for i in (0, 3)]
    whole, _ = flow_log_likelihood(Exact(known), known.path, x, steps=20, end=0.9)
    torch.testing.assert_close(torch.cat(parts), whole)
