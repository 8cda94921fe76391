"""Columns of samples over those of data, with a histogram for each."""

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from wasserflow.plot.figure import DATA, SAMPLES, brief, limits, outside, tidy, tile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MOST_COLUMNS", "marginals"]

MOST_COLUMNS = 12
BINS = 50
WHOLE = 2.0**50  # below it halves are exact beside whole numbers
LONGEST = 32
"""Characters of a column's name that fit above its panel."""


def marginals(samples: np.ndarray, data: np.ndarray, names: Sequence[str] | None = None) -> "Figure":
    """Draw the distributions of the first 12 columns, samples over data, with the same bins.

    Args:
        samples: Shape ``(N, d)``.
        data: Shape ``(M, d)``; sets the bins.
        names: Names of the columns; by default their numbers.
    """
    from matplotlib.ticker import MaxNLocator

    names = names or [f"column {index}" for index in range(data.shape[1])]
    count = min(len(names), MOST_COLUMNS)
    figure, grid = tile(count, min(count, 4 if count > 6 else 3), (3.3, 2.4))
    filled = {"fill": True, "color": DATA, "alpha": 0.45, "label": f"data ({len(data):,})"}
    line = {"color": SAMPLES, "lw": 1.4, "label": f"samples ({len(samples):,})"}
    for axes, name, x, y in zip(grid, names, data.T, samples.T, strict=False):
        whole = bool((x == np.rint(x)).all() and np.abs(x).max() < WHOLE)
        edges = _edges(x, whole)
        for cloud, column, style in ((data, x, filled), (samples, y, line)):
            axes.stairs(np.histogram(column, edges)[0] / len(cloud), edges, **style)
        axes.margins(x=0.03)
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=whole))
        brief(axes.xaxis)
        beyond = outside(y[:, None], edges[[0, -1]][None]).removeprefix(", ")
        axes.text(1, 0.98, beyond, fontsize=8, color=SAMPLES, ha="right", va="top", transform=axes.transAxes)
        tidy(axes, name if len(name) <= LONGEST else name[: LONGEST - 1] + "…")
        axes.spines["left"].set_visible(False)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure


def _edges(column: np.ndarray, whole: bool) -> np.ndarray:
    """Edges of about 50 equal bins of a column; those of whole numbers hold equally many of them."""
    low, high = limits(column[:, None])[0]
    if not whole:
        return np.linspace(low, high, BINS + 1)
    step = ceil((high - low) / BINS)
    return np.arange(ceil(low), high + step, step) - 0.5
