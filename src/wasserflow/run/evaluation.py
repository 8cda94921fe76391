"""A run's samples against the data it was trained on, stored with the run."""

import json
from collections.abc import Callable
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wasserflow import metric
from wasserflow._core.errors import UserError, check_seed
from wasserflow._core.files import whole_or_nothing
from wasserflow.data import DataLike, Dataset
from wasserflow.method import Method
from wasserflow.method.capability import GivesLogRatio
from wasserflow.metric import Report, Row
from wasserflow.run.store import Run

__all__ = ["evaluate", "stored_evaluations"]


def evaluate(
    path: str | Path,
    *,
    n: int = 10_000,
    split: str = "test",
    features: str = "pixels",
    seed: int = 0,
    device: str | torch.device | None = None,
    data: "DataLike | Dataset | None" = None,
    show: Callable[[Report], None] | None = None,
    say: Callable[[str], None] | None = None,
    **settings: Any,
) -> Report:
    """Compare a run's samples with held-out data, and store the metrics in its ``metrics.json``.

    That file holds one evaluation per split and features, under the names ``test/pixels``, ``validation/classifier``
    and so on; evaluating again with the same split and features replaces theirs and leaves the others.

    For a method with a logit there is one more row, ``ratio_loss``: the loss of the run's own classifier between the
    samples and the held-out data, beside its value where it cannot tell them apart (2 log 2 for the logistic loss).

    Args:
        path: The run's folder.
        n: How many samples to draw; the comparison is at equal counts, so at most as many as are held out.
        split: ``test``, or ``validation`` for every choice made on the way.
        features: What images are compared by: ``pixels``, ``classifier``, ``inception`` or ``dinov2``.
        seed: Random seed of the samples and of the evaluation.
        device: Where to compute; by default the best device here.
        data: The same data again, for a run that was trained on an array in memory.
        show: Called with the metrics before they are stored.
        say: Called with a sentence before a long computation.
        settings: Settings of sampling that differ from the method's defaults; they are stored with the metrics.

    Returns:
        The metrics, each beside its real-data reference.

    Raises:
        UserError: If the run, its data or the metrics cannot be computed, or ``metrics.json`` cannot be written.
    """
    if n < 1:
        raise UserError(f"`n` must be at least 1, not {n}")
    check_seed(seed)
    run = Run.open(path)
    held = run.load_data(data)
    model = run.load(device, held)
    drawn = list(model.stream(min(n, len(held.split(split))), seed=seed, **settings))
    samples = torch.cat([part.x.cpu() for part in drawn])
    run.remember(model)
    where = next(model.parameters()).device
    report = metric.evaluate(samples, held, split=split, features=features, seed=seed, device=where, say=say)
    report = _with_ratio_loss(report, model, samples, held)
    report = replace(report, warnings=[*report.warnings, *model.remarks()])
    assert run.at
    measured = {
        "images": run.at.images,
        "cpu_minutes": round(run.at.cpu_seconds / 60, 2),
        "evaluations": sum(part.evaluations * len(part.x) for part in drawn) / len(samples),
        "sampling": vars(model.sampling) | settings,
        **report.to_json(),
    }
    try:
        if show:
            show(report)
    finally:  # a reader that has gone does not cost the metrics
        file = run.path / "metrics.json"
        known = stored_evaluations(file) | {f"{report.split}/{report.features}": measured}
        with whole_or_nothing(file) as unfinished:
            unfinished.write_text(json.dumps(known, indent=2) + "\n")
    return report


def _with_ratio_loss(report: Report, model: Method, samples: Tensor, data: Dataset) -> Report:
    """The report, with the loss of the model's classifier, where it has one, between samples and held-out data."""
    if not isinstance(model, GivesLogRatio):
        return report
    loss = model.ratio_loss
    held_out = data.split(report.split).x
    order = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(report.seed))[: report.count]
    d_p = torch.cat([model.log_ratio(data.form.to_model(held_out[part])).cpu() for part in order.split(1000)])
    value = loss(d_p.double(), model.log_ratio(samples).cpu().double()).item()
    if not isfinite(value):
        return replace(report, warnings=[*report.warnings, "The run's classifier has no finite loss: it diverged."])
    row = Row("ratio_loss", value, loss.equilibrium, lower_is_better=None)
    said = (
        f"The ratio loss is that of the run's own classifier between samples and the {report.split} split, beside its "
        "value where it cannot tell them apart."
    )
    return replace(report, rows=(*report.rows, row), protocol=f"{report.protocol} {said}")


def stored_evaluations(file: Path) -> dict[str, Any]:
    """The evaluations in a ``metrics.json``; none where there is no such file or it cannot be read."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and all(isinstance(one, dict) for one in found.values()) else {}
