"""``wasserflow resume RUN``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from wasserflow.cli.progress import show_progress
from wasserflow.run.launch import resume
from wasserflow.training.budget import Budget
from wasserflow.training.processes import processes

__all__ = ["run"]


@dataclass(frozen=True)
class ResumeFlags:
    """Go on with a run as if it had never stopped: to its budget, or to new totals.

    Args:
        run: The run's folder.
        images: Stop after this many images, in total.
        minutes: Stop after this wall time of training, in total.
        cpu_minutes: Stop after this process CPU time of training, in total.
        device: cpu, cuda, cuda:1, mps; by default the best one here.
        save_minutes: Minutes from one checkpoint to the next.
    """

    run: tyro.conf.Positional[Path]
    images: int | None = None
    minutes: float | None = None
    cpu_minutes: float | None = None
    device: str | None = None
    save_minutes: float = 1.0


def run(argv: Sequence[str]) -> None:
    """Resume a run."""
    flags = tyro.cli(ResumeFlags, args=argv, prog="wasserflow resume")
    totals = (flags.images, flags.minutes, flags.cpu_minutes)
    budget = None if totals == (None, None, None) else Budget(*totals)
    main = processes().is_main_process
    with show_progress() as report:
        resume(flags.run, budget=budget, device=flags.device, save_minutes=flags.save_minutes, report=report)
    if main:
        print(f"trained: {flags.run}")
