"""``wasserflow train METHOD --data D --out RUN``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Annotated

import torch

from wasserflow._core.device import Precision
from wasserflow._core.errors import UserError, check_seed, unknown
from wasserflow._core.settings import with_leaves
from wasserflow.cli.estimate import estimate, pace_of
from wasserflow.cli.flags import BudgetFlags, Device, option, parse
from wasserflow.cli.message import with_flags
from wasserflow.cli.progress import show_progress
from wasserflow.data import Dataset
from wasserflow.data import load as load_data
from wasserflow.method import METHODS, Method
from wasserflow.run.launch import train
from wasserflow.run.store import Run
from wasserflow.training.processes import processes, resolve_training_device
from wasserflow.training.trainer import Trainer

__all__ = ["run"]

LARGE, LARGEST = 128, 512
"""Pixels a side from which on a CPU says beforehand how slow it is, and takes part only when told to."""


@dataclass(frozen=True)
class MachineFlags:
    """How it runs.

    Args:
        seed: Random seed of the initial weights, the data's order and every step.
        device: cpu, cuda, cuda:1 or mps.
        precision: Numerical precision of the networks: bf16 is faster where the hardware computes it fast.
        save_minutes: Minutes from one checkpoint to the next.
        dry_run: Print the settings and the cost of the training, and stop.
    """

    seed: int = 0
    device: Device = None
    precision: Precision = "fp32"
    save_minutes: float = 1.0
    dry_run: bool = False


@dataclass(frozen=True)
class TrainFlags:
    """The run.

    Args:
        data: A named data set, a folder, tar or zip archive of images, or a .npy, .npz, idx, .csv or .parquet file.
        out: The run's folder, which must not exist yet.
        recipe: Name of the settings to start from; the options below change single ones.
        size: Crop images to a square and resize them to this many pixels a side.
        skip_corrupt: Leave out images that cannot be decoded, instead of stopping at the first.
    """

    data: str
    out: Path
    recipe: str = "default"
    size: Annotated[int | None, option(metavar="PIXELS", help_behavior_hint="(default: as they are)")] = None
    skip_corrupt: bool = False
    budget: BudgetFlags = field(default_factory=BudgetFlags)
    machine: MachineFlags = field(default_factory=MachineFlags)


def run(argv: Sequence[str]) -> None:
    """Train, or say what it would cost."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage(), file=sys.stdout if argv else sys.stderr)
        raise SystemExit(0 if argv else 2)
    if argv[0] not in METHODS:
        raise unknown("method", argv[0], METHODS)
    method = METHODS[argv[0]]
    flags, given = parse(
        TrainFlags,
        method.recipe("default", (1, 28, 28)),
        argv[1:],
        f"wasserflow train {argv[0]}",
        about=_about(argv[0]),
        advice="Training stops by --minutes, --cpu-minutes or --images. ",
    )
    if flags.recipe not in method.recipes:
        raise unknown("recipe", flags.recipe, method.recipes)
    check_seed(flags.machine.seed)
    on = resolve_training_device(flags.machine.device)
    budget = flags.budget.budget()
    main = processes().is_main_process
    if main:
        Run.check_free(flags.out)
    data = load_data(flags.data, size=flags.size, skip_corrupt=flags.skip_corrupt)
    shape, seed, precision = data.form.shape, flags.machine.seed, flags.machine.precision
    model = method(with_leaves(method.recipe(flags.recipe, shape), **given), shape, seed)
    if flags.machine.dry_run:
        estimate(Trainer(model, data, seed=seed, device=on, precision=precision), data.source, budget)
        return
    if main:
        _question_size(model, data, on, flags)
        threads = torch.get_num_threads()
        where = f"{on}, {threads} thread{'s' if threads > 1 else ''}" if on.type == "cpu" else str(on)
        print(f"training {argv[0]} on {len(data.train):,} {data.form.noun}: {where}, {precision}", flush=True)
    with show_progress(method.watched, data.form.noun) as report:
        model = train(
            model,
            data,
            budget=budget,
            out=flags.out,
            seed=seed,
            device=flags.machine.device,
            precision=precision,
            save_minutes=flags.machine.save_minutes,
            report=report,
        )
    if main:
        target = "grid.png" if data.form.has_picture else "samples.csv"
        print("\n".join([*map(with_flags, model.remarks()), f"trained: {flags.out}"]))
        print(f"wasserflow sample {quote(str(flags.out))} -n 64 --out {target} draws from it")


def _usage() -> str:
    about = {name: sys.modules[method.__module__].__doc__ or "" for name, method in METHODS.items()}
    methods = "\n".join(f"  {name:10}{words.splitlines()[0]}" for name, words in about.items())
    return (
        f"usage: wasserflow train METHOD --data D --out RUN --minutes N ...\n\nmethods:\n{methods}\n\n"
        "wasserflow train METHOD --help lists the settings."
    )


def _about(name: str) -> str:
    recipes = "\n".join(f"  {recipe:17}{one.about}" for recipe, one in METHODS[name].recipes.items())
    return (
        f"Train {name} and keep everything in a run folder.\n\nRecipes (--recipe):\n{recipes}\n\n"
        "The defaults shown are those of the recipe default for images of 28x28; --dry-run prints those for your data."
    )


def _question_size(model: Method, data: Dataset, on: torch.device, flags: TrainFlags) -> None:
    """Say beforehand how slow a CPU is at large images, and refuse the largest unless the CPU was asked for."""
    side = max(model.shape[1:], default=0)
    if on.type != "cpu" or side <= LARGE:
        return
    if side > LARGEST and not flags.machine.device:
        raise UserError(
            f"images of {side} pixels a side are too large for a CPU: give --size {LARGE // 2} or less, or "
            "--device cpu to train on them all the same"
        )
    trial = type(model)(model.config, model.shape, model.seed)
    pace = pace_of(Trainer(trial, data, seed=0, device=on, precision=flags.machine.precision))
    print(
        f"images of {side} pixels a side are slow on a CPU: {pace} here; --size {LARGE // 2} would be faster, and "
        "--dry-run tells the whole cost",
        flush=True,
    )
