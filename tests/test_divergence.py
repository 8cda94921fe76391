"""f, g, h and the rate of every row are one function in four guises."""

import math
from typing import Any

import pytest
import torch

from wasserflow._core.errors import UserError
from wasserflow.divergence import CATALOGUE, D_MAX, NAMES, alpha, define_map, named

F64: dict[str, Any] = {"dtype": torch.float64}
D = torch.linspace(-20, 20, 401, **F64)
ROWS = (*CATALOGUE, *(alpha(a) for a in (-1.5, -1e-3, 0.0, 0.3, 1.0, 1.5)))
rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
divergences = pytest.mark.parametrize("row", [row for row in ROWS if row.f], ids=lambda row: row.name)


def unbounded(row):
    """The row's formulas as they are, without the bounds that keep exponentials finite."""
    from dataclasses import replace

    return replace(row, bounds=(-math.inf, math.inf))


def derivatives(function, x):
    """The first and second derivative of an elementwise function."""
    x = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    return first.detach(), second


@rows
def test_rate_is_the_derivative_of_h(row):
    for variant in (row, unbounded(row), row.shifted(3.0)):
        d = D.clone().requires_grad_()
        (slope,) = torch.autograd.grad(variant.h(d).sum(), d)
        torch.testing.assert_close(slope, variant.rate(D), rtol=1e-7, atol=0)  # softplus is linear past 20


@rows
def test_rate_is_positive_and_h_increases(row):
    assert (row.rate(D) > 0).all()
    assert (row.h(D).diff() > 0).all()


@divergences
def test_rate_from_f(row):
    rho = torch.exp(-D)
    _, second = derivatives(row.f, rho)
    torch.testing.assert_close(rho * second, unbounded(row).rate(D), rtol=1e-6, atol=0)


@divergences
def test_rate_from_g(row):
    r = torch.exp(D)
    _, second = derivatives(row.g, r)
    # g(r) = r f(1/r) cancels in the tails: compare where it has digits left
    near = D.abs() <= 8
    torch.testing.assert_close((r**2 * second)[near], unbounded(row).rate(D)[near], rtol=1e-6, atol=1e-9)


@divergences
def test_h_from_g(row):
    d = D[D.abs() <= 20]
    r = torch.exp(d)
    first, _ = derivatives(row.g, r)
    at_one, _ = derivatives(row.g, torch.ones(1, **F64))
    ours = unbounded(row)
    constant = at_one - row.g(torch.ones(1, **F64)) - ours.h(torch.zeros(1, **F64))
    scale = 1 + ours.h(d).abs() + row.g(r).abs() + (r * first).abs()
    error = (r * first - row.g(r) - ours.h(d) - constant).abs() / scale
    assert error.max() < 1e-12


@divergences
def test_critic_has_the_derivative_of_the_f_gan(row):
    """d/dd g'(e^d) = r g''(r) = s(d) e^{-d}."""
    d = D[D.abs() <= 8].requires_grad_()
    (slope,) = torch.autograd.grad(row.critic(d).sum(), d)
    d = d.detach()
    torch.testing.assert_close(slope, unbounded(row).rate(d) * (-d).exp(), rtol=1e-9, atol=0)


@divergences
def test_divergence_of_equal_measures_is_zero(row):
    one = torch.ones(1, **F64)
    torch.testing.assert_close(row.f(one), torch.zeros(1, **F64), rtol=0, atol=1e-15)


@rows
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_finite_at_the_extremes(row, dtype):
    d = torch.tensor([-200.0, -50.0, 0.0, 50.0, 200.0], dtype=dtype)
    for values in (row.rate(d), row.h(d), row.shifted(5.0).rate(d), row.shifted(5.0).h(d)):
        assert torch.isfinite(values).all()
        assert values.dtype == dtype


@pytest.mark.parametrize(
    ("name", "rates"),
    {
        "vanilla": (0.0000454, 0.00669, 0.1192, 0.5, 0.8808),
        "ns": (0.99995, 0.99331, 0.8808, 0.5, 0.1192),
        "arcsinh": (0.0995, 0.1961, 0.4472, 1.0, 0.4472),
        "logit": (1, 1, 1, 1, 1),
    }.items(),
)
def test_known_rates(name, rates):
    d = torch.tensor([-10.0, -5.0, -2.0, 0.0, 2.0])
    torch.testing.assert_close(named(name).rate(d), torch.tensor(rates, dtype=torch.float32), rtol=1e-3, atol=1e-6)


def test_shifted_vanilla_does_not_vanish_on_poor_fakes():
    d = torch.tensor([-10.0, -5.0, -2.0, 0.0, 2.0])
    expected = torch.tensor([0.000911, 0.1192, 0.7311, 0.9526, 0.9933])
    torch.testing.assert_close(named("vanilla").shifted(3.0).rate(d), expected, rtol=1e-3, atol=1e-6)


def test_jeffreys_stays_within_one_and_a_hundred():
    rate = named("jeffreys").rate(torch.linspace(-200, 200, 1001, **F64))
    assert rate.min() >= 1
    assert rate.max() == pytest.approx(100)
    assert pytest.approx(99) == math.exp(D_MAX)


@divergences
def test_estimate_is_the_divergence_at_the_true_ratio(row):
    """Monte Carlo at two Gaussians, against the integral of p f(q/p)."""
    shift = 0.7
    x = torch.linspace(-12, 12, 20001, **F64)
    p, q = (torch.exp(-((x - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (0.0, shift))
    exact = torch.trapezoid(p * row.f(q / p), x)
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 400_000, generator=rng, **F64)

    def logit(x):
        return ((x - shift) ** 2 - x**2) / 2

    assert row.estimate(logit(noise[0]), logit(noise[1] + shift)).item() == pytest.approx(exact.item(), abs=0.01)


def test_aliases_are_the_same_row():
    assert named("logit") is named("kl")
    assert named("ns") is named("logd")
    assert named("vanilla") is named("js")
    assert named("mle") is named("forward-kl")
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(
    ("a", "name", "scale"),
    [(0, "kl", 1), (1, "forward-kl", 1), (-1, "pearson", 1), (2, "chi2", 2), (0.5, "hellinger", 0.5)],
)
def test_alpha_divergences_pass_through_the_named_ones(a, name, scale):
    member, row = unbounded(alpha(a)), unbounded(named(name))
    assert member.f
    assert row.f
    torch.testing.assert_close(scale * member.rate(D), row.rate(D), rtol=1e-12, atol=0)
    rho = torch.exp(-D[D.abs() <= 5])
    linear = scale * member.f(rho) - row.f(rho)  # f is unique up to a multiple of rho - 1
    torch.testing.assert_close(linear.diff() / rho.diff(), linear[:1].expand(100) / (rho[0] - 1), rtol=1e-6, atol=1e-9)


def test_alpha_by_name():
    assert named("alpha:1.5").rate(torch.tensor(2.0)).item() == pytest.approx(math.exp(3))
    for name, message in (("alpha:x", "needs a number"), ("alpha:99", "from -8 to 8"), ("alpha:nan", "from -8 to 8")):
        with pytest.raises(UserError, match=message):
            named(name)
    for a in (-8.0, 8.0):
        assert torch.isfinite(alpha(a).rate(torch.tensor([-200.0, 200.0]))).all()


F32_D = torch.linspace(-3, 3, 101)


@pytest.mark.parametrize("near", [0.0, 1.0])
@pytest.mark.parametrize("off", [1e-12, 1e-8, 1e-5, -1e-5, 1e-50])
def test_alphas_near_a_limit_keep_their_digits(near, off):
    """KL(q|p) and KL(p|q) are limits of the family, in float32 as well."""
    member, limit = alpha(near + off), alpha(near)
    d_p, d_q = F32_D + 0.5, F32_D - 0.5
    close: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(member.h(F32_D), limit.h(F32_D), **close)
    torch.testing.assert_close(member.rate(F32_D), limit.rate(F32_D), **close)
    assert member.f is not None
    assert limit.f is not None
    torch.testing.assert_close(member.f(F32_D.exp()), limit.f(F32_D.exp()), **close)
    assert member.estimate is not None
    assert limit.estimate is not None
    torch.testing.assert_close(member.estimate(d_p, d_q), limit.estimate(d_p, d_q), **close)


def test_a_custom_map():
    """h = d + tanh d: its rate comes by autograd, and beyond where it was checked it goes on linearly."""
    row = define_map("own", lambda d: d + torch.tanh(d))
    assert named("own") is row
    torch.testing.assert_close(row.rate(D), 2 - torch.tanh(D).square())
    far = torch.tensor([-200.0, 200.0])
    torch.testing.assert_close(row.h(far), torch.tensor([-201.0, 201.0]))
    d = D.clone().requires_grad_()
    (slope,) = torch.autograd.grad(row.h(d).sum(), d)
    torch.testing.assert_close(slope, row.rate(D))


@pytest.mark.parametrize(
    ("h", "message"),
    [
        (lambda d: d.square(), "not increasing at d = -20"),
        (lambda d: (d - 3).relu(), "not increasing at d = -20"),
        (torch.sin, "not increasing"),
        (lambda d: torch.exp(100 * d), "not finite"),
        (lambda d: torch.exp(5 * d), "not finite at d = 17.*in float32"),
        (lambda d: d - d.mean(), "not elementwise"),
        (lambda d: d.sum(), "not elementwise"),
        (lambda d: math.exp(d), "differentiable function of tensors"),
        (lambda d: d / 0 if d.ndim else 1 / 0, "not finite"),
        (lambda d: [][len(d)], "differentiable function of tensors"),
        (None, "differentiable function of tensors"),
        (lambda d: d.detach(), "differentiable function of tensors"),
        (lambda d: d**3, r"not increasing at d = 0 \(h = 0, h' = 0"),
        (lambda d: (d - 0.005) ** 3, r"flat at d = 0\.005"),
        (lambda d: (d - 1 / 3) ** 5 + (d - 1 / 3) ** 3, r"flat at d = 0\.3333"),
        (lambda d: d + torch.sin(d), r"flat at d = -?(3\.142|9\.425|15\.71)"),
    ],
)
def test_maps_that_are_no_increasing_functions_are_refused(h, message):
    with pytest.raises(UserError, match=message):
        define_map("bad", h)
    with pytest.raises(UserError, match="unknown divergence"):
        named("bad")


def test_maps_with_small_but_positive_rates_are_taken():
    for h in (
        lambda d: d**3 + 1e-3 * d,
        lambda d: d + 0.999 * torch.sin(d),
        torch.nn.functional.logsigmoid,
        torch.nn.functional.softplus,
    ):
        row = define_map("small", h)
        assert (row.rate(D) > 0).all()


@pytest.mark.parametrize("d", [-30.0, -20.0, 20.0, 30.0])
def test_lsgan_keeps_its_digits(d):
    """``h' = 2 sigma(d) sigma(-d)^2`` in float32, as a rate and by autograd of h, against 50 digits."""
    import mpmath

    with mpmath.workdps(50):
        sigma = lambda z: 1 / (1 + mpmath.exp(-z))  # noqa: E731
        exact = float(2 * sigma(d) * sigma(-d) ** 2)
        value = float(-(sigma(-d) ** 2))
    row, point = named("lsgan"), torch.tensor(d, requires_grad=True)
    (slope,) = torch.autograd.grad(row.h(point), point)
    assert slope.item() == pytest.approx(exact, rel=1e-5)
    assert row.rate(point.detach()).item() == pytest.approx(exact, rel=1e-5)
    assert row.h(point.detach()).item() == pytest.approx(value, rel=1e-5)


def test_a_map_of_the_catalogue_is_not_replaced():
    with pytest.raises(UserError, match="taken"):
        define_map("logit", lambda d: d)
    for name in ("", " ", 3):
        with pytest.raises(UserError, match="needs a name"):
            define_map(name, lambda d: d)  # pyright: ignore[reportArgumentType]


def test_unknown_name_lists_the_nearest():
    with pytest.raises(UserError, match="Did you mean jeffreys"):
        named("jeffrey")
