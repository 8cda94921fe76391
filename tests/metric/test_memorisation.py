"""Memorisation against SciPy, brute force, and samplers whose copying is known."""

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor

from wasserflow._core import pairs
from wasserflow.metric.distance import nearest
from wasserflow.metric.memorisation import mann_whitney, memorised


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_is_the_share_of_pairs_that_scipy_counts():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 12, 40).astype(float), rng.integers(3, 15, 25).astype(float)  # with ties
    found = mann_whitney(torch.from_numpy(a), torch.from_numpy(b))
    pairs = [(x < y) + 0.5 * (x == y) for x in a for y in b]
    assert found.value == pytest.approx(np.mean(pairs), rel=1e-12)
    assert found.value == pytest.approx(mannwhitneyu(b, a).statistic / (40 * 25), rel=1e-12)
    share = np.array(pairs).reshape(40, 25)
    variance = share.mean(1).var(ddof=1) / 40 + share.mean(0).var(ddof=1) / 25
    assert found.error == pytest.approx(np.sqrt(variance), rel=1e-10)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_interval_holds_the_truth_as_often_as_it_says(shift: float):
    truth = 0.5 * (1 + torch.erf(torch.tensor(shift / 2))).item()  # P(A < B) for unit normals that far apart
    found = [mann_whitney(gauss(60, seed=2 * s), gauss(80, seed=2 * s + 1) + shift) for s in range(400)]
    assert np.mean([f.value for f in found]) == pytest.approx(truth, abs=0.01)
    held = np.mean([f.interval[0] <= truth <= f.interval[1] for f in found])
    assert 0.92 < held < 0.98


def test_apart_and_equal_and_too_few():
    a = torch.arange(5.0)
    assert mann_whitney(a, a + 10) == (1, 0, (0, 1))
    assert mann_whitney(a + 10, a) == (0, 0, (0, 1))
    assert mann_whitney(a, a).value == 0.5
    low, high = mann_whitney(torch.tensor([0.0, 0.0, 0.0, 9.0]), torch.tensor([1.0, 2.0, 3.0])).interval
    assert 0 <= low < high <= 1
    with pytest.raises(ValueError, match="at least 2"):
        mann_whitney(a[:1], a)


@pytest.mark.parametrize("d", [2, 40])
def test_copies_are_seen_in_proportion_to_their_share(d: int):
    train, held, fresh = gauss(2000, d, seed=0), gauss(500, d, seed=1), gauss(500, d, seed=2)
    assert memorised(train[:500], held, train).value == 1
    honest = memorised(fresh, held, train)
    assert abs(honest.value - 0.5) < 3 * honest.error
    assert honest.error < 0.03
    # A copier of one sample in five nears the training set in those, and leaves the rest at 0.5.
    fifth = torch.cat([train[:100], fresh[100:]])
    assert memorised(fifth, held, train).value == pytest.approx(0.6, abs=3 * honest.error)
    assert memorised(train[:500] + 0.01 * gauss(500, d, seed=3), held, train).value > 0.9
    assert memorised(fresh + 100, held, train).value == 0


def test_the_training_set_may_come_in_blocks_and_in_any_unit():
    train, held, fresh = gauss(300, 5, seed=0), gauss(100, 5, seed=1), gauss(100, 5, seed=2)
    whole = memorised(fresh, held, train)
    assert memorised(fresh, held, iter(train.split(70))) == whole
    moved = memorised(3 * fresh + 7, 3 * held + 7, 3 * train + 7)
    assert moved.value == pytest.approx(whole.value, abs=1e-3)


@pytest.mark.parametrize("d", [1, 6])
def test_nearest_is_the_least_of_all_distances(d: int, monkeypatch: pytest.MonkeyPatch):
    x, y = gauss(50, d, seed=1) + 20, gauss(90, d, seed=2) + 20
    x[3] = y[80]
    truth = torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist").amin(1)
    monkeypatch.setattr(pairs, "STRIPE", 200)
    for size in (1, 7, 90):
        found = nearest(x, y.split(size))
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, truth, rtol=1e-9, atol=0)
        assert found[3] == 0
