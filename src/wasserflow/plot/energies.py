"""A potential in the plane over time, energies along trajectories, and distributions of energies of several sets."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from wasserflow.plot.figure import DATA, LEVEL, SAMPLES, brief, fit_axes, fitted_figure, tidy, tile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["energy_paths", "histograms", "potentials"]

COLOURS = (DATA, SAMPLES, LEVEL, "#2e8b57", "#8e5ea2", "#c7962c")
BINS = 60
MOST_PATHS = 60
DEEPEST = 12.0
"""Range below its maximum in which a log-density is drawn."""


def potentials(
    values: Mapping[str, np.ndarray], fields: Sequence[np.ndarray], bounds: np.ndarray, label: str
) -> "Figure":
    """Draw a number and a field over the plane at several times, side by side.

    Args:
        values: Values by the title of their panel, (M, M) each: row i is the i-th y, column j the j-th x.
        fields: A velocity per panel, (K, K, 2), drawn as arrows with a scale per panel.
        bounds: Bounds of the grids, ``((x0, x1), (y0, y1))``.
        label: Name of the number.
    """
    figure = fitted_figure(bounds, panels=len(values))
    wide, high = figure.get_size_inches()
    figure.set_size_inches(0.75 * wide, 0.75 * high)
    panels = np.ravel(figure.subplots(1, len(values), sharex=True, sharey=True))
    for axes, (title, value), v in zip(panels, values.items(), fields, strict=True):
        lowest = max(value.min(), value.max() - DEEPEST)
        extent = tuple(bounds.ravel())
        axes.imshow(value, origin="lower", extent=extent, cmap="Blues", interpolation="bilinear", vmin=lowest)
        x, y = (np.linspace(low, high, len(v)) for low, high in bounds)
        axes.quiver(x, y, v[..., 0], v[..., 1], color=LEVEL, width=0.004)
        fit_axes(axes, bounds)
        tidy(axes, title)
    figure.supxlabel(f"{label}: darker is higher, from {DEEPEST:g} below the maximum; arrows: grad psi", fontsize=10)
    return figure


def energy_paths(times: np.ndarray, values: np.ndarray, label: str) -> "Figure":
    """Draw a number along trajectories: a line per sample, their median on top, and a mark at t = 1.

    Args:
        times: Shape (T,).
        values: Shape (T, N).
        label: Name of the number.
    """
    figure, (axes,) = tile(1, 1, (6.0, 4.0))
    axes.plot(times, values[:, :MOST_PATHS], color=SAMPLES, lw=0.6, alpha=0.35)
    axes.plot(times, np.median(values, axis=1), color="black", lw=1.8, label=f"median of {values.shape[1]:,}")
    axes.axvline(1, color=LEVEL, lw=1, ls="--", label="t = 1: field frozen from here on")
    axes.set_xlabel("t", fontsize=10)
    axes.grid(color="#dddddd", lw=0.6)
    brief(axes.yaxis)
    tidy(axes, label)
    axes.legend(fontsize=9, edgecolor="none")
    return figure


def histograms(sets: Mapping[str, np.ndarray], label: str) -> "Figure":
    """Draw the distributions of one number over several sets, with the same bins.

    Args:
        sets: Values by the name of their set, (N,) each.
        label: Name of the number.
    """
    figure, (axes,) = tile(1, 1, (6.5, 4.0))
    together = np.concatenate(list(sets.values()))
    low, high = np.quantile(together, [0.005, 0.995])
    bins = np.linspace(low, high, BINS)
    for (name, values), colour in zip(sets.items(), COLOURS, strict=False):
        axes.hist(values, bins.tolist(), density=True, histtype="stepfilled", alpha=0.35, color=colour)
        axes.hist(values, bins.tolist(), density=True, histtype="step", color=colour, label=f"{name} ({len(values):,})")
    axes.set_yticks([])
    axes.set_xlabel(label, fontsize=10)
    brief(axes.xaxis)
    tidy(axes, "")
    axes.legend(fontsize=9, edgecolor="none")
    return figure
