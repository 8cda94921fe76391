"""Clouds of points in the plane, beside and over the data they should match."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from wasserflow.errors import UserError, unknown
from wasserflow.files import whole_or_nothing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["cloud_frames", "save_scatter"]

MOST = 20_000
"""Points drawn at most; more only fill the paper."""

GREY, COLOUR = "#808080", "#1f5fbf"


def save_scatter(points: Tensor, path: str | os.PathLike[str], reference: Tensor | None = None) -> None:
    """Draw points of the plane; with a reference, in a second panel over it, with the same axes.

    The axes are those of the reference, cut at its outer half per cent and widened a little; how many points lie
    outside them is said above the panel.

    Args:
        points: Shape ``(N, 2)``.
        path: Where to; the suffix sets the format (``.png``, ``.pdf``, ``.svg`` ...).
        reference: Data, shape ``(M, 2)``.
    """
    from matplotlib.figure import Figure

    cloud = _plane(points)
    data = None if reference is None else _plane(reference)
    limits = _limits(cloud if data is None else data)
    panel = 4.5 * float(np.clip(np.divide(*np.ptp(limits, axis=1)), 0.5, 2)) + 0.6
    figure = Figure(figsize=(panel if data is None else 2 * panel, 5), dpi=120, layout="compressed")
    known = figure.canvas.get_supported_filetypes()
    suffix = os.path.splitext(path)[1].lower()
    if suffix.lstrip(".") not in known:
        raise unknown("picture format", suffix, [f".{name}" for name in known])
    panels = np.ravel(figure.subplots(1, 1 if data is None else 2, sharex=True, sharey=True))
    if data is not None:
        _draw(panels[0], data, GREY, limits)
        panels[0].set_title(f"data ({len(data):,})", fontsize=11)
        _draw(panels[1], data, GREY, limits, alpha=0.35)
    _draw(panels[-1], cloud, COLOUR, limits)
    panels[-1].set_title(f"samples ({len(cloud):,}{_outside(cloud, limits)})", fontsize=11)
    with whole_or_nothing(path) as part:
        figure.savefig(part)


def cloud_frames(clouds: Iterable[Tensor], reference: Tensor | None = None) -> list[Image.Image]:
    """One picture per cloud, with fixed axes, for `save_gif`.

    Args:
        clouds: Particles along a flow, each of shape ``(N, 2)``.
        reference: Data, shape ``(M, 2)``, drawn grey below; sets the axes (else the last cloud does).

    Returns:
        Pictures of 480 x 480 pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    history = [_plane(cloud) for cloud in clouds]
    if not history:
        return []
    data = None if reference is None else _plane(reference)
    limits = _limits(history[-1] if data is None else data)
    figure = Figure(figsize=(4.8, 4.8), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    if data is not None:
        _draw(axes, data, GREY, limits, alpha=0.5)
    marks = _draw(axes, history[0], COLOUR, limits)
    frames = []
    for cloud in history:
        marks.set_offsets(_thin(cloud))
        canvas.draw()
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
    return frames


def _draw(axes: "Axes", cloud: np.ndarray, colour: str, limits: np.ndarray, alpha: float = 1.0):  # noqa: ANN202
    shown = _thin(cloud)
    # Dots shrink and thin out as they crowd, so that density stays visible.
    size = float(np.clip(15_000 / len(shown), 2, 14))
    ink = float(np.clip(40 / np.sqrt(len(shown)), 0.35, 0.8))
    marks = axes.scatter(*shown.T, s=size, c=colour, alpha=ink * alpha, linewidths=0, rasterized=True)
    axes.set(xlim=limits[0], ylim=limits[1], aspect="equal")
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return marks


def _thin(cloud: np.ndarray) -> np.ndarray:
    return cloud[:: -(-len(cloud) // MOST)]


def _limits(cloud: np.ndarray) -> np.ndarray:
    """Per axis the range of the cloud without its outer half per cent, widened by an eighth on either side."""
    low, high = np.quantile(cloud, [0.005, 0.995], axis=0)
    margin = np.maximum(high - low, 1e-6) / 8
    return np.stack([low - margin, high + margin], axis=1)


def _outside(cloud: np.ndarray, limits: np.ndarray) -> str:
    share = float(((cloud < limits[:, 0]) | (cloud > limits[:, 1])).any(1).mean())
    return f", {share:.1%} outside" if share else ""


def _plane(points: Tensor) -> np.ndarray:
    """Finite points of the plane as an array, or a sentence."""
    values = points.detach().cpu().double().numpy()
    if values.ndim != 2 or values.shape[1] != 2:
        raise UserError(f"a scatter plot needs points (N, 2), not {tuple(values.shape)}.")
    finite = np.isfinite(values).all(1)
    if not finite.any():
        raise UserError("none of the points is finite: there is nothing to draw.")
    return values[finite]
