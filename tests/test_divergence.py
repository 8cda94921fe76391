"""f, g, h and the rate of every row are one function in four guises."""

import math
from typing import Any

import pytest
import torch

from wasserflow.divergence import CATALOGUE, D_MAX, NAMES, named
from wasserflow.errors import UserError

F64: dict[str, Any] = {"dtype": torch.float64}
D = torch.linspace(-20, 20, 401, **F64)
rows = pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: row.name)
divergences = pytest.mark.parametrize("row", [row for row in CATALOGUE if row.f], ids=lambda row: row.name)


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


@pytest.mark.parametrize("row", [row for row in CATALOGUE if row.estimate], ids=lambda row: row.name)
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


def test_unknown_name_lists_the_nearest():
    with pytest.raises(UserError, match="Did you mean jeffreys"):
        named("jeffrey")
