"""A training in the plane: paths of samples, the field that moves them, and their density beside that of the data."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from wasserflow.plot.figure import DATA, SAMPLES, brief, fit_axes, fitted_figure, limits, outside, tidy
from wasserflow.plot.scatter import draw_cloud

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

__all__ = ["densities", "field", "kernel_density", "paths"]

PATHS = 30
"""Most paths drawn; more would hide each other."""

ARROWS = 60
"""Points per axis at which a field is evaluated."""

CELLS = 200
"""Cells per axis of the grid on which densities are drawn."""

BANDWIDTH = 2.0
"""Standard deviation of the densities' kernel, in cells."""


def paths(
    moments: np.ndarray,
    data: np.ndarray | None = None,
    period: tuple[str, str] | None = None,
    names: Sequence[str] | None = None,
) -> "Figure":
    """Samples of the same noise over training: a line per sample through the moments; later is darker.

    Args:
        moments: Samples at T moments of training, shape ``(T, N, 2)``; ``moments[:, i]`` is the path of sample i.
        data: Shape ``(M, 2)``, drawn grey below; sets the axes (else the last moment does).
        period: The first and the last moment in words, for the legend.
        names: Names of the axes.

    Returns:
        A figure with the paths of the first 30 samples.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap

    drawn = moments[:, :PATHS]
    figure, axes = _over(data, moments[-1], names)
    segments = np.stack([drawn[:-1], drawn[1:]], axis=2)  # (T - 1, N, 2 ends, 2)
    when = np.repeat(np.arange(len(segments)), drawn.shape[1])
    shades = LinearSegmentedColormap.from_list("time", ["#e4ebf5", "#d3dff0", "#b2c8e6", SAMPLES, "#0c2a5b"])
    widths = 0.5 + 0.7 * when / max(when[-1], 1)
    axes.add_collection(
        LineCollection(list(segments.reshape(-1, 2, 2)), array=when, cmap=shades, linewidths=widths, zorder=2)
    )
    first, last = (f" ({when})" for when in period) if period else ("", "")
    axes.scatter(*drawn[0].T, s=12, c="white", edgecolors="black", linewidths=0.6, zorder=3, label="first" + first)
    axes.scatter(*drawn[-1].T, s=18, c=SAMPLES, edgecolors="white", linewidths=0.5, zorder=4, label="last" + last)
    tidy(axes, f"{drawn.shape[1]} samples over training; later is darker")
    figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False, columnspacing=1)
    return figure


def field(
    velocity: Callable[[np.ndarray], np.ndarray],
    samples: np.ndarray,
    data: np.ndarray | None = None,
    names: Sequence[str] | None = None,
) -> "Figure":
    """Streamlines of a velocity field, coloured by its length.

    Args:
        velocity: The velocity at points ``(N, 2)``, with that shape.
        samples: Shape ``(N, 2)``; they set the axes where there are no data.
        data: Shape ``(M, 2)``, drawn grey below; sets the axes.
        names: Names of the axes.

    Returns:
        A figure; its colours end at the 99th per cent of the lengths.
    """
    from matplotlib.colors import Normalize

    figure, axes = _over(data, samples, names, beside=0.9)
    x, y = np.linspace(*axes.get_xlim(), ARROWS), np.linspace(*axes.get_ylim(), ARROWS)
    points = np.stack(np.meshgrid(x, y), -1)
    v = velocity(points.reshape(-1, 2)).reshape(points.shape)
    speed = np.linalg.norm(v, axis=-1)
    scale = Normalize(0, float(np.quantile(speed, 0.99)) or 1)
    stream = axes.streamplot(
        x, y, v[..., 0], v[..., 1], color=speed, norm=scale, cmap="plasma_r", density=1.6, linewidth=1, zorder=2
    )
    _colorbar(figure, stream.lines, axes, "speed |v|")
    tidy(axes, "velocity of particles")
    return figure


def densities(samples: np.ndarray, data: np.ndarray, names: Sequence[str] | None = None) -> "Figure":
    """The density of samples beside that of the data, on one grid and one scale of colours.

    Args:
        samples: Shape ``(N, 2)``.
        data: Shape ``(M, 2)``; sets the axes and the scale.
        names: Names of the axes.
    """
    bounds = limits(data)
    figure = fitted_figure(bounds, panels=2, beside=0.9)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    heat = [kernel_density(cloud, bounds) for cloud in (data, samples)]
    for axes, name, cloud, density in zip(panels, ("data", "samples"), (data, samples), heat, strict=True):
        axes.imshow(
            density,
            origin="lower",
            extent=tuple(bounds.ravel()),
            cmap="Blues",
            interpolation="bilinear",
            vmin=0,
            vmax=heat[0].max(),
        )
        fit_axes(axes, bounds)
        tidy(axes, f"{name} ({len(cloud):,}{outside(cloud, bounds)})")
        _name(axes, names)
    panels[1].set_ylabel("")
    _colorbar(figure, panels[0].images[0], panels, "density")
    return figure


def kernel_density(cloud: np.ndarray, bounds: np.ndarray, cells: int = CELLS) -> np.ndarray:
    """A Gaussian kernel density estimate at the centres of a grid's cells; over the plane it integrates to 1.

    Args:
        cloud: Shape ``(N, 2)``.
        bounds: Bounds of the grid, ``((x0, x1), (y0, y1))``.
        cells: Number of cells per axis.

    Returns:
        Shape ``(cells, cells)``: row i is the i-th y, column j the j-th x; zero where no point is near.
    """
    low, size = bounds[:, 0], np.ptp(bounds, axis=1) / cells
    centres = np.arange(cells) + 0.5
    # The kernel is a product over the axes, so the sum over points is a product of matrices.
    x, y = (np.exp(-0.5 * ((centres[:, None] - place) / BANDWIDTH) ** 2) for place in ((cloud - low) / size).T)
    return y @ x.T / (len(cloud) * 2 * np.pi * BANDWIDTH**2 * size.prod())


def _over(
    data: np.ndarray | None, cloud: np.ndarray, names: Sequence[str] | None, beside: float = 0
) -> "tuple[Figure, Axes]":
    """A panel with the data in grey and their axes, or an empty one with the axes of the cloud."""
    bounds = limits(cloud if data is None else data)
    figure = fitted_figure(bounds, beside=beside)
    axes = figure.subplots()
    fit_axes(axes, bounds)
    _name(axes, names)
    if data is not None:
        draw_cloud(axes, data, DATA, bounds, alpha=0.5)
        axes.scatter([], [], s=12, c=DATA, label="data")  # for the legend
    return figure, axes


def _name(axes: "Axes", names: Sequence[str] | None) -> None:
    x, y = names or ("", "")
    axes.set_xlabel(x, fontsize=10, parse_math=False)
    axes.set_ylabel(y, fontsize=10, parse_math=False)


def _colorbar(figure: "Figure", drawn: "ScalarMappable", beside: "Axes | Sequence[Axes]", label: str) -> None:
    bar = figure.colorbar(drawn, ax=beside, extend="max", shrink=0.8)
    bar.set_label(label, fontsize=10)
    bar.ax.tick_params(labelsize=9)
    brief(bar.ax.yaxis)
