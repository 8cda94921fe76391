"""Clouds of points in the plane, beside and over the data."""

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow.plot.figure import DATA, SAMPLES, fit_axes, fitted_figure, limits, outside, save_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

__all__ = ["as_plane", "cloud_frames", "draw_cloud", "save_scatter"]

MOST = 20_000
"""Most points drawn."""


def save_scatter(points: Tensor, path: str | os.PathLike[str], reference: Tensor | None = None) -> None:
    """Draw points of the plane; with a reference, in a second panel over it, with the same axes.

    The axes fit the reference without its outer 0.5 %; the title states the share of points outside them.

    Args:
        points: Shape ``(N, 2)``.
        path: The file; its suffix sets the format (``.png``, ``.pdf``, ``.svg`` ...).
        reference: Data, shape ``(M, 2)``.
    """
    cloud = as_plane(points)
    data = None if reference is None else as_plane(reference)
    bounds = limits(cloud if data is None else data)
    count = 1 if data is None else 2
    figure = fitted_figure(bounds, panels=count)
    panels = np.ravel(figure.subplots(1, count, sharex=True, sharey=True))
    if data is not None:
        draw_cloud(panels[0], data, DATA, bounds)
        tidy(panels[0], f"data ({len(data):,})")
        draw_cloud(panels[1], data, DATA, bounds, alpha=0.35)
    draw_cloud(panels[-1], cloud, SAMPLES, bounds)
    tidy(panels[-1], f"samples ({len(cloud):,}{outside(cloud, bounds)})")
    save_figure(figure, path)


def cloud_frames(
    clouds: Iterable[Tensor | np.ndarray],
    reference: Tensor | np.ndarray | None = None,
    titles: Sequence[str] | None = None,
    around: Tensor | np.ndarray | None = None,
) -> list[Image.Image]:
    """One picture per cloud, with fixed axes, for `save_gif`.

    Args:
        clouds: Particles along a flow, each of shape ``(N, 2)``.
        reference: Data, shape ``(M, 2)``, drawn in grey below; sets the axes (else the last cloud does).
        titles: Titles of the pictures.
        around: Points ``(K, 2)`` that set the axes instead.

    Returns:
        Pictures of 480 x 480 pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    history = [as_plane(cloud) for cloud in clouds]
    if not history:
        return []
    data = None if reference is None else as_plane(reference)
    widest = as_plane(around) if around is not None else history[-1] if data is None else data
    bounds = limits(widest)
    figure = Figure(figsize=(4.8, 4.8), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    if data is not None:
        draw_cloud(axes, data, DATA, bounds, alpha=0.5)
    marks = draw_cloud(axes, history[0], SAMPLES, bounds)
    tidy(axes, titles[0] if titles else "")
    for artist in (marks, axes.title):  # the rest is laid out and drawn once
        artist.set_animated(True)
    canvas.draw()
    ground = canvas.copy_from_bbox(figure.bbox)
    frames = []
    for index, cloud in enumerate(history):
        canvas.restore_region(ground)
        marks.set_offsets(_thin(cloud))
        axes.title.set_text(titles[index] if titles else "")
        axes.draw_artist(marks)
        axes.draw_artist(axes.title)
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
    return frames


def draw_cloud(
    axes: "Axes", cloud: np.ndarray, colour: str, limits: np.ndarray, alpha: float = 1.0
) -> "PathCollection":
    """Draw dots, smaller and fainter the more there are, so that density stays visible; sets the axes."""
    shown = _thin(cloud)
    size = float(np.clip(15_000 / len(shown), 2, 14))
    ink = float(np.clip(40 / np.sqrt(len(shown)), 0.35, 0.8))
    marks = axes.scatter(*shown.T, s=size, c=colour, alpha=ink * alpha, linewidths=0, rasterized=True)
    fit_axes(axes, limits)
    return marks


def as_plane(points: Tensor | np.ndarray) -> np.ndarray:
    """The finite points of the plane as an array; raises a `UserError` if there are none."""
    values = np.asarray(points.detach().cpu() if isinstance(points, Tensor) else points, np.float64)
    if values.ndim != 2 or values.shape[1] != 2:
        raise UserError(f"a scatter plot needs points (N, 2), not {tuple(values.shape)}.")
    finite = np.isfinite(values).all(1)
    if not finite.any():
        raise UserError("none of the points is finite: there is nothing to draw.")
    return values[finite]


def _thin(cloud: np.ndarray) -> np.ndarray:
    return cloud[:: -(-len(cloud) // MOST)]
