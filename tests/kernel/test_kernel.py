"""Kernels against their formulas pair by pair, their sums against Gram matrices, their gradients against autograd."""

import math
from typing import Any

import pytest
import torch

from wasserflow._core import pairs
from wasserflow._core.errors import UserError
from wasserflow._core.pairs import squared_distances
from wasserflow.kernel.bandwidth import median_distance, optimal_width
from wasserflow.kernel.base import Custom, Kernel, Linear
from wasserflow.kernel.radial import Energy, Gaussian, InverseMultiquadric, Laplace, RationalQuadratic

F64: dict[str, Any] = {"dtype": torch.float64}


def cloud(n, d, seed, scale=1.0):
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), **F64)


FORMULAS: dict[str, tuple[Kernel, Any]] = {
    "linear": (Linear(), lambda x, y: x @ y),
    "gaussian": (Gaussian(0.7), lambda x, y: math.exp(-((x - y) @ (x - y)) / (2 * 0.7**2))),
    "gaussians": (
        Gaussian([0.5, 1.0, 2.0, 2.0**1.5, 7.0]),
        lambda x, y: sum(math.exp(-((x - y) @ (x - y)) / (2 * w**2)) for w in (0.5, 1.0, 2.0, 2.0**1.5, 7.0)),
    ),
    "laplace": (Laplace(1.3), lambda x, y: math.exp(-(x - y).norm() / 1.3)),
    "imq": (InverseMultiquadric(0.8), lambda x, y: 1 / math.sqrt(0.64 + (x - y) @ (x - y))),
    "rq": (
        RationalQuadratic((0.2, 3.0), scale=1.5),
        lambda x, y: sum((1 + (x - y) @ (x - y) / (2 * a * 1.5**2)) ** -a for a in (0.2, 3.0)),
    ),
    "energy": (Energy(), lambda x, y: -(x - y).norm()),
    "riesz": (Energy(1.6), lambda x, y: -((x - y).norm() ** 1.6)),
    "custom": (Custom(lambda x, y: (x @ y.T / 3 + 1) ** 3), lambda x, y: (x @ y / 3 + 1) ** 3),
    "radial mixture": (
        Gaussian(0.7) + 2.5 * Laplace(1.0),
        lambda x, y: math.exp(-((x - y) @ (x - y)) / 0.98) + 2.5 * math.exp(-(x - y).norm()),
    ),
    "mixture": (RationalQuadratic((1.0,)) + 0.1 * Linear(), lambda x, y: 1 / (1 + (x - y) @ (x - y) / 2) + 0.1 * x @ y),
}
every = pytest.mark.parametrize("name", FORMULAS)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """So that a few points already fill several tiles, in both directions."""
    whole = pairs.tiles
    monkeypatch.setattr(pairs, "isqrt", lambda size: 8)
    assert len(list(whole(9, 2**18))) > 3


@every
def test_gram_is_the_formula(name):
    kernel, formula = FORMULAS[name]
    x, y = cloud(5, 3, 0), cloud(4, 3, 1)
    expected = torch.tensor([[float(formula(a, b)) for b in y] for a in x], **F64)
    torch.testing.assert_close(kernel(x, y), expected)
    torch.testing.assert_close(kernel.diagonal(x), torch.tensor([float(formula(a, a)) for a in x], **F64))
    torch.testing.assert_close(kernel(x, x).diagonal(), kernel.diagonal(x))


@every
def test_sums_and_gradient(name):
    """Equal points, weights of both signs: against the Gram matrix, and autograd through it."""
    kernel, _ = FORMULAS[name]
    points, weights = cloud(23, 3, 1), cloud(23, 1, 2)[:, 0]
    z = torch.cat([cloud(9, 3, 0), points[:2]]).requires_grad_()
    combined = kernel(z, points) @ weights
    torch.testing.assert_close(kernel.combine(z, points, weights), combined)
    torch.testing.assert_close(kernel.mean(z, points), kernel(z, points).mean(1))
    (expected,) = torch.autograd.grad(combined.sum(), z)
    torch.testing.assert_close(kernel.gradient(z, points, weights), expected)


@every
def test_differentiable_twice(name):
    kernel, _ = FORMULAS[name]
    x, y = cloud(3, 2, 0).requires_grad_(), cloud(2, 2, 1).requires_grad_()
    assert torch.autograd.gradcheck(kernel, (x, y))
    assert torch.autograd.gradgradcheck(kernel, (x, y))
    assert torch.autograd.gradgradcheck(kernel.mean, (x, y))


@pytest.mark.parametrize("name", ["gaussian", "gaussians", "imq", "rq", "linear"])
def test_lipschitz_constant_bounds_the_gradient(name):
    """Along short steps the gradient changes by at most L times their length, and for radial kernels nearly so at 0."""
    kernel, _ = FORMULAS[name]
    zero = torch.zeros(1, 3, **F64)
    z = torch.cat([cloud(2000, 3, 0), zero])
    step = 1e-5 * torch.nn.functional.normalize(cloud(2001, 3, 1), dim=1)
    one = torch.ones(1, **F64)
    change = (kernel.gradient(z + step, zero, one) - kernel.gradient(z, zero, one)).norm(dim=1) / 1e-5
    assert change.max() <= kernel.lipschitz * (1 + 1e-6)
    if name != "linear":
        assert change[-1] == pytest.approx(kernel.lipschitz, rel=1e-6)


def test_energy_and_laplace_have_no_lipschitz_gradient():
    assert Energy().lipschitz == Laplace(1.0).lipschitz == math.inf
    assert (Gaussian(0.5) + Linear()).lipschitz == 5.0


def test_distances_far_from_the_origin_in_float32():
    """A translation by 1e3 costs no digits, and equal points stay without force."""
    x, y = cloud(30, 3, 0), cloud(20, 3, 1)
    shift = torch.full((3,), 1024.0)  # in float32 the shifted points keep 2^-14 of their position
    near, far = (x.float() * 64).round() / 64, (y.float() * 64).round() / 64
    weights = torch.full((20,), 0.05)
    for kernel in (Gaussian(0.5), Energy()):
        torch.testing.assert_close(kernel(near + shift, far + shift), kernel(near, far), rtol=1e-4, atol=1e-5)
        moved = kernel.gradient(near + shift, far + shift, weights)
        torch.testing.assert_close(moved, kernel.gradient(near, far, weights), rtol=1e-3, atol=1e-5)
    same = Energy().gradient(near, near, torch.full((30,), 1 / 30))
    exact = Energy().gradient(near.double(), near.double(), torch.full((30,), 1 / 30, **F64))
    torch.testing.assert_close(same.double(), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", [Gaussian(0.3), InverseMultiquadric(), RationalQuadratic()], ids=str)
def test_gradient_of_distances_lost_to_rounding_in_float32(kernel):
    """Two clusters 6,000 apart: squared distances within one come out as +-4, and no force is beyond L |z - p|."""
    side = torch.tensor([[3000.0, 0.0], [-3000.0, 0.0]]).repeat(50, 1)
    x = side + cloud(100, 2, 0).float()
    v = kernel.gradient(x, x, torch.full((100,), 0.01))
    near = torch.cdist(x[::2], x[::2], compute_mode="donot_use_mm_for_euclid_dist").sum(1) / 100
    assert (v[::2].norm(dim=1) <= kernel.lipschitz * (near + 0.01)).all()


@pytest.mark.parametrize("kernel", [Gaussian(60.0), InverseMultiquadric(60.0), RationalQuadratic(scale=60.0)], ids=str)
def test_gradient_in_float32_at_a_hundredth_of_the_width(kernel):
    side = torch.tensor([[3000.0, 0.0], [-3000.0, 0.0]], **F64).repeat(50, 1)
    x, weights = (side + cloud(100, 2, 0, 60.0)).float(), torch.full((100,), 0.01)
    exact = kernel.gradient(x.double(), x.double(), weights.double())
    error = kernel.gradient(x, x, weights).double() - exact
    assert error.norm() < 0.02 * exact.norm()


@pytest.mark.parametrize(("n", "d"), [(40, 5), (500, 64), (1000, 784)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ties_are_exactly_zero(n, d, dtype):
    x = cloud(n, d, 0).to(dtype) + 3
    s = squared_distances(x, x, ties=True)
    assert (s.diagonal() == 0).all()
    assert (s + torch.eye(n, dtype=dtype) > 0).all()


def test_one_far_point_does_not_blur_the_distances_of_others():
    x = 10 * cloud(50, 64, 1)
    x[0] = 1e6
    loop = torch.cdist(x[1:], x[1:], compute_mode="donot_use_mm_for_euclid_dist").square()
    torch.testing.assert_close(squared_distances(x, x, ties=True)[1:, 1:], loop, rtol=1e-9, atol=0)


def test_optimal_width_against_a_grid():
    """The width at which |grad MMD^2| of the normalised Gaussian kernel is largest, found by trying them all."""
    for d, sigma, mu, recorded in ((2, 0.3, 4.0, 1.95448), (8, 0.1, 5.0, 1.57480), (3, 1.0, 2.0, 0.0)):
        assert optimal_width(mu, sigma, d).item() == pytest.approx(recorded, abs=1e-5)
        alpha = torch.linspace(0, 6, 600_001, **F64)
        s = alpha**2 + 2 * sigma**2
        slope = s ** (-d / 2 - 1) * torch.exp(-(mu**2) / (2 * s)) * mu  # of 2 s^(-d/2) (1 - exp(-mu^2 / 2s)), halved
        assert alpha[slope.argmax()].item() == pytest.approx(recorded, abs=2e-5)


def test_rules_choose_the_bandwidth():
    x, y = cloud(50, 2, 0), cloud(70, 2, 1) + 3
    both = torch.cat([x, y])
    median = (both[:, None] - both).norm(dim=2)[torch.triu_indices(120, 120, 1).unbind()].median()
    torch.testing.assert_close(Gaussian("median").bind(x, y)(x, y), Gaussian(median.item())(x, y))
    own = median_distance(x) / math.sqrt(2 * math.log(51))
    torch.testing.assert_close(Laplace("median-log").bind(x, y)(x, y), Laplace(own.item())(x, y))
    variance = (x.var(0, correction=0).mean() + y.var(0, correction=0).mean()) / 2
    width = math.sqrt((x.mean(0) - y.mean(0)).square().sum() / 4 - 2 * variance)
    rule = (Gaussian("optimal") + 2 * Linear()).bind(x, y)
    torch.testing.assert_close(rule(x, y), Gaussian(width)(x, y) + 2 * x @ y.T)
    later = InverseMultiquadric(lambda t: 1 + t).bind(x, y, 0.5)
    torch.testing.assert_close(later(x, y), InverseMultiquadric(1.5)(x, y))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian(0.0), "positive"),
        (lambda: Gaussian([]), "at least one"),
        (lambda: Gaussian([1.0, -1.0]), "positive"),
        (lambda: Laplace("medain"), "Did you mean median"),
        (lambda: RationalQuadratic(()), "at least one"),
        (lambda: Energy(2.0), "0 < r < 2"),
        (lambda: -1.0 * Linear(), "positive"),
        (lambda: Gaussian("median")(cloud(2, 2, 0), cloud(2, 2, 0)), "bind"),
        (lambda: Gaussian(lambda t: t).bind(cloud(2, 2, 0), cloud(2, 2, 0)), "function of time"),
        (lambda: Custom(lambda x, y: x)(cloud(2, 3, 0), cloud(2, 3, 0)), "gave shape"),
    ],
)
def test_bad_kernels(make, message):
    with pytest.raises(UserError, match=message):
        make()
