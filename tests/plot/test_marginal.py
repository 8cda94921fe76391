"""Histograms of columns: the same bins for samples and data, and shares that add up."""

import matplotlib.patches
import numpy as np
import pytest

from wasserflow.plot import marginals
from wasserflow.plot.marginal import BINS, _edges

RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(1000, 3)) * [1, 1e6, 1e-3]


def stairs(axes) -> list:
    return [patch.get_data() for patch in axes.patches if isinstance(patch, matplotlib.patches.StepPatch)]


def test_shares_on_common_bins():
    samples = DATA[:300] + np.array([5, 0, 0])
    for column, axes in enumerate(marginals(samples, DATA, ["a", "b", "c"]).axes):
        assert axes.get_title() == "abc"[column]
        data, drawn = stairs(axes)
        assert np.array_equal(data.edges, drawn.edges)
        inside = (samples[:, column] >= data.edges[0]) & (samples[:, column] <= data.edges[-1])
        assert drawn.values.sum() == pytest.approx(inside.mean())
        assert data.values.sum() > 0.99
        assert bool(axes.texts[0].get_text()) == (not inside.all())


@pytest.mark.parametrize("high", [2, 9, 63, 1000])
def test_bins_hold_as_many_whole_numbers_each(high: int):
    column = RNG.integers(0, high, 5000).astype(float)
    edges = _edges(column, whole=True)
    widths = np.diff(edges)
    assert len(set(widths)) == 1
    assert widths[0] % 1 == 0
    assert (edges % 1 == 0.5).all()
    assert len(widths) <= BINS + 1
    assert edges[0] < column.min()
    assert column.max() < edges[-1]


def test_twelve_columns_at_most_and_names_that_fit():
    wide = RNG.normal(size=(50, 20))
    figure = marginals(wide, wide, ["x" * 80, *map(str, range(19))])
    assert len(figure.axes) == 12
    assert figure.axes[0].get_title() == "x" * 31 + "…"
    assert [axes.get_title() for axes in marginals(wide[:, :2], wide[:, :2]).axes] == ["column 0", "column 1"]


@pytest.mark.parametrize("column", [1e17 + RNG.integers(0, 3, 500) * 16, np.full(500, 1e17), np.full(500, 3.0)])
def test_columns_that_hardly_vary(column: np.ndarray):
    (axes,) = marginals(column[:, None], column[:, None]).axes
    data, drawn = stairs(axes)
    assert data.values.sum() == drawn.values.sum() == pytest.approx(1)
    assert len(data.edges) >= 2


def test_samples_far_from_the_data():
    (axes,) = marginals(DATA[:, :1] + 100, DATA[:, :1]).axes
    _, drawn = stairs(axes)
    assert drawn.values.sum() == 0
    assert axes.texts[0].get_text() == "100.0% outside"
