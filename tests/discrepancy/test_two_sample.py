"""Two-sample functions: their values against independent ones, and p-values that are uniform under equality."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import energy_distance as scipy_energy

import wasserflow as wf
from wasserflow import kernel
from wasserflow._core.errors import UserError
from wasserflow.discrepancy.kale import kale
from wasserflow.discrepancy.mmd import mmd_squared
from wasserflow.metric import energy_distance

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((40, 3)), RNG.standard_normal((30, 3)) + 0.8


def test_values():
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    assert wf.mmd_squared(X, Y, kernel.Gaussian(1.0)).value == pytest.approx(
        mmd_squared(x, y, kernel.Gaussian(1.0), True).item()
    )
    assert wf.mmd_squared(X, Y).value == pytest.approx(mmd_squared(x, y, kernel.Gaussian("median"), True).item())
    assert wf.mmd_squared(X, Y, lambda a, b: a @ b.T).value == pytest.approx(
        mmd_squared(x, y, kernel.Linear(), True).item()
    )
    assert wf.energy_distance(X, Y).value == pytest.approx(energy_distance(x, y))
    assert wf.kale(X, Y, 0.1).value == pytest.approx(kale(x, y, kernel.Gaussian("median"), 0.1).value.item(), rel=1e-6)
    assert wf.mmd_squared(X, Y).p_value is None


def test_energy_distance_is_scipys_in_one_dimension():
    """SciPy gives the root of the V-statistic: with the pairs of equal points it is larger by a known amount."""
    x, y = X[:, 0], Y[:, 0]
    within = [np.abs(a[:, None] - a).sum() * (1 / (len(a) * (len(a) - 1)) - 1 / len(a) ** 2) for a in (x, y)]
    assert wf.energy_distance(x, y).value == pytest.approx(scipy_energy(x, y) ** 2 - sum(within))


@pytest.mark.parametrize("function", [wf.mmd_squared, wf.energy_distance])
def test_permutations_are_relabellings(function):
    """Each p-value against the statistic computed again for every relabelling."""
    pooled = np.concatenate([X[:10], Y[:8]])
    result = function(X[:10], Y[:8], permutations=30, seed=3)
    rng = torch.Generator().manual_seed(3)
    orders = [torch.randperm(18, generator=rng).numpy() for _ in range(30)]
    values = [function(pooled[order[:10]], pooled[order[10:]]).value for order in orders]
    assert result.p_value == (1 + sum(value >= result.value - 1e-12 for value in values)) / 31


@pytest.mark.parametrize("function", [wf.mmd_squared, wf.energy_distance, wf.kale])
def test_p_values(function):
    """Small where the two differ; where they do not, at most 10 % of tests give 0.1 (three standard errors allowed)."""
    more: dict[str, Any] = {"permutations": 19 if function is wf.kale else 99}
    assert function(X, Y, **more).p_value == 1 / (1 + more["permutations"])
    trials = 10 if function is wf.kale else 100
    draws = [(RNG.standard_normal((12, 2)), RNG.standard_normal((9, 2))) for _ in range(trials)]
    low = np.mean([function(x, y, seed=i, **more).p_value <= 0.1 for i, (x, y) in enumerate(draws)])
    assert low <= 0.1 + 3 * math.sqrt(0.09 / trials)


@pytest.mark.parametrize(
    ("x", "y", "more", "message"),
    [
        (X, Y[:, :2], {}, "columns"),
        (X[:1], Y, {}, "first sample"),
        (X, np.full((4, 3), np.nan), {}, "second sample holds"),
        (X, Y, {"permutations": -1}, "permutations"),
        (X, Y, {"seed": 0.5}, "seed"),
        (X + 1j, Y, {}, "first sample holds complex numbers"),
        (X, torch.from_numpy(Y + 1j), {}, "second sample holds complex numbers"),
        (X, Y.astype(object), {}, "second sample holds object, not numbers"),
        (X.astype(str), Y, {}, "first sample holds <U32, not numbers"),
    ],
)
def test_bad_samples(x, y, more, message):
    with pytest.raises(UserError, match=message):
        wf.mmd_squared(x, y, **more)


def test_numbers_of_any_order_of_bytes():
    assert wf.mmd_squared(X.astype(">f8"), Y.astype(">f4").astype(np.longdouble)).value == pytest.approx(
        wf.mmd_squared(X, Y).value
    )


@pytest.mark.parametrize("unit", [1e-13, 1.0, 1e13])
def test_p_values_do_not_depend_on_the_unit(unit):
    assert wf.energy_distance(X * unit, Y * unit, permutations=99).p_value == 0.01
    assert wf.mmd_squared(X * unit, Y * unit, kernel.Linear(), permutations=99).p_value == 0.01


def test_linear_kernel_keeps_its_digits_far_from_the_origin():
    assert wf.mmd_squared(X + 1e8, Y + 1e8, kernel.Linear()).value == pytest.approx(
        wf.mmd_squared(X, Y, kernel.Linear()).value, rel=1e-5
    )


def test_samples_that_mostly_coincide_are_told_apart():
    """Three quarters of both samples are zero: the median of all distances is too."""
    x, y = np.zeros((2, 200, 2))
    x[:50], y[:50] = RNG.normal(size=(50, 2)) + 3, RNG.normal(size=(50, 2)) - 3
    assert wf.mmd_squared(x, y, permutations=99).p_value == 0.01


def test_the_energy_distance_is_one_number():
    """Of the metrics, of the two-sample test and of the discrepancy: the unbiased squared MMD of -|x - y|."""
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    value = mmd_squared(x, y, kernel.Energy(), unbiased=True).item()
    assert energy_distance(x, y) == value
    assert wf.energy_distance(X, Y).value == pytest.approx(value, rel=1e-12)


def test_a_sample_meets_itself_in_blocks(monkeypatch):
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    whole = [
        mmd_squared(x, y, k, unbiased).item()
        for k in (kernel.Energy(), kernel.Gaussian())
        for unbiased in (False, True)
    ]
    monkeypatch.setattr("wasserflow.discrepancy.mmd.BLOCK", 3)
    parts = [
        mmd_squared(x, y, k, unbiased).item()
        for k in (kernel.Energy(), kernel.Gaussian())
        for unbiased in (False, True)
    ]
    assert parts == pytest.approx(whole, rel=1e-12)
