"""What every example shares: its command line, and a picture with its numbers beside it."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import tyro
from numpy import ptp
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow._core.files import whole_or_nothing
from wasserflow.plot import save_figure
from wasserflow.plot.figure import DATA, SAMPLES, limits
from wasserflow.plot.scatter import as_plane, draw_cloud

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["GREY", "PALETTE", "cli", "cloud_panels", "make_folder", "save"]

GREY = "#9a9a9a"
PALETTE = ("#1f5fbf", "#c8531c", "#2b8a3e", "#8a3ffc")


def cli(main: Callable[..., Any]) -> None:
    """Run ``main`` with the flags of the command line; a user's mistake is one sentence on stderr and exit code 2."""
    torch.set_num_threads(1)  # small networks: threads would only wait for each other
    try:
        tyro.cli(main, description=sys.modules[main.__module__].__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, where they are not there yet."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {path}: {error.strerror}; give another --out") from error


def cloud_panels(histories: Mapping[str, Sequence[Tensor]], data: Tensor | None, titles: Sequence[str]) -> "Figure":
    """Clouds (N, 2) along flows: a row per flow, a column per time, the data (M, 2) in grey."""
    from matplotlib.figure import Figure

    starts = [clouds[0] for clouds in histories.values()]
    ends = [clouds[-1] for clouds in histories.values()] if data is None else [data]
    window = limits(torch.cat([*ends, *starts]).numpy())
    wide, high = ptp(window, axis=1)
    width = min(2.6 * wide / high, 3.4)
    size = (0.4 + width * len(titles), (width * high / wide + 0.1) * len(histories) + 0.2)
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    panels = figure.subplots(len(histories), len(titles), sharex=True, sharey=True, squeeze=False)
    for row, (name, clouds) in zip(panels, histories.items(), strict=True):
        row[0].set_ylabel(name, fontsize=10)
        for axes, cloud in zip(row, clouds, strict=True):
            if data is not None:
                draw_cloud(axes, as_plane(data), DATA, window, alpha=0.5)
            draw_cloud(axes, as_plane(cloud), SAMPLES, window).set_sizes([5])
            axes.set(xticks=[], yticks=[])
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(title, fontsize=10)
    return figure


def save(figure: "Figure", numbers: Any, out: Path, name: str) -> None:
    """Write ``NAME.png`` and ``NAME.json`` into a folder, and say where."""
    save_figure(figure, out / f"{name}.png")
    with whole_or_nothing(out / f"{name}.json") as part:
        part.write_text(json.dumps(numbers, indent=2) + "\n")
    print(f"{out / name}.png and .json")
