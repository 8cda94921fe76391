"""``wasserflow plot RUN``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from wasserflow.cli.flags import option
from wasserflow.run.plots import plot_run

__all__ = ["run"]


@dataclass(frozen=True)
class PlotFlags:
    """Draw a run: what it logged, its samples over training, its field, its samples beside the data.

    Args:
        run: The run's folder.
        out: A folder for the pictures; by default plots in the run's folder.
    """

    run: tyro.conf.Positional[Path]
    out: Annotated[Path | None, option(metavar="FOLDER", help_behavior_hint="")] = None


def run(argv: Sequence[str]) -> None:
    """Plot a run."""
    flags = tyro.cli(PlotFlags, args=argv, prog="wasserflow plot")
    plot_run(flags.run, flags.out, say=print)
