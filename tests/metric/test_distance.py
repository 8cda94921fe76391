"""Distances against closed forms, SciPy and double loops."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import energy_distance as scipy_energy
from torch import Tensor

from wasserflow._core import pairs
from wasserflow.data import toy
from wasserflow.metric import distance
from wasserflow.metric.distance import (
    Estimate,
    energy_distance,
    frechet,
    kernel_distance,
    log_chamfer,
    sliced_wasserstein,
)


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_moments(mean: Tensor, root: Tensor, n: int, seed: int = 0) -> Tensor:
    """Points whose sample mean is ``mean`` and whose unbiased covariance is ``root.T @ root``, exactly."""
    x = gauss(n, len(root), seed=seed)
    white = torch.linalg.qr(x - x.mean(0)).Q * math.sqrt(n - 1)
    return white @ root + mean


# Frechet


def test_frechet_of_commuting_gaussians():
    mean_a, mean_b = gauss(5, seed=1), gauss(5, seed=2)
    sd_a, sd_b = gauss(5, seed=3).abs(), gauss(5, seed=4).abs()
    sd_a[0] = 0  # rank-deficient
    a = with_moments(mean_a, torch.diag(sd_a), 40, seed=5)
    b = with_moments(mean_b, torch.diag(sd_b), 60, seed=6)
    truth = (mean_a - mean_b).square().sum() + (sd_a - sd_b).square().sum()
    assert frechet(a, b) == pytest.approx(truth.item(), rel=1e-12)


def test_frechet_agrees_with_the_matrix_square_root():
    a, b = gauss(200, 6, seed=1) @ gauss(6, 6, seed=2), gauss(150, 6, seed=3) @ gauss(6, 6, seed=4) + 1
    cov_a, cov_b = np.cov(a.T.numpy()), np.cov(b.T.numpy())
    shift = (a.mean(0) - b.mean(0)).square().sum().item()
    truth = shift + np.trace(cov_a + cov_b - 2 * np.real(sqrtm(cov_a @ cov_b)))
    assert frechet(a, b) == pytest.approx(truth, rel=1e-9)


def test_frechet_of_lines_in_space():
    # Covariances u u' and v v' of rank one: the root has trace |<u, v>|.
    u, v = gauss(1, 8, seed=1), gauss(1, 8, seed=2)
    a = with_moments(torch.zeros(8).double(), u, 30, seed=3)
    b = with_moments(torch.zeros(8).double(), v, 30, seed=4)
    truth = u.square().sum() + v.square().sum() - 2 * (u @ v.T).abs()
    assert frechet(a, b) == pytest.approx(truth.item(), rel=1e-11)


@pytest.mark.parametrize("shape", [(50, 4), (5, 20), (2, 3)])
def test_frechet_of_a_set_and_itself_is_zero_and_rotations_change_nothing(shape: tuple[int, int]):
    a, b = gauss(*shape, seed=1) * 100, gauss(*shape, seed=2) + 3
    assert 0 <= frechet(a, a) < 1e-9
    turn = torch.linalg.qr(gauss(shape[1], shape[1], seed=3)).Q
    assert frechet(a @ turn, b @ turn) == pytest.approx(frechet(a, b), rel=1e-10)
    assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-10)


def test_frechet_of_constant_sets():
    assert frechet(torch.zeros(5, 3), torch.ones(7, 3)) == pytest.approx(3)


# Kernel


def cubic(x: Tensor, y: Tensor) -> float:
    return ((x @ y).item() / len(x) + 1) ** 3


def naive_kernel(a: Tensor, b: Tensor) -> float:
    within = [np.mean([cubic(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in (a, b)]
    return float(sum(within) - 2 * np.mean([cubic(x, y) for x in a for y in b]))


def test_kernel_equals_the_double_loop_and_its_error_the_jackknife():
    a, b = gauss(7, 3, seed=1), gauss(5, 3, seed=2) + 0.5
    value, error, _ = kernel_distance(a, b)
    assert value == pytest.approx(naive_kernel(a, b), rel=1e-12)
    without_a = [naive_kernel(a[torch.arange(7) != i], b) for i in range(7)]
    without_b = [naive_kernel(a, b[torch.arange(5) != i]) for i in range(5)]
    assert error**2 == pytest.approx(6 * np.var(without_a) + 4 * np.var(without_b), rel=1e-10)


def test_kernel_is_unbiased_and_its_error_honest():
    estimates = [kernel_distance(gauss(40, 4, seed=2 * s), gauss(60, 4, seed=2 * s + 1)) for s in range(400)]
    values = np.array([e.value for e in estimates])
    assert abs(values.mean()) < 4 * values.std() / 20
    shifted = [kernel_distance(gauss(40, 4, seed=2 * s) + 1, gauss(60, 4, seed=2 * s + 1)) for s in range(400)]
    scatter = np.std([e.value for e in shifted])
    assert np.sqrt(np.mean([e.error**2 for e in shifted])) == pytest.approx(scatter, rel=0.25)
    truth = np.mean([e.value for e in shifted])
    assert np.mean([e.interval[0] <= truth <= e.interval[1] for e in shifted]) > 0.9


def test_an_interval_ends_where_the_values_do():
    assert Estimate(3.0, 0.5).interval == pytest.approx((2.02, 3.98))
    assert Estimate(0.9, 0.1, (0, 1)).interval == pytest.approx((0.704, 1))


# Sliced


def test_sliced_in_one_dimension_is_exact():
    a, b = gauss(50, 1, seed=1), gauss(50, 1, seed=2) * 2
    truth = (a.sort(0).values - b.sort(0).values).square().mean().sqrt()
    assert sliced_wasserstein(a, b, projections=3) == pytest.approx(truth.item(), rel=1e-12)


def test_sliced_with_unequal_counts_is_w2_between_the_repeated_points():
    a, b = gauss(6, 2, seed=1), gauss(4, 2, seed=2)
    repeated = sliced_wasserstein(a.repeat_interleave(2, 0), b.repeat_interleave(3, 0))
    assert sliced_wasserstein(a, b) == pytest.approx(repeated, rel=1e-12)


@pytest.mark.parametrize("d", [1, 2, 5, 64])
def test_sliced_of_a_translation(d: int):
    # Over an orthonormal basis the squared components of c add up to |c|^2, so their mean is |c|^2 / d.
    x, c = gauss(30, d, seed=1), gauss(d, seed=2)
    truth = (c.norm() / math.sqrt(d)).item()
    assert sliced_wasserstein(x, x + c, projections=4 * d) == pytest.approx(truth, rel=1e-10)
    # One direction more adds between 0 and |c|^2 to the sum of squares, and 1 to the count.
    squared = sliced_wasserstein(x, x + c, projections=4 * d + 1) ** 2 * (4 * d + 1) / c.square().sum().item()
    assert 4 <= squared * (1 + 1e-10) <= 5 * (1 + 2e-10)


def test_sliced_depends_on_nothing_but_its_seed(monkeypatch: pytest.MonkeyPatch):
    a, b = gauss(30, 3, seed=1), gauss(20, 3, seed=2)
    value = sliced_wasserstein(a, b, seed=1)
    assert sliced_wasserstein(a, b, seed=2) != value
    monkeypatch.setattr(distance, "STRIPE", 100)
    torch.manual_seed(5)
    assert sliced_wasserstein(a, b, seed=1) == pytest.approx(value, rel=1e-12)


# Energy


def test_energy_equals_the_double_loop():
    x, y = gauss(9, 3, seed=1), gauss(7, 3, seed=2) + 1

    def mean(a: Tensor, b: Tensor, same: bool) -> float:
        pairs = [(p - q).norm().item() for i, p in enumerate(a) for j, q in enumerate(b) if not same or i != j]
        return float(np.mean(pairs))

    truth = 2 * mean(x, y, False) - mean(x, x, True) - mean(y, y, True)
    assert energy_distance(x, y) == pytest.approx(truth, rel=1e-12)


def test_energy_in_one_dimension_is_scipys_squared_up_to_the_diagonal():
    x, y = gauss(40, 1, seed=1), gauss(30, 1, seed=2) * 2
    # SciPy counts pairs of a point with itself: it averages over n^2 pairs instead of n (n - 1).
    diagonal = sum((torch.cdist(z, z).mean() / (len(z) - 1)).item() for z in (x, y))
    truth = scipy_energy(x[:, 0].numpy(), y[:, 0].numpy()) ** 2
    assert energy_distance(x, y) + diagonal == pytest.approx(truth, rel=1e-10)


def test_energy_is_unbiased():
    values = np.array([energy_distance(gauss(30, 2, seed=2 * s), gauss(30, 2, seed=2 * s + 1)) for s in range(400)])
    assert abs(values.mean()) < 4 * values.std() / 20


# Chamfer


def test_chamfer_of_points_counted_by_hand():
    x, y = torch.tensor([[0.0, 0.0], [0.0, 3.0]]), torch.tensor([[4.0, 3.0], [0.0, 1.0], [0.0, 2.0]])
    assert log_chamfer(x, y) == pytest.approx(math.log((1 + 1) / 2 + (4 + 1 + 1) / 3), rel=1e-12)
    assert log_chamfer(y, x) == pytest.approx(log_chamfer(x, y), rel=1e-12)
    assert log_chamfer(5 * x, 5 * y) == pytest.approx(log_chamfer(x, y) + math.log(5), rel=1e-12)
    assert log_chamfer(x, x) == -math.inf


def test_chamfer_of_real_points_of_the_wide_ring():
    floors = [
        log_chamfer(toy.sample("wide-ring", 1000, 2 * s), toy.sample("wide-ring", 1000, 2 * s + 1)) for s in range(5)
    ]
    assert np.mean(floors) == pytest.approx(-0.89, abs=0.03)


# Stripes


def test_stripes_cover_every_row_once_and_change_nothing(monkeypatch: pytest.MonkeyPatch):
    a, b = gauss(37, 5, seed=1), gauss(23, 5, seed=2)
    whole = kernel_distance(a, b)[:2], energy_distance(a, b)
    monkeypatch.setattr(pairs, "STRIPE", 100)
    assert [i for rows in pairs.stripes(37, 23) for i in range(37)[rows]] == list(range(37))
    assert kernel_distance(a, b)[:2] == pytest.approx(whole[0], rel=1e-12)
    assert energy_distance(a, b) == pytest.approx(whole[1], rel=1e-12)


def test_weights_of_the_energy_distance():
    """Equal weights are none; by the definition, pair by pair; a single point is one that has all the weight."""
    x, y, w = gauss(20, 3), gauss(15, 3, seed=1) + 1, gauss(15, seed=2).square()
    w = w / w.sum()
    assert energy_distance(x, y, torch.full((15,), 1 / 15)) == pytest.approx(energy_distance(x, y), rel=1e-6)
    xx, yy, xy = ((a[:, None] - b).norm(dim=2) for a, b in ((x, x), (y, y), (x, y)))
    truth = 2 * xy.mean(0) @ w - xx.sum() / (20 * 19) - w @ yy @ w / (1 - w @ w)
    assert energy_distance(x, y, w) == pytest.approx(truth.item(), rel=1e-10)
    to_one = 2 * xy[:, 3].mean() - xx.sum() / (20 * 19)
    assert energy_distance(x, y, torch.eye(15)[3]) == pytest.approx(to_one.item(), rel=1e-10)
    assert energy_distance(x, y[3:4], torch.ones(1)) == pytest.approx(to_one.item(), rel=1e-10)


@pytest.mark.parametrize("function", [frechet, kernel_distance, sliced_wasserstein, energy_distance, log_chamfer])
def test_wrong_shapes_and_too_few_points(function):
    with pytest.raises(ValueError, match="one length"):
        function(torch.zeros(5, 3), torch.zeros(5, 2))
    with pytest.raises(ValueError, match="at least"):
        function(torch.zeros(0, 3), torch.zeros(5, 3))
