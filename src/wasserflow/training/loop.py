"""The training loop: it knows no method, only that a method has a step, optimisers and averages."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow.method import Method
from wasserflow.training.budget import Budget, Progress
from wasserflow.training.interrupt import catch_signals
from wasserflow.training.ledger import Clock, Ledger, Line
from wasserflow.training.processes import max_over_processes
from wasserflow.training.trainer import Trainer

__all__ = ["Keeper", "Report", "TrainingDiverged", "loop"]

LOG_SECONDS = 5.0
GRID_GROWTH = 1.15  # samples are drawn each time the images seen have grown by this factor
DRAWING = 0.02  # the share of the time that drawing them may take, but for the first and the last

Report = Callable[[Line], None]


class TrainingDiverged(UserError):
    """A value or a weight of a training is no longer finite."""


class Keeper(Protocol):
    """What keeps a training as it goes: a run's folder."""

    def log(self, line: Line) -> None:
        """Keep a line of the log."""
        ...

    def draw(self, model: Method, progress: Progress) -> None:
        """Draw samples of the model as it is; raises `TrainingDiverged` where they are not finite."""
        ...

    def save(self, tensors: Mapping[str, Tensor], progress: Progress) -> None:
        """Keep a checkpoint."""
        ...


def loop(
    trainer: Trainer,
    budget: Budget,
    keeper: Keeper | None = None,
    *,
    save_minutes: float = math.inf,
    report: Report | None = None,
) -> int:
    """Take steps until the budget is used up or a signal asks to stop.

    Args:
        trainer: The model in training.
        budget: When to stop.
        keeper: Where to log, draw and save; None where nothing is kept, as in all processes but the first.
        save_minutes: Minutes from one checkpoint to the next.
        report: Called with each line of the log.

    Returns:
        The number of the signal that asked to stop, 0 where the budget is used up.

    Raises:
        TrainingDiverged: If a logged value or a weight is no longer finite.
    """
    progress = trainer.progress
    clock, ledger = Clock(progress), Ledger(progress, LOG_SECONDS)
    saved_at, next_grid, drawing = progress.seconds, float(progress.images), 0.0
    with catch_signals() as asked:

        def agree() -> tuple[float, int]:
            """The share of the budget that is used up, and a signal or 0: the same in all processes."""
            mine = (budget.done(progress), float(asked[0] if asked else 0))
            used, signal = max_over_processes(mine, trainer.rng.device)
            return used, int(signal)

        used, signal = agree()
        while used < 1 and not signal:
            if keeper and progress.images >= next_grid and drawing <= DRAWING * progress.seconds:
                begun = time.perf_counter()
                keeper.draw(trainer.sampler(), progress)
                drawing += time.perf_counter() - begun
                next_grid = max(progress.images * GRID_GROWTH, 1)
            ledger.add(trainer.step(used))
            clock.tick()
            used, signal = agree()
            last = used >= 1 or bool(signal)
            save = last or progress.seconds - saved_at >= 60 * save_minutes
            if (keeper or report) and (save or progress.seconds - ledger.since >= LOG_SECONDS):
                line = ledger.line(progress, budget)
                if keeper:
                    keeper.log(line)
                if report:
                    report(line)
                _check_finite(line, trainer)
            if keeper and save:
                keeper.save(trainer.tensors(), dataclasses.replace(progress))
                saved_at = progress.seconds
    if keeper:
        keeper.draw(trainer.sampler(), progress)
    return signal


def _check_finite(line: Line, trainer: Trainer) -> None:
    """Raise `TrainingDiverged` if a logged value or a weight is no longer finite."""
    wrong = [name for name, value in line.items() if value is not None and not math.isfinite(value)]
    if wrong or not trainer.is_finite():
        what = wrong[0] if wrong else "a weight"
        seen = f"{trainer.progress.images} {trainer.data.form.noun}"
        raise TrainingDiverged(f"the training diverged by {seen} ({what} is not finite)")
