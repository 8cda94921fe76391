"""``wasserflow compare RUN RUN ...``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from wasserflow.run.comparison import compare

__all__ = ["run"]


@dataclass(frozen=True)
class CompareFlags:
    """Compare runs side by side on one HTML page: their metrics, samples, curves, and the settings that differ.

    The metrics are those that wasserflow evaluate has stored; nothing is computed again.

    Args:
        runs: The runs' folders.
        out: The page; one that is there is replaced.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    out: Path = Path("comparison.html")


def run(argv: Sequence[str]) -> None:
    """Compare runs."""
    flags = tyro.cli(CompareFlags, args=argv, prog="wasserflow compare")
    print(compare(flags.runs, flags.out))
