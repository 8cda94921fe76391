"""The paths against their own derivatives, and their conversions against Gaussian mixtures in closed form."""

import pytest
import torch
from torch.autograd import grad

from wasserflow._core.errors import UserError
from wasserflow.path import Linear, LogHomotopy, VariancePreserving

PATHS = [Linear(), VariancePreserving(), LogHomotopy(), LogHomotopy(w=2.0, nu=0.3)]
TIMES = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)


def mixture(path, t, means, sd):
    """log p_t of an equal mixture of N(mean, sd^2 I) noised by the path, as a function of x (N, d)."""
    mu, s = path.mu(t), path.s(t)
    var = mu**2 * sd**2 + s**2

    def log_p(x):
        squares = (x[:, None] - mu[:, None, None] * means).square().sum(2)
        return (-squares / (2 * var[:, None]) - means.shape[1] / 2 * var.log()[:, None]).logsumexp(1)

    return log_p


@pytest.mark.parametrize("path", PATHS)
def test_derivatives(path):
    t = TIMES.clone().requires_grad_()
    for value, slope in ((path.mu, path.mu_dot), (path.s, path.s_dot)):
        (by_autograd,) = grad(value(t).sum(), t)
        torch.testing.assert_close(slope(TIMES), by_autograd, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("path", PATHS)
def test_starts_as_noise_and_ends_near_data(path):
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    assert path.mu(zero).abs() < 1e-12
    assert path.mu(one) > 0.95
    assert path.s(one) < path.s(zero) / 5


def test_log_homotopy_is_bayes_rule():
    path, t = LogHomotopy(w=1.5, nu=0.2), TIMES
    tau = torch.expm1(path.k * t) / torch.expm1(torch.tensor(path.k, dtype=t.dtype))
    precision = 1 / path.w**2 + tau / path.nu**2
    torch.testing.assert_close(path.s(t) ** 2, 1 / precision)
    torch.testing.assert_close(path.mu(t), tau / path.nu**2 / precision)


@pytest.mark.parametrize("path", PATHS)
def test_innovation_is_the_time_derivative_given_the_data_point(path):
    rng = torch.Generator().manual_seed(0)
    x1, eps = torch.randn(2, 19, 2, 3, generator=rng, dtype=torch.float64)
    t = TIMES.clone().requires_grad_()
    x = path.at(x1, eps, TIMES)

    def log_p(t):
        z = (x - path.mu(t)[:, None, None] * x1) / path.s(t)[:, None, None]
        return -z.square().flatten(1).sum(1) / 2 - 6 * path.s(t).log()

    (by_autograd,) = grad(log_p(t).sum(), t)
    torch.testing.assert_close(path.innovation(x1, eps, TIMES), by_autograd, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("path", PATHS)
def test_innovation_has_mean_zero_given_the_data_point_and_the_uncentred_square_does_not(path):
    rng = torch.Generator().manual_seed(1)
    n, d = 200_000, 4
    x1 = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64).expand(n, d)
    eps = torch.randn(n, d, generator=rng, dtype=torch.float64)
    t = torch.full((n,), 0.4, dtype=torch.float64)
    gamma = path.innovation(x1, eps, t)
    error = gamma.std() / n**0.5
    assert gamma.mean().abs() < 4 * error
    uncentred = gamma + d * path.s_dot(t) / path.s(t)
    assert uncentred.mean().abs() > 20 * error


@pytest.mark.parametrize("path", PATHS)
def test_velocity_score_potential_and_density_are_affine_images(path):
    rng = torch.Generator().manual_seed(2)
    means = torch.randn(3, 2, generator=rng, dtype=torch.float64)
    x = torch.randn(19, 2, generator=rng, dtype=torch.float64).requires_grad_()
    t = TIMES
    log_p = mixture(path, t, means, 0.3)(x)
    (score,) = grad(log_p.sum(), x, retain_graph=True)
    psi = path.potential(log_p, x, t)
    (v,) = grad(psi.sum(), x)
    torch.testing.assert_close(v, path.velocity_from_score(score, x, t))
    torch.testing.assert_close(path.score_from_velocity(v, x, t), score)
    torch.testing.assert_close(path.log_density(psi, x, t), log_p)


@pytest.mark.parametrize("path", PATHS)
def test_the_velocity_solves_the_continuity_equation(path):
    """d/dt p + div(p v) = 0, which is d/dt log p + div v + v.grad log p = 0."""
    rng = torch.Generator().manual_seed(3)
    means = torch.randn(3, 2, generator=rng, dtype=torch.float64)
    x = torch.randn(19, 2, generator=rng, dtype=torch.float64).requires_grad_()
    t = TIMES.clone().requires_grad_()
    log_p = mixture(path, t, means, 0.3)(x)
    score, rate = grad(log_p.sum(), (x, t), create_graph=True)
    v = path.velocity_from_score(score, x, t)
    divergence = sum(grad(v[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(2))
    torch.testing.assert_close(rate, -divergence - (v * score).sum(1), rtol=1e-8, atol=1e-8)


def test_one_time_for_all_is_the_same_as_many():
    rng = torch.Generator().manual_seed(4)
    x1, eps = torch.randn(2, 5, 2, 3, generator=rng)
    one, many = torch.tensor(0.3), torch.full((5,), 0.3)
    for path in PATHS:
        for method in (path.at, path.velocity, path.innovation):
            torch.testing.assert_close(method(x1, eps, one), method(x1, eps, many))


def test_widths_out_of_range_are_refused():
    with pytest.raises(UserError, match="nu"):
        LogHomotopy(nu=0.0)
