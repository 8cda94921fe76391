"""``wasserflow resume RUN``."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from wasserflow.cli.flags import BudgetFlags, Device, parse
from wasserflow.cli.message import with_flags
from wasserflow.cli.progress import show_progress
from wasserflow.run.launch import resume
from wasserflow.run.store import Run
from wasserflow.training.processes import processes

__all__ = ["run"]


@dataclass(frozen=True)
class ResumeFlags:
    """Continue a run to its budget, or to a larger one, as if it had never stopped.

    Args:
        run: The run's folder.
        device: cpu, cuda, cuda:1 or mps.
        save_minutes: Minutes from one checkpoint to the next.
    """

    run: tyro.conf.Positional[Path]
    device: Device = None
    save_minutes: float = 1.0
    budget: BudgetFlags = field(default_factory=BudgetFlags)


def run(argv: Sequence[str]) -> None:
    """Resume a run."""
    flags, _ = parse(ResumeFlags, None, argv, "wasserflow resume")
    budget = flags.budget.budget() if flags.budget.given else None
    run = Run.open(flags.run)
    with show_progress(run.method.watched, run.form.noun) as report:
        model = resume(flags.run, budget=budget, device=flags.device, save_minutes=flags.save_minutes, report=report)
    if processes().is_main_process:
        print("\n".join([*map(with_flags, model.remarks()), f"trained: {flags.run}"]))
