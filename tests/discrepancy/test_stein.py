"""Stein flows: identities of the Stein kernel, dissipation, and a Gaussian reached from its score alone."""

from typing import Any

import pytest
import torch

import wasserflow as wf
from wasserflow._core.errors import UserError
from wasserflow.data import toy
from wasserflow.discrepancy.stein import SteinKernel, ksd_squared, score_of
from wasserflow.field.of_score import KSDField, SVGDField
from wasserflow.kernel.base import Linear
from wasserflow.kernel.radial import Energy, Gaussian, InverseMultiquadric, Laplace, RationalQuadratic

F64: dict[str, Any] = {"dtype": torch.float64}


def cloud(n, d, seed, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), **F64) + shift


def log_normal(x):
    return -x.square().sum(1) / 2


X = cloud(20, 2, 0, 0.5)


def test_stein_kernel_is_its_definition():
    """Every derivative of k by autograd, pair by pair, for a score that is not linear."""
    target = toy.log_density("circles")
    for kernel in (Gaussian(1.2), InverseMultiquadric(0.8), RationalQuadratic()):
        x, y = 10 * X[:3], 10 * X[3:5] + 1
        gram = SteinKernel(target, kernel)(x, y)
        for i in range(3):
            for j in range(2):
                a, b = x[i].clone().requires_grad_(), y[j].clone().requires_grad_()
                k = kernel(a[None], b[None])[0, 0]
                by_a, by_b = torch.autograd.grad(k, (a, b), create_graph=True)
                trace = sum(torch.autograd.grad(by_a[c], b, retain_graph=True)[0][c] for c in range(2))
                s, t = score_of(target, x[i : i + 1])[0], score_of(target, y[j : j + 1])[0]
                expected = s @ t * k + s @ by_b + t @ by_a + trace
                torch.testing.assert_close(gram[i, j], expected.detach(), rtol=1e-8, atol=1e-9)


def test_stein_kernel_has_mean_zero_under_the_target():
    """Stein's identity: quadrature of k_p(x, y) over y ~ N(0, I), at points x."""
    axis = torch.linspace(-7, 7, 281, **F64)
    grid = torch.cartesian_prod(axis, axis)
    weights = log_normal(grid).exp() * (axis[1] - axis[0]) ** 2 / (2 * torch.pi)
    means = SteinKernel(log_normal, InverseMultiquadric()).combine(X[:5], grid, weights)
    torch.testing.assert_close(means, torch.zeros(5, **F64), atol=1e-7, rtol=0)


def test_ksd_tells_the_target_from_its_shift():
    z = cloud(1000, 2, 3)
    assert 0 <= ksd_squared(z, log_normal) < 0.02 < 0.3 < ksd_squared(z + 0.7, log_normal)


@pytest.mark.parametrize("name", ["wide-ring", "circles"])
def test_ksd_energy_falls_by_the_mean_squared_speed(name):
    field, step = KSDField(toy.log_density(name)), 1e-7
    v = field(X)
    rate = (field.energy(X + step * v) - field.energy(X - step * v)) / (2 * step)
    assert rate.item() == pytest.approx(-v.square().sum(1).mean().item(), rel=1e-4)


def test_svgd_is_its_formula():
    """Gradient of k in its first argument by autograd; also at other points, and with a score instead of a density."""
    kernel, z = Gaussian(1.1), cloud(4, 2, 5)
    x = X.clone().requires_grad_()
    expected = []
    for point in z:
        k = kernel(x, point[None])[:, 0]
        (slope,) = torch.autograd.grad(k.sum(), x)
        expected.append((k.detach()[:, None] * -X + slope).mean(0))
    for target in (log_normal, lambda p: -p):
        torch.testing.assert_close(SVGDField(target, kernel).at(X)(z), torch.stack(expected))


def test_svgd_lowers_kl_at_the_rate_of_the_ksd():
    """mean_i v(x_i) . s(x_i) + div v(x_i), what KL falls by, is the V-statistic of the Stein kernel."""
    kernel = Gaussian(1.1)
    x = X.clone().requires_grad_()  # where v is evaluated; the particles stay
    gram = kernel(x, X)
    v = (gram @ -X + (gram[..., None] * (x[:, None] - X) / 1.1**2).sum(1)) / len(X)
    divergence = sum(torch.autograd.grad(v[:, c].sum(), x, retain_graph=True)[0][:, c] for c in range(2))
    torch.testing.assert_close(v.detach(), SVGDField(log_normal, kernel)(X))
    rate = ((v.detach() * -X).sum(1) + divergence).mean()
    torch.testing.assert_close(rate, ksd_squared(X, log_normal, kernel))


@pytest.mark.parametrize(("make", "step_size", "within"), [(SVGDField, 0.3, 0.05), (KSDField, 0.1, 0.35)])
def test_a_gaussian_from_its_score(make, step_size, within):
    mean, scale = torch.tensor([1.0, -2.0], **F64), torch.tensor([1.0, 0.5], **F64)

    def score(x):
        return (mean - x) / scale**2

    moved = wf.flow(cloud(100, 2, 0), make(score), steps=400, step_size=step_size)
    torch.testing.assert_close(moved.mean(0), mean, atol=within, rtol=0)
    torch.testing.assert_close(moved.std(0), scale, atol=within, rtol=0)


def test_score_by_autograd_and_by_hand():
    torch.testing.assert_close(score_of(log_normal, X), -X)
    torch.testing.assert_close(score_of(lambda x: -x, X), -X)


def test_a_score_without_a_graph_serves_svgd_alone():
    """From NumPy, under no_grad, or with a graph that does not come from the points: KSD would miss its derivative."""
    one = torch.ones((), **F64).requires_grad_()
    for lost in (
        lambda x: torch.from_numpy(-x.detach().numpy()),
        torch.no_grad()(lambda x: -x),
        lambda x: -one * x.detach(),
    ):
        torch.testing.assert_close(SVGDField(lost)(X), SVGDField(log_normal)(X))
        torch.testing.assert_close(KSDField(lost).energy(X), KSDField(log_normal).energy(X))
        with pytest.raises(UserError, match="score cannot be differentiated"):
            KSDField(lost)(X)


def test_a_constant_score_is_taken_where_it_shows_its_derivative():
    """exp(-x_1 - 2 x_2): the field is -grad of the energy, N times, from the log density and from the score."""
    slopes = torch.tensor([-1.0, -2.0], **F64)
    x = X.clone().requires_grad_()
    s = (x[:, None] - x).square().sum(2)
    k = (1 + s) ** -0.5
    k1, k2 = -((1 + s) ** -1.5) / 2, 0.75 * (1 + s) ** -2.5
    energy = (slopes @ slopes * k - 4 * k1 - 4 * s * k2).mean()
    (slope,) = torch.autograd.grad(energy, x)
    for target in (lambda x: x @ slopes, lambda x: slopes + 0 * x):
        torch.testing.assert_close(KSDField(target)(X), -len(X) * slope)
    with pytest.raises(UserError, match="score cannot be differentiated"):
        KSDField(lambda x: slopes.expand_as(x))(X)


def test_a_score_of_another_type_is_taken_in_the_particles_own():
    torch.testing.assert_close(KSDField(lambda x: -x.double())(X.float()), KSDField(log_normal)(X.float()))


@pytest.mark.parametrize("name", ["ring", "wide-ring", "circles"])
def test_densities_of_toys_integrate_to_one(name):
    width = {"ring": 1.3, "wide-ring": 16.0, "circles": 19.0}[name]
    axis = torch.linspace(-width, width, 1201, **F64)
    density = toy.log_density(name)(torch.cartesian_prod(axis, axis)).exp()
    assert (density.sum() * (axis[1] - axis[0]) ** 2).item() == pytest.approx(1, rel=1e-4)


def test_density_of_the_funnel_is_that_of_its_factors():
    x = X
    y = torch.distributions.Normal(torch.zeros(20, **F64), 1.0)
    given = torch.distributions.Normal(torch.zeros(20, **F64), 0.1 * x[:, 1].exp())
    torch.testing.assert_close(toy.log_density("funnel")(x), y.log_prob(x[:, 1]) + given.log_prob(x[:, 0]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SVGDField(log_normal)(X[:1]), "two points at least"),
        (lambda: SVGDField(lambda x: x.sum())(X), "score"),
        (lambda: SVGDField(lambda x: x * torch.inf)(X), "not finite"),
        (lambda: SVGDField(lambda x: x.detach().numpy())(X), "gave type ndarray"),  # pyright: ignore[reportArgumentType]
        (lambda: SVGDField(lambda x: None)(X), "gave type NoneType"),  # pyright: ignore[reportArgumentType]
        (lambda: SVGDField(lambda x: log_normal(x.detach()))(X), "log density cannot be differentiated"),
        (lambda: SVGDField(lambda x: torch.zeros(len(x)))(X), "log density cannot be differentiated"),
        (lambda: SVGDField(log_normal, Linear())(X), "of the distance"),
        (lambda: SVGDField(log_normal, Energy())(X), "positive definite"),
        (lambda: KSDField(log_normal, Laplace(1.0))(X), "smooth"),
        (lambda: toy.log_density("checkerboard"), "unknown toy with a density"),
    ],
)
def test_bad_targets(make, message):
    with pytest.raises(UserError, match=message):
        make()
