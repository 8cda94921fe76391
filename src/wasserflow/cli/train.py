"""``wasserflow train METHOD --data D --out RUN``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated

import tyro

from wasserflow._core.device import Precision
from wasserflow._core.errors import UserError, check_seed, unknown
from wasserflow._core.settings import leaves
from wasserflow.cli.estimate import estimate
from wasserflow.cli.progress import show_progress
from wasserflow.data import load as load_data
from wasserflow.method import METHODS, MethodConfig
from wasserflow.run.launch import train
from wasserflow.run.store import Run
from wasserflow.training.budget import Budget
from wasserflow.training.processes import processes, resolve_training_device
from wasserflow.training.trainer import Trainer

__all__ = ["run"]


@dataclass(frozen=True)
class TrainFlags:
    """The run.

    Args:
        data: A named set, a folder, tar or zip archive of images, or a .npy, .npz, idx, .csv or .parquet file.
        out: The run's folder, which must not exist yet.
        size: Crop images to a square and resize them to this many pixels a side.
        skip_corrupt: Leave out images that cannot be decoded, instead of stopping at the first.
        recipe: Where the settings below start from: default, or paper for the authors' (not residual); vgrow also has
            ept and pg, vapo paper-v1, paper-tmlr and energy-matching instead of paper.
        images: Stop after this many images.
        minutes: Stop after this wall time of training.
        cpu_minutes: Stop after this process CPU time of training.
        seed: Of the initial weights, the data's order and every step.
        device: cpu, cuda, cuda:1, mps; by default the best one here.
        precision: Of the networks: fp32, or bf16 where the hardware computes it fast.
        save_minutes: Minutes from one checkpoint to the next.
        dry_run: Print the settings and what the run would cost, and stop.
    """

    data: str
    out: Path
    size: int | None = None
    skip_corrupt: bool = False
    recipe: str = "default"
    images: int | None = None
    minutes: float | None = None
    cpu_minutes: float | None = None
    seed: int = 0
    device: str | None = None
    precision: Precision = "fp32"
    save_minutes: float = 1.0
    dry_run: bool = False


def run(argv: Sequence[str]) -> None:
    """Train, or say what it would cost."""
    if not argv or argv[0] in ("-h", "--help"):
        about = {name: sys.modules[method.__module__].__doc__ or "" for name, method in METHODS.items()}
        methods = "\n".join(f"  {name:10}{words.splitlines()[0]}" for name, words in about.items())
        print(
            f"usage: wasserflow train METHOD --data D --out RUN ...\n\nmethods:\n{methods}\n\n"
            "wasserflow train METHOD --help lists the settings.",
            file=sys.stdout if argv else sys.stderr,
        )
        raise SystemExit(0 if argv else 2)
    if argv[0] not in METHODS:
        raise unknown("method", argv[0], METHODS)
    method = METHODS[argv[0]]
    # Read twice: what a setting defaults to depends on the data, and the data on the flags.
    try:
        flags, _ = _parse(argv, method.recipe("default", (1, 28, 28)))
    except UserError:  # of settings that may suit the recipe: the second reading says
        flags, _ = tyro.cli(TrainFlags, args=argv[1:], return_unknown_args=True, config=(tyro.conf.FlagCreatePairsOff,))
    budget = Budget(flags.images, flags.minutes, flags.cpu_minutes)
    check_seed(flags.seed)
    resolve_training_device(flags.device)
    main = processes().is_main_process
    if main:
        Run.check_free(flags.out)
    data = load_data(flags.data, size=flags.size, skip_corrupt=flags.skip_corrupt)
    _, config = _parse(argv, method.recipe(flags.recipe, data.form.shape))
    model = method.for_shape(data.form.shape, seed=flags.seed, **leaves(config))
    if flags.dry_run:
        on = resolve_training_device(flags.device)
        estimate(Trainer(model, data, seed=flags.seed, device=on, precision=flags.precision), data.source, budget)
        return
    with show_progress() as report:
        train(
            model,
            data,
            budget=budget,
            out=flags.out,
            seed=flags.seed,
            device=flags.device,
            precision=flags.precision,
            save_minutes=flags.save_minutes,
            report=report,
        )
    if main:
        target = "grid.png" if data.form.has_picture else "samples.csv"
        print(f"trained: {flags.out}\nwasserflow sample {quote(str(flags.out))} -n 64 --out {target} draws from it")


def _parse(argv: Sequence[str], defaults: MethodConfig) -> tuple[TrainFlags, MethodConfig]:
    def both(run, settings):  # noqa: ANN001, ANN202
        return run, settings

    plain = tyro.conf.OmitArgPrefixes
    both.__annotations__ = {
        "run": tyro.conf.FlagCreatePairsOff[plain[TrainFlags]],
        "settings": plain[Annotated[type(defaults), tyro.conf.arg(name=argv[0])]],
    }
    both.__defaults__ = (defaults,)
    return tyro.cli(
        both,
        args=argv[1:],
        prog=f"wasserflow train {argv[0]}",
        description=f"Train {argv[0]} and keep everything in a run folder. The defaults shown are those for images of "
        "28x28; --dry-run prints those for your data.",
    )
