"""``wasserflow sample RUN -n N --out x.png|x.npy|x.csv|folder/``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow.cli.flags import Device, option
from wasserflow.cli.sampling import parse_with_run
from wasserflow.data import read_samples
from wasserflow.data.write import check_target, write_samples
from wasserflow.method import Method
from wasserflow.method.base import Drawn
from wasserflow.method.capability import GivesLogDensity
from wasserflow.plot import draw_samples
from wasserflow.run.samples import load
from wasserflow.run.store import Run

__all__ = ["run"]

MOST_DRAWN = 10_000


@dataclass(frozen=True)
class SampleFlags:
    """Draw samples from a run, in the data's own form; the same seed gives the same samples.

    Args:
        run: The run's folder.
        n: Number of samples; by default those of --from.
        out: A .png picture, a .npy, .csv or .parquet file, or a folder of PNG images.
        seed: Random seed; sample i depends on the seed and on i alone.
        start: Samples to start from instead of noise: a file or folder of the data's own form.
        blend: Run of another potential, on samples of the same shape: follow the weighted sum of both potentials,
            towards the product of powers of both densities; --corrections bring samples closer to it.
        share: Power of the other run's density; this run's has the rest.
        batch: Samples drawn at a time.
        device: cpu, cuda, cuda:1 or mps.
    """

    run: tyro.conf.Positional[Path]
    out: Path
    n: Annotated[int | None, option(aliases=["-n"], metavar="N", help_behavior_hint="")] = None
    seed: int = 0
    start: Annotated[str | None, option(name="from", metavar="PATH", help_behavior_hint="")] = None
    blend: Annotated[Path | None, option(metavar="RUN", help_behavior_hint="")] = None
    share: Annotated[float | None, option(metavar="SHARE", help_behavior_hint="(default: 0.5)")] = None
    batch: int = 1000
    device: Device = None


def run(argv: Sequence[str]) -> None:
    """Draw samples."""
    flags, settings = parse_with_run(SampleFlags, argv, "sample")
    if flags.batch < 1:
        raise UserError(f"--batch must be at least 1, not {flags.batch}")
    if flags.share is not None and not flags.blend:
        raise UserError("--share is the part of another run: name that by --blend")
    folder = Run.open(flags.run)
    n, start = _count(flags, folder)
    picture = flags.out.suffix.lower() == ".png"
    check_target(flags.out, folder.form)
    if picture and n > MOST_DRAWN:
        raise UserError(f"a picture of {n} samples is too large: at most {MOST_DRAWN}, or give a .npy file")
    model = folder.load(flags.device)
    if flags.blend:
        _blend(model, load(flags.blend, device=flags.device), 0.5 if flags.share is None else flags.share)
    samples = model.stream(n, seed=flags.seed, batch=flags.batch, start=start, **settings)
    total = 0.0

    def counted() -> Iterator[Drawn]:
        nonlocal total
        for part in samples:
            total += part.evaluations * len(part.x)
            yield part

    if picture:
        draw_samples(folder.form.to_picture(torch.cat([part.x for part in counted()])), flags.out)
    else:
        write_samples((part.x for part in counted()), n, folder.form, flags.out)
    folder.remember(model)
    weights = "EMA weights" if model.averages() else "raw weights (no EMA)"
    each = total / n
    cost = "one network evaluation" if each == 1 else f"{each:,g} network evaluations"
    print(
        f"{n} samples -> {flags.out}: {weights} at {folder.at.images if folder.at else 0:,} {folder.form.noun}, "
        f"seed {flags.seed}; {cost} per sample"
    )


def _blend(model: Method, other: Method, share: float) -> None:
    if not (isinstance(model, GivesLogDensity) and isinstance(other, GivesLogDensity)):
        without = other if isinstance(model, GivesLogDensity) else model
        raise UserError(f"--blend adds potentials, and {type(without).__name__} learns none")
    model.blend(other, share)


def _count(flags: SampleFlags, folder: Run) -> tuple[int, Tensor | None]:
    """How many samples are wanted, and those to start from."""
    if flags.n is not None and flags.n < 1:
        raise UserError(f"-n must be at least 1, not {flags.n}")
    if flags.start is None:
        if flags.n is None:
            raise UserError("say how many samples are wanted: -n N")
        return flags.n, None
    start = read_samples(flags.start, folder.form)
    n = len(start) if flags.n is None else flags.n
    if n > len(start):
        raise UserError(f"{flags.start} holds {len(start)} samples: -n {n} is more than that")
    return n, start[:n]
