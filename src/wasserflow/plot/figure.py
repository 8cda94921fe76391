"""Common style of all plots: colours, panels, axes that fit a cloud, and files written atomically."""

import os
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from wasserflow._core.errors import unknown
from wasserflow._core.files import whole_or_nothing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = [
    "DATA",
    "LEVEL",
    "SAMPLES",
    "brief",
    "fit_axes",
    "fitted_figure",
    "limits",
    "outside",
    "save_figure",
    "tidy",
    "tile",
]

DATA, SAMPLES, LEVEL = "#808080", "#1f5fbf", "#c8553d"
"""Grey for data, blue for samples, red for the target of a curve."""


def fitted_figure(limits: np.ndarray, panels: int = 1, beside: float = 0) -> "Figure":
    """A figure for panels with these limits (2, 2) side by side, and ``beside`` inches for a colour bar."""
    wide, high = np.ptp(limits, axis=1) if _alike(limits) else (1, 1)
    return _figure(panels * (4.5 * float(np.clip(wide / high, 0.5, 2)) + 0.6) + beside, 5)


def tile(count: int, wide: int, panel: tuple[float, float]) -> "tuple[Figure, list[Axes]]":
    """A figure with ``count`` panels of this size in inches, ``wide`` in a row."""
    high = ceil(count / wide)
    figure = _figure(panel[0] * wide, panel[1] * high + 0.3)
    axes = [*np.ravel(figure.subplots(high, wide, squeeze=False))]
    for left_over in axes[count:]:
        left_over.remove()
    return figure, axes[:count]


def tidy(axes: "Axes", title: str) -> None:
    """Set a small title, without TeX, and small numbers, and remove the frame on the sides without an axis."""
    axes.set_title(title, fontsize=11, parse_math=False)
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def limits(cloud: np.ndarray) -> np.ndarray:
    """Range of each coordinate of a cloud (N, d) without its outer 0.5 %, widened by an eighth each way: (d, 2)."""
    low, high = np.quantile(cloud, [0.005, 0.995], axis=0)
    least = np.maximum(1e-6, 1024 * np.spacing(np.abs(low)))  # for ticks and bins around a constant
    margin = np.maximum(high - low, least) / 8
    return np.stack([low - margin, high + margin], axis=1)


def fit_axes(axes: "Axes", limits: np.ndarray) -> None:
    """Set these limits (2, 2), with equal scales if the ranges are similar."""
    axes.set(xlim=limits[0], ylim=limits[1], aspect="equal" if _alike(limits) else "auto")
    brief(axes.xaxis)
    brief(axes.yaxis)


def brief(axis: "Axis") -> None:
    """Write thousands and millions as k and M; call it after the limits have been set."""
    from matplotlib.ticker import EngFormatter

    low, high = axis.get_view_interval()
    largest = max(abs(low), abs(high))
    if largest >= 1e4 and high - low > largest / 10:  # else all ticks would read the same
        axis.set_major_formatter(EngFormatter(sep=""))


def outside(cloud: np.ndarray, limits: np.ndarray) -> str:
    """Addition to a title if points of a cloud (N, d) lie outside the axes."""
    share = float(((cloud < limits[:, 0]) | (cloud > limits[:, 1])).any(1).mean())
    return f", {f'{share:.1%}' if share >= 0.001 else 'under 0.1%'} outside" if share else ""


def save_figure(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Write a figure atomically.

    Args:
        figure: The figure.
        path: The file; its suffix sets the format (``.png``, ``.pdf``, ``.svg`` ...).

    Raises:
        UserError: If the format is unknown or the file cannot be written.
    """
    known = figure.canvas.get_supported_filetypes()
    suffix = os.path.splitext(path)[1].lower()
    if suffix.lstrip(".") not in known:
        raise unknown("picture format", suffix, [f".{name}" for name in known])
    with whole_or_nothing(path) as part:
        figure.savefig(part)


def _figure(width: float, height: float) -> "Figure":
    """An empty figure of this size in inches, with a layout that cuts no label."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="compressed")


def _alike(limits: np.ndarray) -> bool:
    """Whether two axes can have equal scales: the longer range is less than four times the shorter."""
    wide, high = np.ptp(limits, axis=1)
    return bool(1 / 4 < wide / high < 4)
