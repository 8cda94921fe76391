"""``wasserflow demo``: from real handwritten digits to samples in under two minutes, without network or files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from PIL import Image

from wasserflow._core.errors import check_seed
from wasserflow.cli.evaluate import print_report
from wasserflow.cli.progress import show_progress
from wasserflow.data import load as load_data
from wasserflow.method import METHODS
from wasserflow.plot import draw_samples, save_gif
from wasserflow.run.evaluation import evaluate
from wasserflow.run.launch import train
from wasserflow.run.store import Run
from wasserflow.training.budget import Budget

__all__ = ["run"]

MINUTES = 1.25


@dataclass(frozen=True)
class DemoFlags:
    """Train a model on scikit-learn's handwritten digits, measure it, and draw its samples.

    Args:
        out: The run's folder, which must not exist yet.
        seed: Random seed.
    """

    out: Path = Path("wasserflow-demo")
    seed: int = 0


def run(argv: Sequence[str]) -> None:
    """The demo."""
    flags = tyro.cli(DemoFlags, args=argv, prog="wasserflow demo")
    check_seed(flags.seed)
    torch.set_num_threads(1)  # 8x8 images are too small to share: threads would only wait for each other
    Run.check_free(flags.out)
    data = load_data("digits")
    name, method = next(iter(METHODS.items()))
    model = method.for_shape(data.form.shape, seed=flags.seed)
    print(f"{name} on {len(data.train):,} handwritten digits for {60 * MINUTES:.0f} seconds")
    with show_progress(method.watched, data.form.noun) as report:
        train(model, data, budget=Budget(minutes=MINUTES), out=flags.out, seed=flags.seed, report=report)
    draw_samples(model.sample(100, seed=flags.seed), flags.out / "samples.png")
    frames = [Image.open(path).reduce(2) for path in sorted((flags.out / "samples").glob("*.png"))]
    save_gif(frames, flags.out / "flow.gif")
    last = json.loads((flags.out / "log.jsonl").read_text().splitlines()[-1])
    speed = ("images/s", f"{last['images'] / last['seconds']:,.0f}", "", "higher")
    evaluate(flags.out, n=len(data.test), seed=flags.seed, show=lambda report: print_report(report, (speed,)))
    for name, what in {
        "samples.png": "100 samples",
        "flow.gif": "samples of the same noise, from the untrained model to digits",
        "metrics.json": "the metrics",
    }.items():
        print(f"{flags.out / name}: {what}")
