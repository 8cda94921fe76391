"""``wasserflow sample RUN -n N --out x.png|x.npy|x.csv|folder/``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from wasserflow.data.dataset import check_finite
from wasserflow.data.write import check_target, write_samples
from wasserflow.errors import UserError
from wasserflow.plot import draw_samples
from wasserflow.train import Run, load

__all__ = ["run"]

MOST_DRAWN = 10_000


@dataclass(frozen=True)
class SampleFlags:
    """Draw samples from a run, in the data's own form; the same seed gives the same samples.

    Args:
        run: The run's folder.
        n: How many samples.
        out: A .png picture, a .npy, .csv or .parquet file, or a folder of PNG images.
        seed: Sample i depends on the seed and on i alone.
        batch: Samples drawn at a time.
        device: cpu, cuda, cuda:1, mps; by default the best one here.
    """

    run: tyro.conf.Positional[Path]
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])]
    out: Path
    seed: int = 0
    batch: int = 1000
    device: str | None = None


def run(argv: Sequence[str]) -> None:
    """Draw samples."""
    flags = tyro.cli(SampleFlags, args=argv, prog="wasserflow sample")
    if flags.n < 1 or flags.batch < 1:
        raise UserError(f"-n and --batch must be at least 1, not {flags.n} and {flags.batch}")
    folder = Run.open(flags.run)
    picture = flags.out.suffix.lower() == ".png"
    size = folder.form.shape[0]
    if not picture:
        check_target(flags.out, folder.form)
    elif not folder.form.is_image and size != 2:
        raise UserError(f"vectors of {size} numbers have no picture: give a .npy, .csv or .parquet file")
    elif flags.n > MOST_DRAWN:
        raise UserError(f"a picture of {flags.n} samples is too large: at most {MOST_DRAWN}, or give a .npy file")
    model = load(flags.run, device=flags.device)
    if picture:
        samples = model.sample(flags.n, seed=flags.seed, batch=flags.batch)
        check_finite(samples)
        draw_samples(samples, flags.out)
    else:
        write_samples(model.stream(flags.n, seed=flags.seed, batch=flags.batch), flags.n, folder.form, flags.out)
    weights = "averaged weights" if model.averages() else "the weights themselves (this run keeps no average)"
    cost = "one network evaluation" if model.evaluations == 1 else f"{model.evaluations:,} network evaluations"
    print(
        f"{flags.n} samples -> {flags.out}: {weights} at {folder.progress().images:,} images, seed {flags.seed}; "
        f"{cost} per sample"
    )
