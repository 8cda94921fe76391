"""What every example shares: its command line, and a picture with its numbers beside it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import tyro

from wasserflow.errors import UserError
from wasserflow.files import whole_or_nothing
from wasserflow.plot import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["GREY", "PALETTE", "cli", "make_folder", "save"]

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


def save(figure: "Figure", numbers: Any, out: Path, name: str) -> None:
    """Write ``NAME.png`` and ``NAME.json`` into a folder, and say where."""
    save_figure(figure, out / f"{name}.png")
    with whole_or_nothing(out / f"{name}.json") as part:
        part.write_text(json.dumps(numbers, indent=2) + "\n")
    print(f"{out / name}.png and .json")
