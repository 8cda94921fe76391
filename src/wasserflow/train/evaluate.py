"""A run's samples against the data it was trained on, stored with the run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from wasserflow import metric
from wasserflow.errors import UserError, check_seed
from wasserflow.files import whole_or_nothing
from wasserflow.metric import Report
from wasserflow.train.run import Run, load

__all__ = ["evaluate"]


def evaluate(
    path: str | Path,
    *,
    n: int = 10_000,
    split: str = "test",
    features: str = "pixels",
    seed: int = 0,
    device: str | torch.device | None = None,
    data: Any = None,
    show: Callable[[Report], None] | None = None,
) -> Report:
    """Compare a run's samples with held-out data, and store the figures in its ``metrics.json``.

    Args:
        path: The run's folder.
        n: How many samples to draw; the comparison is at equal counts, so at most as many as are held out.
        split: ``test``, or ``validation`` for every choice made on the way.
        features: What images are compared by: ``pixels`` or ``classifier``.
        seed: Of the samples and of every choice in the evaluation.
        device: Where to compute; by default the best device here.
        data: The same data again, for a run that was trained on an array in memory.
        show: Called with the figures before they are stored.

    Returns:
        The figures, each beside the same figure for real data.

    Raises:
        UserError: If the run, its data or the figures cannot be had, or ``metrics.json`` cannot be written.
    """
    if n < 1:
        raise UserError(f"-n must be at least 1, not {n}")
    check_seed(seed)
    run = Run.open(path)
    model = load(path, device=device)
    held = run.load_data(data)
    samples = torch.cat([batch.cpu() for batch in model.stream(min(n, len(held.split(split))), seed=seed)])
    report = metric.evaluate(samples, held, split=split, features=features, seed=seed)
    progress = run.progress()
    measured = {"images": progress.images, "cpu_minutes": round(progress.cpu_seconds / 60, 2), **report.to_json()}
    try:
        if show:
            show(report)
    finally:  # a reader that has gone does not cost the figures
        with whole_or_nothing(run.path / "metrics.json") as unfinished:
            unfinished.write_text(json.dumps(measured, indent=2) + "\n")
    return report
