"""Start a training, or continue one."""

import dataclasses
from contextlib import nullcontext
from pathlib import Path
from shlex import quote
from typing import get_args

import torch

from wasserflow._core.device import Precision
from wasserflow._core.errors import UserError, check_seed, unknown
from wasserflow._core.files import digest
from wasserflow._core.settings import leaves
from wasserflow.data import DataLike, Dataset
from wasserflow.data import load as load_data
from wasserflow.method import Method, name_of
from wasserflow.method.capability import ComparesWithData
from wasserflow.run.checkpoint import load_latest
from wasserflow.run.store import Run, Source
from wasserflow.training.budget import Budget
from wasserflow.training.interrupt import Interrupted
from wasserflow.training.loop import Report, TrainingDiverged, loop
from wasserflow.training.processes import processes, resolve_training_device
from wasserflow.training.trainer import Trainer

__all__ = ["resume", "train"]


def train(
    model: Method,
    data: "DataLike | Dataset",
    *,
    budget: Budget,
    out: str | Path | None,
    seed: int = 0,
    device: str | None = None,
    precision: Precision = "fp32",
    save_minutes: float = 1.0,
    report: Report | None = None,
) -> Method:
    """Train a model and keep everything in a run folder.

    Args:
        model: From ``VGrow.for_shape`` or another method, also a custom one; it ends up with the trained weights.
        data: A `Dataset`, or anything that `wasserflow.data.load` takes: a name, a path, an array, a DataFrame.
        budget: When to stop.
        out: The run's folder, which must not exist yet; None to keep nothing.
        seed: Random seed of the data's order and of every step.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; by default the best one here.
        precision: Numerical precision of the networks: ``fp32``, or ``bf16``.
        save_minutes: Minutes from one checkpoint to the next.
        report: Called with each line of the log.

    Returns:
        The model, with EMA weights where the method keeps them, in evaluation mode.

    Raises:
        UserError: If an input cannot be used, or the training diverges; the last good checkpoint stays.
        Interrupted: On Ctrl-C or SIGTERM, after saving.

    Example:
        >>> model = wf.VGrow.for_shape((1, 28, 28), divergence="kl")
        >>> wf.train(model, "mnist", budget=wf.Budget(minutes=20), out="runs/mnist")
    """
    main = processes().is_main_process
    if main and out is not None:
        Run.check_free(out)
    name = name_of(type(model))
    if precision not in get_args(Precision):
        raise unknown("precision", precision, get_args(Precision))
    check_seed(seed)
    _check_save_minutes(save_minutes)
    _check_budget(budget)
    data = data if isinstance(data, Dataset) else load_data(data)
    where = resolve_training_device(device)
    trained = _unlike_fresh(model)
    trainer = Trainer(model, data, seed=seed, device=where, precision=precision)
    if out is None:
        return _go(trainer, None, budget, save_minutes, report)
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
            return _go(trainer, run, budget, save_minutes, report)
    except BaseException:
        if main:
            run.discard()
        raise


def resume(
    path: str | Path,
    *,
    budget: Budget | None = None,
    data: "DataLike | Dataset | None" = None,
    device: str | None = None,
    save_minutes: float = 1.0,
    report: Report | None = None,
) -> Method:
    """Continue a run to its budget, or to a larger one, as if it had never stopped.

    With a larger one, learning rates that had decayed (setting ``decay``) rise again and decay at its end.

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
                f"{path} has used up its budget at {progress.images} {run.form.noun}, "
                f"{progress.seconds / 60:.1f} minutes: give a larger `images`, `minutes` or `cpu_minutes` to go on"
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
        return _go(trainer, run, budget, save_minutes, report)


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
        raise UserError(f"`save_minutes` must be above 0, not {minutes}")


def _go(trainer: Trainer, run: Run | None, budget: Budget, save_minutes: float, report: Report | None) -> Method:
    """Train to the budget, and return the model that samples are drawn from."""
    main = processes().is_main_process
    try:
        signal = loop(
            trainer, budget, run if main else None, save_minutes=save_minutes, report=report if main else None
        )
    except TrainingDiverged as error:
        raise _with_advice(error, trainer, run) from error
    processes().wait_for_everyone()
    if signal:
        raise _interrupted(trainer, run, signal)
    trainer.model.load_state_dict(trainer.sampler().state_dict())
    model = trainer.model.eval()
    if isinstance(model, ComparesWithData):
        model.reference.known.clear()
        if main:
            model.study()
        if main and run:
            run.remember(model)
    return model


def _interrupted(trainer: Trainer, run: Run | None, signal: int) -> Interrupted:
    at = f"{trainer.progress.images} {trainer.data.form.noun}"
    if run is None:
        return Interrupted(f"stopped at {at}; nothing is kept without a run folder", signal)
    return Interrupted(f"saved at {at}; wasserflow resume {quote(str(run.path))} continues it", signal)


def _with_advice(error: TrainingDiverged, trainer: Trainer, run: Run | None) -> UserError:
    """What is left of a training that has diverged, and which settings to lower."""
    kept = sorted(run.checkpoints.glob("*.safetensors")) if run else []
    left = f"its last good checkpoint is {kept[-1]}" if kept else "it had no checkpoint yet, so nothing is kept"
    lower = [name for name in leaves(trainer.model.config) if name.startswith("lr") or name == "step_size"]
    return UserError(f"{error}; {left}: train again with a lower {', '.join(f'`{name}`' for name in lower)}")
