"""``wasserflow density RUN --data X``."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from wasserflow._core.errors import UserError
from wasserflow._core.files import whole_or_nothing
from wasserflow.cli.flags import Device, option
from wasserflow.potential.density import READ_AT
from wasserflow.run.density import bits_per_dim, detect
from wasserflow.run.store import Run

__all__ = ["run"]


@dataclass(frozen=True)
class DensityFlags:
    """Log-densities and likelihoods of samples under a run's model, and how well they tell other data apart.

    Args:
        run: The folder of a run whose method learns a potential.
        data: A named set, or a file or folder of the data's own form; by default the run's test split.
        against: Other data to detect; prints the AUROC beside those of |x|^2 and of a constant, and stores them in
            the run's detection.json.
        out: A .csv or .npy file for the values of --data, one a row.
        kind: density (log-density of slightly blurred data, up to a constant, in one evaluation), likelihood
            (normalised log-likelihood of the flow, with bits per dimension; as costly as samples), potential (psi
            itself), or published (log(4 psi - |x|^2) at t = 1, from the code of the second paper).
        time: Time at which the potential is evaluated, between 0 and 1: later blurs less, errs more.
        label: Class label, for runs with --classes; -1 for all classes.
        n: Use only the first N samples of each set.
        steps: Steps of Heun's rule, for a likelihood.
        probes: Random directions that estimate the divergence, for a likelihood.
        seed: Random seed of those directions.
        device: cpu, cuda, cuda:1 or mps.
    """

    run: tyro.conf.Positional[Path]
    data: Annotated[str | None, option(metavar="DATA", help_behavior_hint="")] = None
    against: Annotated[tuple[str, ...], option(metavar="DATA ...", help_behavior_hint="")] = ()
    out: Annotated[Path | None, option(metavar="PATH", help_behavior_hint="")] = None
    kind: Literal["density", "likelihood", "potential", "published"] = "density"
    time: float = READ_AT
    label: int = -1
    n: Annotated[int | None, option(aliases=["-n"], metavar="N", help_behavior_hint="")] = None
    steps: int = 50
    probes: int = 1
    seed: int = 0
    device: Device = None


def run(argv: Sequence[str]) -> None:
    """Print log-densities."""
    flags = tyro.cli(DensityFlags, args=argv, prog="wasserflow density")
    if flags.out and flags.out.suffix.lower() not in (".csv", ".npy"):
        raise UserError(f"cannot write values to {flags.out}: give a .csv or .npy file")
    if min(flags.steps, flags.probes) < 1:
        raise UserError(f"--steps and --probes must be at least 1, not {flags.steps} and {flags.probes}")
    more: dict[str, Any] = {}
    if flags.kind == "likelihood":
        more = {"steps": flags.steps, "probes": flags.probes, "seed": flags.seed}
    scores, found = detect(
        flags.run,
        flags.against,
        flags.data,
        kind=flags.kind,
        n=flags.n,
        device=flags.device,
        time=flags.time,
        label=flags.label,
        **more,
    )
    columns = {flags.kind: scores}
    if flags.kind == "likelihood":
        columns["bits_per_dim"] = bits_per_dim(scores, prod(Run.open(flags.run).form.shape))
    for name, values in columns.items():
        print(f"{name}: mean {values.mean():.6g}, standard deviation {values.std():.4g}, of {len(values):,} samples")
    if flags.out:
        _write(flags.out, columns)
        print(f"values -> {flags.out}")
    if found:
        _print_detections(found)
        file = flags.run / "detection.json"
        told = {"kind": flags.kind, "time": flags.time, "data": flags.data or "test split"}
        with whole_or_nothing(file) as unfinished:
            unfinished.write_text(json.dumps(told | {"against": [asdict(one) for one in found]}, indent=2) + "\n")
        print(f"stored in {file}")


def _write(path: Path, columns: dict[str, np.ndarray]) -> None:
    with whole_or_nothing(path) as unfinished:
        if path.suffix.lower() == ".npy":
            np.save(unfinished, next(iter(columns.values())))
        else:
            rows = np.stack(list(columns.values()), 1)
            np.savetxt(unfinished, rows, "%.9g", ",", header=",".join(columns), comments="")


def _print_detections(found: Sequence[Any]) -> None:
    table = Table(title="AUROC: probability that a sample of the data outscores one of the others")
    table.add_column("against")
    for name in found[0].auroc:
        table.add_column(name, justify="right")
    table.add_column("samples", justify="right")
    for one in found:
        cells = [f"{value:.3f}" for value in one.auroc.values()]
        table.add_row(Path(one.data).name, *cells, "{:,} and {:,}".format(*one.count))
    Console().print(table)
