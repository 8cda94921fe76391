"""``wasserflow evaluate RUN``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table

from wasserflow.errors import UserError, check_seed
from wasserflow.files import whole_or_nothing
from wasserflow.metric import Report, evaluate
from wasserflow.train import Run, load

__all__ = ["evaluate_run", "run"]


Cells = tuple[str, str, str, str]  # a row: name, for the samples, for real data, which is better


@dataclass(frozen=True)
class EvaluateFlags:
    """Compare a run's samples with held-out data; print the figures and store them in the run's metrics.json.

    Args:
        run: The run's folder.
        n: How many samples to draw; the comparison is at equal counts, so at most as many as are held out.
        split: test, or validation for every choice made on the way.
        features: What images are compared by: pixels (principal components), or classifier (a small network
            trained on the training labels).
        seed: Of the samples and of every choice in the evaluation.
        device: cpu, cuda, cuda:1, mps; by default the best one here.
    """

    run: tyro.conf.Positional[Path]
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 10_000
    split: Literal["test", "validation"] = "test"
    features: Literal["pixels", "classifier"] = "pixels"
    seed: int = 0
    device: str | None = None


def run(argv: Sequence[str]) -> None:
    """Evaluate a run."""
    flags = tyro.cli(EvaluateFlags, args=argv, prog="wasserflow evaluate")
    if flags.n < 1:
        raise UserError(f"-n must be at least 1, not {flags.n}")
    check_seed(flags.seed)
    evaluate_run(flags.run, n=flags.n, split=flags.split, features=flags.features, seed=flags.seed, device=flags.device)
    print(f"stored in {flags.run / 'metrics.json'}")


def evaluate_run(
    path: Path,
    *,
    n: int,
    split: str = "test",
    features: str = "pixels",
    seed: int = 0,
    device: str | None = None,
    above: Sequence[Cells] = (),
) -> Report:
    """Evaluate a run, print the figures, and store them in ``metrics.json`` with what they were measured on.

    Args:
        path: The run's folder.
        n: How many samples to draw, at most as many as are held out.
        split: What to compare with.
        features: What images are compared by.
        seed: Of the samples and of every choice in the evaluation.
        device: Where to compute.
        above: Rows of the table that stand before the figures.
    """
    folder = Run.open(path)
    model = load(path, device=device)
    data = folder.load_data()
    samples = torch.cat([batch.cpu() for batch in model.stream(min(n, len(data.split(split))), seed=seed)])
    report = evaluate(samples, data, split=split, features=features, seed=seed)
    progress = folder.progress()
    measured = {"images": progress.images, "cpu_minutes": round(progress.cpu_seconds / 60, 2), **report.to_json()}
    try:
        with whole_or_nothing(path / "metrics.json") as unfinished:
            unfinished.write_text(json.dumps(measured, indent=2) + "\n")
    finally:  # neither a full disk nor a reader that has gone costs the figures
        _print(report, above)
    return report


def _print(report: Report, above: Sequence[Cells]) -> None:
    """The figures as a table, each beside its floor."""
    table = Table()
    for column in ("", "samples", "real data", "better"):
        table.add_column(column, justify="left" if not column else "right")
    for cells in above:
        table.add_row(*cells)
    for row in report.rows:
        error = f" ± {row.error:.2g}" if row.error is not None else ""
        table.add_row(
            row.name, f"{row.value:.4g}{error}", f"{row.floor:.4g}", "lower" if row.lower_is_better else "higher"
        )
    console = Console()
    against = f"the {report.split} split of {Path(report.data).name}, {report.features} features"
    console.print(f"{report.count:,} samples against {against}", highlight=False)
    console.print(table)
    for warning in report.warnings:
        console.print(warning, style="yellow", highlight=False)
