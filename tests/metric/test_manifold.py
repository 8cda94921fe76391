"""Precision, recall, density and coverage against loops and cases that can be counted by hand."""

import numpy as np
import pytest
import torch

from wasserflow._core import pairs
from wasserflow.metric.manifold import manifold, radii


def naive(samples: np.ndarray, real: np.ndarray, k: int) -> tuple[float, float, float, float]:
    def reach(points: np.ndarray) -> list[float]:
        return [
            sorted(float(np.linalg.norm(p - q)) for j, q in enumerate(points) if j != i)[k - 1]
            for i, p in enumerate(points)
        ]

    r, s = reach(real), reach(samples)
    gap = [[float(np.linalg.norm(y - x)) for x in real] for y in samples]
    m, n = len(samples), len(real)
    precision = sum(any(gap[j][i] <= r[i] for i in range(n)) for j in range(m)) / m
    recall = sum(any(gap[j][i] <= s[j] for j in range(m)) for i in range(n)) / n
    density = sum(gap[j][i] <= r[i] for j in range(m) for i in range(n)) / (k * m)
    coverage = sum(any(gap[j][i] <= r[i] for j in range(m)) for i in range(n)) / n
    return precision, recall, density, coverage


@pytest.mark.parametrize(("m", "n", "d", "k"), [(30, 30, 2, 5), (41, 23, 3, 1), (20, 50, 24, 3)])
def test_equals_the_loops_whatever_the_tiles(m: int, n: int, d: int, k: int, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(m)
    samples, real = rng.normal(0.7, 1, (m, d)), rng.normal(0, 1.3, (n, d))
    truth = pytest.approx(naive(samples, real, k), rel=1e-12)
    assert manifold(torch.from_numpy(samples), torch.from_numpy(real), k=k) == truth
    monkeypatch.setattr(pairs, "STRIPE", 90)
    assert manifold(torch.from_numpy(samples), torch.from_numpy(real), k=k) == truth


def test_sets_far_apart_and_a_set_with_itself():
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    assert manifold(x + 1000, x) == (0, 0, 0, 0)
    same = manifold(x, x)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    # Each ball holds its centre and exactly k neighbours.
    assert same.density == pytest.approx(6 / 5)


def test_density_is_about_one_for_equal_distributions():
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 2000, 2, generator=rng)
    found = manifold(x, y)
    assert found.density == pytest.approx(1, abs=0.05)
    # P(no sample among the k nearest of the pooled points) ~ 2^-k: the published formula at equal counts.
    assert found.coverage == pytest.approx(1 - 2**-5, abs=0.02)


def test_one_mode_of_two_is_precise_and_covers_half():
    rng = torch.Generator().manual_seed(0)
    real = torch.randn(400, 2, generator=rng)
    real[200:] += 100
    samples = torch.randn(400, 2, generator=rng)
    found = manifold(samples, real)
    assert found.precision > 0.9
    assert found.recall == pytest.approx(0.5, abs=0.05)
    assert found.coverage == pytest.approx(0.5, abs=0.03)


def test_collapse_to_one_point_and_repeated_points():
    real = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    collapsed = manifold(real[:1].expand(50, 3), real)
    assert collapsed.precision == 1
    assert collapsed.recall == 1 / 50
    grid = torch.arange(4.0).repeat(20)[:, None] + 0.1  # every value twenty times: radii are exactly zero
    assert radii(grid).eq(0).all()
    same = manifold(grid, grid)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)


def test_radii_of_points_on_a_line():
    assert radii(torch.tensor([[0.0], [1.0], [3.0], [7.0]]), k=2).tolist() == [9, 4, 9, 36]
    with pytest.raises(ValueError, match="5-th neighbour"):
        radii(torch.zeros(5, 2))
