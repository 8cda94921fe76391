"""The training loop: it knows no method, only that a method has a step, optimisers and averages."""

import dataclasses
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from shlex import quote
from typing import Any, get_args

import numpy as np
import torch

from wasserflow.data import Dataset
from wasserflow.data import load as load_data
from wasserflow.errors import UserError, check_seed, unknown
from wasserflow.files import digest, whole_or_nothing
from wasserflow.method import METHODS, Method
from wasserflow.plot import draw_samples
from wasserflow.train.budget import Budget
from wasserflow.train.checkpoint import load_latest, save_checkpoint
from wasserflow.train.device import Precision, max_over_processes, processes, resolve_training_device
from wasserflow.train.interrupt import Interrupted, catch_signals
from wasserflow.train.ledger import Clock, Ledger, Line
from wasserflow.train.run import Run, Source
from wasserflow.train.trainer import Trainer

__all__ = ["resume", "train"]

LOG_SECONDS = 5.0
GRID_GROWTH = 1.15  # samples are drawn each time the images seen have grown by this factor
GRID_SAMPLES = 100
GRID_POINTS = 1000  # the same, for points of the plane
DRAWING = 0.02  # the share of the time that drawing them may take, but for the first and the last

Report = Callable[[Line], None]


def train(
    model: Method,
    data: Any,
    *,
    budget: Budget,
    out: str | Path,
    seed: int = 0,
    device: str | None = None,
    precision: Precision = "fp32",
    save_minutes: float = 1.0,
    report: Report | None = None,
) -> Method:
    """Train a model and keep everything in a run folder.

    Args:
        model: From ``VGrow.for_shape`` or another method; it ends up with the trained weights.
        data: A `Dataset`, or anything that `wasserflow.data.load` takes: a name, a path, an array.
        budget: When to stop.
        out: The run's folder, which must not exist yet.
        seed: Of the data's order and of every step.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; by default the best one here.
        precision: ``fp32``, or ``bf16`` for networks that compute in bfloat16.
        save_minutes: Minutes from one checkpoint to the next.
        report: Called with each line of the log.

    Returns:
        The model, with averaged weights where the method keeps an average, in evaluation mode.

    Raises:
        UserError: If an input cannot be used, or the training diverges; the last good checkpoint stays.
        Interrupted: On Ctrl-C or SIGTERM, after saving.
    """
    main = processes().is_main_process
    if main:
        Run.check_free(out)
    name = next((name for name, method in METHODS.items() if type(model) is method), None)
    if name is None:
        raise UserError(f"a {type(model).__name__} cannot be trained: it is no model of {', '.join(METHODS)}")
    if precision not in get_args(Precision):
        raise unknown("precision", precision, get_args(Precision))
    check_seed(seed)
    _check_save_minutes(save_minutes)
    _check_budget(budget)
    data = data if isinstance(data, Dataset) else load_data(data)
    where = resolve_training_device(device)
    trained = _unlike_fresh(model)
    trainer = Trainer(model, data, seed=seed, device=where, precision=precision)
    record = {
        "method": name,
        "config": dataclasses.asdict(model.config),
        "form": data.form.to_json(),
        "data": dataclasses.asdict(Source.of(data)),
        "seed": seed,
        "weight_seed": model.seed,
        "weights": trained,
        "device": str(where),
        "precision": precision,
        "budget": dataclasses.asdict(budget),
    }
    run = Run.create(out, record) if main else Run(Path(out), record)
    try:
        with run.locked() if main else nullcontext():
            return _loop(trainer, run, budget, save_minutes, report)
    except BaseException:
        if main:
            run.discard()
        raise


def resume(
    path: str | Path,
    *,
    budget: Budget | None = None,
    data: Any = None,
    device: str | None = None,
    save_minutes: float = 1.0,
    report: Report | None = None,
) -> Method:
    """Go on with a run to its budget, or to a larger one, as if it had never stopped.

    With a larger one learning rates that had fallen (``--decay``) rise again, to fall at its end.

    Args:
        path: The run's folder.
        budget: New totals; the run's own by default.
        data: The same data again, for a run that was trained on an array in memory.
        device: As in `train`.
        save_minutes: As in `train`.
        report: As in `train`.

    Returns:
        The model, as `train` returns it.

    Raises:
        UserError: If the run cannot go on: no checkpoint, other data, or a budget already used up.
        Interrupted: On Ctrl-C or SIGTERM, after saving.
    """
    main = processes().is_main_process
    _check_save_minutes(save_minutes)
    on = resolve_training_device(device)
    run = Run.open(path)
    budget = budget or run.budget
    _check_budget(budget)
    with run.locked() if main else nullcontext():
        tensors, progress, where = load_latest(run.checkpoints)
        if budget.done(progress) >= 1:
            raise UserError(
                f"{path} has used up its budget at {progress.images} images, {progress.seconds / 60:.1f} minutes: "
                "give a larger --images, --minutes or --cpu-minutes to go on"
            )
        trainer = Trainer(
            run.build(),
            run.load_data(data),
            seed=run.record["seed"],
            device=on,
            precision=run.record["precision"],
        )
        trainer.load(tensors, progress, where)
        run.record["budget"] = dataclasses.asdict(budget)
        if main:
            run.write_record()
            run.samples.mkdir(exist_ok=True)
            run.rewind(progress.images)
        return _loop(trainer, run, budget, save_minutes, report)


def _unlike_fresh(model: Method) -> str | None:
    """None where the weights are those of the model's seed, else their SHA-256: a run may begin with trained ones."""
    weights, fresh = (network.state_dict() for network in (model, type(model)(model.config, model.shape, model.seed)))
    if all(torch.equal(weights[name].cpu(), fresh[name].cpu()) for name in fresh):
        return None
    return digest(weights)


def _check_budget(budget: object) -> None:
    if not isinstance(budget, Budget):
        raise UserError(f"the budget must be a wasserflow.Budget, as in Budget(minutes=5), not {budget!r}")


def _check_save_minutes(minutes: float) -> None:
    if not minutes > 0:
        raise UserError(f"--save-minutes must be above 0, not {minutes}")


def _loop(trainer: Trainer, run: Run, budget: Budget, save_minutes: float, report: Report | None) -> Method:
    progress = trainer.progress
    main = processes().is_main_process
    clock, ledger = Clock(progress), Ledger(progress)
    saved_at, next_grid, drawing = progress.seconds, float(progress.images), 0.0
    with catch_signals() as asked:
        used = max_over_processes(budget.done(progress), trainer.rng.device)
        while used < 1:
            if main and progress.images >= next_grid and drawing <= DRAWING * progress.seconds:
                begun = time.perf_counter()
                _draw(trainer, run)
                drawing += time.perf_counter() - begun
                next_grid = max(progress.images * GRID_GROWTH, 1)
            ledger.add(trainer.step(used))
            clock.tick()
            # below 1: the share of the budget, the same in all processes; 1: it is used up; above: a signal
            used = max_over_processes(asked[0] if asked else min(1.0, budget.done(progress)), trainer.rng.device)
            save = used >= 1 or progress.seconds - saved_at >= 60 * save_minutes
            if main and (save or progress.seconds - ledger.since >= LOG_SECONDS):
                line = ledger.line(progress, budget)
                run.log(line)
                if report:
                    report(line)
                _stop_if_diverged(line, trainer, run)
            if main and save:
                save_checkpoint(run.checkpoints, trainer.tensors(), progress)
                run.at, saved_at = dataclasses.replace(progress), progress.seconds
    if main:
        _draw(trainer, run)
    processes().wait_for_everyone()
    if used > 1:
        saved = f"saved at {progress.images} images; wasserflow resume {quote(str(run.path))} goes on"
        raise Interrupted(saved, int(used))
    trainer.model.load_state_dict(trainer.sampler().state_dict())
    model = trainer.model.eval()
    model.remembered.clear()
    if main:
        model.study()
        run.remember(model)
    return model


def _draw(trainer: Trainer, run: Run) -> None:
    plane = trainer.model.shape == (2,)
    samples = trainer.sampler().preview(GRID_POINTS if plane else GRID_SAMPLES)
    if not samples.isfinite().all():
        raise _diverged("a sample", trainer, run)
    path = run.samples / f"{trainer.progress.images:012d}.png"
    shown = run.form.to_picture(samples)
    if plane:  # kept, so that `wasserflow plot` can draw where they went
        with whole_or_nothing(path.with_suffix(".npy")) as unfinished:
            np.save(unfinished, shown.numpy())
    draw_samples(shown, path)


def _stop_if_diverged(line: Line, trainer: Trainer, run: Run) -> None:
    """Raise a `UserError` if a logged value or a weight is no longer finite."""
    wrong = [name for name, value in line.items() if value is not None and not math.isfinite(value)]
    if wrong or not trainer.is_finite():
        raise _diverged(wrong[0] if wrong else "a weight", trainer, run)


def _diverged(what: str, trainer: Trainer, run: Run) -> UserError:
    """The sentence about a training that has diverged: where, what is left of it, and which settings to lower."""
    kept = sorted(run.checkpoints.glob("*.safetensors"))
    left = f"its last good checkpoint is {kept[-1]}" if kept else "it had no checkpoint yet, so nothing is kept"
    settings = [f"--{name.replace('_', '-')}" for name in vars(trainer.model.config)]
    lower = ", ".join(name for name in settings if name.startswith("--lr") or name == "--step-size")
    return UserError(
        f"the training diverged by {trainer.progress.images} images ({what} is not finite); {left}: "
        f"train again with a lower {lower}"
    )
