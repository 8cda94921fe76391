"""A picture that is ready to be written."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wasserflow import plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Picture", "figure"]


@dataclass(frozen=True)
class Picture:
    """One file: its name, what it shows, and what writes it."""

    name: str
    shows: str
    save: Callable[[Path], None]


def figure(name: str, shows: str, drawn: "Figure") -> Picture:
    """A figure as a picture."""
    return Picture(name, shows, partial(plot.save_figure, drawn))
