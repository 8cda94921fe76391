"""Sorting against counting pairs and finite differences, the constant of the lift, and how the error falls."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from wasserflow._core.errors import UserError
from wasserflow.discrepancy import sliced_energy as sliced
from wasserflow.discrepancy.mmd import mmd_squared
from wasserflow.discrepancy.sliced_energy import directions, sliced_energy, sliced_velocity, slicing_constant
from wasserflow.field.of_samples import MMDField, SlicedField
from wasserflow.kernel.radial import Energy

F64: dict[str, Any] = {"dtype": torch.float64}


def cloud(n, d, seed, shift=0.0, **kind):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), **kind) + shift


def rng():
    return np.random.default_rng(0)


def counted(z, x, y, xi, weights=None):
    """The definition, pair by pair: half of what is equal counts as below."""
    weights = torch.full((len(y),), 1 / len(y), **F64) if weights is None else weights.double()
    total = torch.zeros(z.shape, **F64)
    for direction in xi:
        shadow = (direction[None] @ torch.cat([z, x, y]).T)[0]
        sz, sx, sy = shadow.split([len(z), len(x), len(y)])
        below = [(s < sz[:, None]).double() + 0.5 * (s == sz[:, None]).double() for s in (sx, sy)]
        total += (below[0].mean(1) - below[1] @ weights)[:, None] * direction.double()
    return 2 * slicing_constant(z.shape[1]) * total / len(xi)


@pytest.fixture
def small_parts(monkeypatch):
    """So that a hundred numbers already come in several parts."""
    monkeypatch.setattr(sliced, "PART", 16)
    monkeypatch.setattr(sliced, "PROJECTED", 3)


@pytest.mark.parametrize("grid", [None, 4, 1], ids=["scattered", "some ties", "many ties"])
@pytest.mark.parametrize(("n", "m", "d"), [(40, 30, 1), (31, 50, 2), (5, 4, 3), (1, 1, 2), (90, 7, 5)])
@pytest.mark.parametrize("parts", [True, False])
def test_sorting_is_counting(request, grid, n, m, d, parts):
    """The fast path (float32, the particles themselves) and the general one, with ties within and between the two."""
    if parts:
        request.getfixturevalue("small_parts")
    x, y = cloud(n, d, 0), cloud(m, d, 1, 0.3)
    if grid:
        x, y = ((p * grid).round() / grid for p in (x, y))
    xi = directions(d, 8, rng())
    xi[0] = torch.eye(d)[0]  # along an axis equal coordinates are equal shadows
    if grid:  # exact products: on some processors matrix products round equal points differently, which unties them
        xi = (256 * xi).round() / 256
    expected = counted(x, x, y, xi).float()
    torch.testing.assert_close(sliced_velocity(x, x, y, xi), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sliced_velocity(x.clone(), x, y, xi), expected, rtol=1e-4, atol=1e-5)


def test_zero_and_minus_zero_are_equal():
    x, y = torch.tensor([[0.0], [-0.0], [1.0]]), torch.tensor([[-0.0], [2.0]])
    xi = torch.ones(1, 1)
    torch.testing.assert_close(sliced_velocity(x, x, y, xi), counted(x, x, y, xi).float())


def test_threads_change_nothing(small_parts):
    x, y, xi = cloud(30, 3, 0), cloud(20, 3, 1), directions(3, 20, rng())
    alone = sliced_velocity(x, x, y, xi)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(sliced_velocity(x, x, y, xi), alone)
    finally:
        torch.set_num_threads(before)


def test_other_points_and_weights():
    x, y, z = cloud(20, 3, 0, **F64), cloud(15, 3, 1, 0.5, **F64), cloud(7, 3, 2, **F64)
    weights = torch.rand(15, generator=torch.Generator().manual_seed(3), **F64)
    weights /= weights.sum()
    xi = directions(3, 6, rng()).double()
    torch.testing.assert_close(sliced_velocity(z, x, y, xi, weights), counted(z, x, y, xi, weights))
    torch.testing.assert_close(sliced_velocity(x, x, y, xi, weights), counted(x, x, y, xi, weights))


def test_one_dimension_against_finite_differences():
    """The exact gradient of N/2 MMD_V^2 of -|x - y|, whose differences are exact because it is piecewise linear."""
    x, y = cloud(12, 1, 0, **F64), cloud(9, 1, 1, 0.5, **F64)
    v = sliced_velocity(x, x, y, torch.ones(1, 1, **F64))

    def half(points):
        return 0.5 * mmd_squared(points, y, Energy()).item()

    for i in range(len(x)):
        step = torch.zeros_like(x)
        step[i] = 1e-6
        slope = len(x) * (half(x + step) - half(x - step)) / 2e-6
        assert v[i].item() == pytest.approx(-slope, abs=1e-8)


def test_energy_is_half_the_squared_discrepancy():
    x, y = cloud(25, 1, 0, **F64), cloud(18, 1, 1, 0.5, **F64)
    weights = torch.rand(18, generator=torch.Generator().manual_seed(3), **F64)
    weights /= weights.sum()
    one = torch.ones(1, 1, **F64)
    torch.testing.assert_close(sliced_energy(x, y, one), mmd_squared(x, y, Energy()) / 2)
    torch.testing.assert_close(sliced_energy(x, y, one, weights), mmd_squared(x, y, Energy(), weights=weights) / 2)
    x, y = cloud(25, 4, 0, **F64), cloud(18, 4, 1, 0.5, **F64)
    many = sliced_energy(x, y, directions(4, 20_000, rng()))
    assert many.item() == pytest.approx(mmd_squared(x, y, Energy()).item() / 2, rel=5e-3)


@pytest.mark.parametrize(("d", "recorded"), [(2, 1.5708), (3, 2.0), (784, 35.0816), (3072, 69.4600)])
def test_slicing_constant(d, recorded):
    """Recorded values; for r != 1 the mean of |xi . e|^r over the sphere itself."""
    assert slicing_constant(d) == pytest.approx(recorded, abs=1e-4)


@pytest.mark.parametrize("r", [0.5, 1.0, 1.7])
def test_slicing_constant_is_one_over_a_mean(r):
    angle = torch.linspace(0, math.pi, 200_001, **F64)  # in R^3 the height has the density sin(angle) / 2
    mean = torch.trapezoid(angle.cos().abs() ** r * angle.sin() / 2, angle)
    assert slicing_constant(3, r) == pytest.approx(1 / mean.item(), rel=1e-6)


@pytest.mark.parametrize(("d", "count"), [(1, 5), (2, 6), (5, 12), (64, 64)])
def test_directions_are_orthonormal_blocks(d, count):
    xi = directions(d, count, rng())
    if d == 1:
        assert xi.shape == (1, 1)
    else:
        assert xi.shape == (count, d)
        torch.testing.assert_close(xi.norm(dim=1), torch.ones(count))
    if d > 2:
        for block in xi.split(d):
            torch.testing.assert_close(block @ block.T, torch.eye(len(block)), atol=1e-5, rtol=0)


def test_error_falls_as_the_root_of_the_slices_and_orthogonal_ones_halve_it():
    """Relative to the exact field, d = 50: sqrt(d / P) for independent directions, about half for orthogonal ones."""
    d = 50
    x, y = cloud(300, d, 0), cloud(300, d, 1, 0.3)
    exact = MMDField(y, Energy())(x)

    def error(xi):
        return ((sliced_velocity(x, x, y, xi) - exact).norm() / exact.norm()).item()

    def independent(count, seed):
        return torch.nn.functional.normalize(cloud(count, d, seed), dim=1)

    for count in (400, 1600):
        loose = np.mean([error(independent(count, seed)) for seed in range(4)])
        blocks = np.mean([error(directions(d, count, np.random.default_rng(seed))) for seed in range(4)])
        assert loose == pytest.approx(math.sqrt(d / count), rel=0.3)
        assert blocks == pytest.approx(math.sqrt(d / count) / 2, rel=0.3)


def test_plane_directions_beat_the_law():
    x, y = cloud(300, 2, 0), cloud(200, 2, 1, 0.5)
    exact = MMDField(y, Energy())(x)
    even = SlicedField(y, slices=64)(x)
    assert ((even - exact).norm() / exact.norm()).item() < 0.2 * math.sqrt(2 / 64)


def test_bad_slices():
    with pytest.raises(UserError, match="at least one slice"):
        SlicedField(cloud(5, 2, 0), slices=0)
