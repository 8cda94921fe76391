"""``wasserflow evaluate RUN``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wasserflow.cli.flags import Device
from wasserflow.cli.message import with_flags
from wasserflow.cli.sampling import parse_with_run
from wasserflow.metric import LOWER_IS_BETTER, Report, Row
from wasserflow.run.evaluation import evaluate

__all__ = ["print_report", "run"]

BETTER = {True: "lower", False: "higher", None: "as real data"}

MOST_COLUMNS = 20
"""Columns of a table that are printed."""

Cells = tuple[str, str, str, str]  # a row: name, for the samples, for real data, which is better


@dataclass(frozen=True)
class EvaluateFlags:
    """Compare a run's samples with held-out data; print the metrics and store them in the run's metrics.json.

    Args:
        run: The run's folder.
        n: Number of samples; the comparison is at equal counts, so at most as many as are held out.
        split: Held-out data: test, or validation for every choice made on the way.
        features: Features of images: pixels (principal components), classifier (a small network trained on the
            training labels), inception or dinov2 (networks trained on millions of other images, from the extra
            "metrics"; their features of the data are kept in the cache folder).
        seed: Random seed of the samples and of the evaluation.
        device: cpu, cuda, cuda:1 or mps.
    """

    run: tyro.conf.Positional[Path]
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 10_000
    split: Literal["test", "validation"] = "test"
    features: Literal["pixels", "classifier", "inception", "dinov2"] = "pixels"
    seed: int = 0
    device: Device = None


def run(argv: Sequence[str]) -> None:
    """Evaluate a run."""
    flags, settings = parse_with_run(EvaluateFlags, argv, "evaluate")
    evaluate(
        flags.run,
        n=flags.n,
        split=flags.split,
        features=flags.features,
        seed=flags.seed,
        device=flags.device,
        show=print_report,
        say=print,
        **settings,
    )
    print(f"stored in {flags.run / 'metrics.json'}")


def print_report(report: Report, above: Sequence[Cells] = ()) -> None:
    """The metrics as a table, each beside its real-data reference, below the rows that stand ``above`` them."""
    table = Table()
    for column in ("", "samples [95 %]", "real data", "better"):
        table.add_column(Text(column), justify="left" if not column else "right")
    for cells in above:
        table.add_row(*cells)
    for row in report.rows:
        low_high = "" if row.interval is None else " [{:.4g}, {:.4g}]".format(*row.interval)
        value = Text(f"{row.value:.4g}{low_high}")
        table.add_row(row.name, value, f"{row.reference:.4g}", BETTER[row.lower_is_better])
    console = Console()
    against = f"the {report.split} split of {Path(report.data).name}, {report.features} features"
    console.print(f"{report.count:,} samples against {against}", highlight=False, markup=False)
    console.print(table)
    if report.columns:
        _print_columns(report.columns, console)
    for warning in report.warnings:
        console.print(with_flags(warning), style="yellow", highlight=False, markup=False)


def _print_columns(columns: dict[str, tuple[Row, ...]], console: Console) -> None:
    """The columns of a table, those that differ most from real data first."""
    found = {name: {row.name: row for row in rows} for name, rows in columns.items()}
    metrics = [metric for metric in LOWER_IS_BETTER if any(metric in rows for rows in found.values())]
    worst = sorted(found, key=lambda name: -found[name]["ks"].value)[:MOST_COLUMNS]
    table = Table()
    table.add_column(Text("samples (real data)"))
    for metric in metrics:
        table.add_column(Text(metric), justify="right")
    for name in worst:
        cells = (found[name].get(metric) for metric in metrics)
        table.add_row(Text(name), *(Text(f"{c.value:.3g} ({c.reference:.3g})" if c else "") for c in cells))
    console.print(table)
    if len(columns) > len(worst):
        console.print(f"the {len(worst)} of {len(columns)} columns that differ most", highlight=False, markup=False)
