"""The log of a training against the images, rows or points seen: a panel for each scalar, whatever its name."""

from collections.abc import Iterable, Mapping, Sequence
from math import isclose, log
from typing import TYPE_CHECKING, Any

import numpy as np

from wasserflow._core.errors import UserError
from wasserflow.plot.figure import DATA, LEVEL, SAMPLES, brief, tidy, tile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curves", "overlaid"]

Log = Mapping[str, Sequence[float] | np.ndarray]

CLOCKS = ("images", "steps", "seconds", "cpu_seconds", "seconds_left", "memory_mb")
"""Columns that say when and at what cost, not what was learned."""

TITLES = {
    "ratio_loss": "ratio loss (classifier)",
    "divergence": "divergence, from the logits",
    "logit": "mean logit d = log p/q",
    "fit_loss": "fit loss (generator to particles)",
    "generator_loss": "generator loss",
    "field_norm": "field norm, mean |v|",
}
"""The scalars that come first, in this order."""

SPEED = "images_per_second"  # comes last

SIDES = {"data": DATA, "samples": SAMPLES}
"""Scalars whose names differ in this last word only share a panel."""

LEVEL_LINE: dict[str, Any] = {"color": LEVEL, "lw": 1, "ls": "--", "zorder": 1}

SMOOTHED = 60
"""Number of logged values from which on a running median is drawn over them."""


def curves(columns: Log, noun: str, equilibrium: float | None = 2 * log(2)) -> "Figure":
    """Draw every scalar of a log against the number of images, rows or points seen.

    From 60 values on, the values are drawn as a thin line, and over them their running median over a thirtieth of the
    training. Where a few values would flatten all others, the panel leaves them out, and its title counts them.

    Args:
        columns: ``images`` and scalars by name, one value per line of the log; not finite where there was none.
        noun: What samples are called: images, rows or points.
        equilibrium: Value of the ratio loss if p = q; None for no such line.

    Returns:
        A figure with a panel per scalar; ``logit_data`` and ``logit_samples`` share one.

    Raises:
        UserError: If there is no scalar.
    """
    seen = np.asarray(columns["images"], float)
    panels = _panels(columns)
    if not panels:
        raise UserError("there are no curves to draw: the log holds no scalars")
    wide = min(len(panels), 3 if len(panels) > 4 else 2)
    figure, grid = tile(len(panels), wide, (3.9, 2.7))
    for axes, (name, sides) in zip(grid, panels.items(), strict=True):
        beyond = _draw(axes, seen, {side: np.asarray(columns[key], float) for side, key in sides.items()})
        tidy(axes, _title(name, noun) + beyond)
        if name == "ratio_loss" and equilibrium is not None:
            value = "2 log 2" if isclose(equilibrium, 2 * log(2)) else f"{equilibrium:.3g}"
            axes.axhline(equilibrium, **LEVEL_LINE, label=f"{value}, where p = q")
        if name in ("divergence", "logit"):
            axes.axhline(0, **LEVEL_LINE)
        if name == SPEED:
            axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
            brief(axes.yaxis)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=9, edgecolor="none")
    for axes in grid[-wide:]:
        axes.set_xlabel(f"{noun} seen", fontsize=10)
    return figure


def overlaid(logs: Mapping[str, Log], noun: str) -> "Figure":
    """Draw the logs of several trainings over each other, with a panel for each scalar.

    Args:
        logs: The columns of each training by its name, as for `curves`; a panel has those that logged its scalar.
        noun: What samples are called: images, rows or points; samples where trainings differ in it.

    Returns:
        A figure with one legend; from 60 values on a curve is a running median.

    Raises:
        UserError: If there is no scalar.
    """
    from matplotlib import colormaps

    names = _ordered(name for log in logs.values() for name in log if name not in CLOCKS)
    if not names:
        raise UserError("there are no curves to draw: the logs hold no scalars")
    wide = min(len(names), 3)
    figure, grid = tile(len(names), wide, (3.9, 2.7))
    colours, dashes = colormaps["tab10"].colors, ("-", "--", ":")  # pyright: ignore[reportAttributeAccessIssue]
    for axes, name in zip(grid, names, strict=True):
        axes.grid(color="#dddddd", lw=0.6)
        shown = []
        for index, columns in enumerate(logs.values()):
            seen, values = np.asarray(columns["images"], float), np.asarray(columns.get(name, ()), float)
            if len(values) >= SMOOTHED:
                seen, values = _running_median(seen, values)
            style = dashes[index // len(colours) % len(dashes)]
            drawn = seen[: len(values)]
            axes.plot(drawn, values, color=colours[index % len(colours)], ls=style, lw=1.4)
            shown.append(values)
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=5)
        brief(axes.xaxis)
        brief(axes.yaxis)
        tidy(axes, _title(name, noun) + _without_spikes(axes, np.concatenate(shown)))
    for axes in grid[-wide:]:
        axes.set_xlabel(f"{noun} seen", fontsize=10)
    legend = figure.legend(
        grid[0].lines, [""] * len(logs), loc="outside upper left", ncols=3, frameon=False, fontsize=10
    )
    for text, training in zip(legend.get_texts(), logs, strict=True):  # a name is no formula, and none is hidden
        text.set(text=training, parse_math=False)
    return figure


def _panels(columns: Mapping[str, object]) -> dict[str, dict[str, str]]:
    """The panels' names in order, with the column of each curve in them by its label."""
    found: dict[str, dict[str, str]] = {}
    for name in columns:
        stem, _, side = name.rpartition("_")
        if all(f"{stem}_{other}" in columns for other in SIDES) and side in SIDES:
            found.setdefault(stem, {})[side] = name
        elif name not in CLOCKS:
            found[name] = {"": name}
    return {name: found[name] for name in _ordered(found)}


def _title(name: str, noun: str) -> str:
    """What stands above the panel of a scalar."""
    return f"{noun} per second" if name == SPEED else TITLES.get(name, name.replace("_", " "))


def _ordered(names: Iterable[str]) -> list[str]:
    """Each name once, the known ones first, the speed last."""
    found = dict.fromkeys(names)
    order = [*TITLES, *(name for name in found if name not in (*TITLES, SPEED)), SPEED]
    return [name for name in order if name in found]


def _draw(axes: "Axes", seen: np.ndarray, series: Mapping[str, np.ndarray]) -> str:
    """Draw the curves of one panel; returns an addition to its title."""
    axes.grid(color="#dddddd", lw=0.6)
    for side, values in series.items():
        colour = SIDES.get(side, SAMPLES)
        if len(values) < SMOOTHED:
            axes.plot(seen, values, color=colour, lw=1.5, marker="o", ms=3, label=side or None)
        else:
            axes.plot(seen, values, color=colour, lw=0.6, alpha=0.4)
            axes.plot(*_running_median(seen, values), color=colour, lw=1.6, label=side or None)
    axes.set_xlim(0, seen[-1] * 1.02)
    axes.locator_params(axis="x", nbins=5)
    brief(axes.xaxis)
    brief(axes.yaxis)
    return _without_spikes(axes, np.concatenate(list(series.values())))


def _without_spikes(axes: "Axes", values: np.ndarray) -> str:
    """Limit the panel to the range of nearly all values, if the others would take four fifths of it."""
    values = values[np.isfinite(values)]
    if len(values) < SMOOTHED:
        return ""
    low, high = np.quantile(values, [0.01, 0.99])
    if high == low or np.ptp(values) < 5 * (high - low):
        return ""
    margin = 0.15 * (high - low)
    axes.set_ylim(low - margin, high + margin)
    beyond = int(((values < low - margin) | (values > high + margin)).sum())
    return f", {beyond} values beyond"


def _running_median(seen: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Medians over a thirtieth of the values, around evenly spaced ones; single spikes do not move them."""
    half = len(values) // 60
    centres = np.unique(np.linspace(0, len(values) - 1, 300).astype(int))
    windows = [values[max(0, i - half) : i + half + 1] for i in centres]
    known = [window[np.isfinite(window)] for window in windows]
    return seen[centres], np.array([np.median(window) if len(window) else np.nan for window in known])
