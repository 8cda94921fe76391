"""Samples against held-out data, with the same metrics for real data beside them.

A distance between finite samples has no natural zero: its bias and scatter depend on counts, features and data. So each
metric stands beside its *real-data reference*, the same metric for as many real training samples, which a perfect
generator would be expected to reach. Training samples are copies of training data, so the reference of ``memorised``
comes from the other held-out split.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wasserflow._core.errors import UserError, unknown
from wasserflow.data import toy
from wasserflow.data.dataset import Dataset
from wasserflow.metric.column import column_rows, correlation_difference
from wasserflow.metric.distance import (
    Estimate,
    energy_distance,
    frechet,
    kernel_distance,
    log_chamfer,
    nearest,
    sliced_wasserstein,
)
from wasserflow.metric.feature import Classifier, Extractor, extractor
from wasserflow.metric.manifold import manifold
from wasserflow.metric.memorisation import mann_whitney
from wasserflow.metric.outside import warn_outside
from wasserflow.metric.pretrained import levels
from wasserflow.metric.protocol import describe
from wasserflow.metric.real_features import BATCH, RealFeatures, features_of
from wasserflow.metric.report import DUE, LOWER_IS_BETTER, Report, Row, signs_of_collapse

__all__ = ["evaluate"]

FEWEST = 10
ENOUGH = 2_000
PER_FEATURE = 4
"""Samples for each dimension of the features, whose covariances some metrics compare."""

Metrics = dict[str, float | Estimate]
Columns = dict[str, tuple[Row, ...]]
Shares = dict[str, dict[str, float]]


def evaluate(
    samples: Tensor,
    data: Dataset,
    *,
    split: str = "test",
    features: str = "pixels",
    seed: int = 0,
    device: torch.device | None = None,
    say: Callable[[str], None] | None = None,
) -> Report:
    """Compare samples with a held-out split at equal counts, each metric beside its real-data reference.

    Images are rounded to grey levels first, as they would be when written to a file. Their metrics are Frechet, kernel
    and sliced distance, precision, recall, density, coverage and memorisation, all between features; with
    ``classifier`` features also the smallest and the largest share of a class. Vectors are compared in model space:
    energy and sliced distance, precision, recall and memorisation, in the plane the log Chamfer distance, for more
    dimensions the Frechet distance too, and for toys with known modes how many of them are covered and which share of
    samples lies close to one. Tables are also compared column by column (`wasserflow.metric.column`). A warning says
    when nearly all samples lie outside the data (`wasserflow.metric.outside`).

    Args:
        samples: In model space, shape ``(N, *shape)``.
        data: The data set that they should resemble.
        split: ``test``, ``validation`` or ``train`` (then the reference comes from the other half of the training
            samples, and memorisation, which needs data that were not trained on, from the test split).
        features: ``pixels``, ``classifier``, ``inception`` or ``dinov2``.
        seed: Random seed of the choice of samples on every side and of the directions of the sliced distance.
            Extractors do not depend on it.
        device: Device of features and metrics; by default that of the samples.
        say: Called with a sentence before a long computation.

    Returns:
        The metrics and all that is needed to repeat them.

    Raises:
        UserError: If the samples have the wrong shape, are not finite or too few, a name is unknown, or the features
            are not available.
    """
    if split not in ("train", "validation", "test"):
        raise unknown("split", split, ("train", "validation", "test"))
    _check(samples, data)
    device = samples.device if device is None else device
    if device.type == "mps":  # all metrics are computed in double precision, which Apple's GPUs lack
        device = torch.device("cpu")
    sides = _choose(samples, data, split, seed)
    count = len(sides.held_out)
    extract = extractor(features, data)
    known = RealFeatures(data, extract, device, say)
    drawn = torch.cat([_as_written(part.to(device), data) for part in sides.samples.split(BATCH)])
    found = features_of(extract, drawn)
    real, reference = known.rows(split, sides.held_out), known.rows("train", sides.reference)

    metrics, ideal = (_metrics(x.double(), real.double(), data, seed) for x in (found, reference))
    warnings, columns = [], None
    if data.form.columns is not None:
        columns = _column_metrics(metrics, ideal, data, found, reference, real)
    if sides.unseen:
        metrics["memorised"], ideal["memorised"] = _memorised(known, found, sides.unseen)
        warnings += warn_outside(drawn, data, next(iter(sides.unseen.items())))
    else:
        warnings.append(f"No memorised: it needs {FEWEST} samples or more in the test and in the validation split.")
    shares = _class_shares(metrics, ideal, data, extract, found, reference, real)
    rows = tuple(_row(name, metrics[name], ideal[name]) for name in metrics)
    warnings += [*_too_few(count, real.shape[1]), *signs_of_collapse(rows, shares)]
    return Report(
        rows=rows,
        data=data.source,
        fingerprint=data.fingerprint,
        split=split,
        features=extract.name,
        count=count,
        available={"samples": len(samples)} | {name: len(data.split(name)) for name in ("train", "validation", "test")},
        seed=seed,
        protocol=describe(data, split, extract, count, {name: len(index) for name, index in sides.unseen.items()}),
        warnings=warnings,
        class_shares=shares,
        columns=columns,
    )


def _check(samples: Tensor, data: Dataset) -> None:
    shape = tuple(samples.shape)
    if samples.ndim == 0 or shape[1:] != data.form.shape or not samples.is_floating_point():
        wanted = ", ".join(map(str, ("N", *data.form.shape)))
        kind = str(samples.dtype).removeprefix("torch.")
        raise UserError(f"samples of {data.source} are floating-point of shape ({wanted}), not {kind} of {shape}.")
    bad = int((~samples.isfinite()).flatten(1).any(1).sum())
    if bad:
        raise UserError(f"{bad:,} of {len(samples):,} samples hold values that are not finite: the model diverged.")


@dataclass(frozen=True)
class _Sides:
    """The samples to evaluate, and the indices of real data: all equally many but ``unseen``.

    Args:
        samples: Chosen samples.
        held_out: Of the split compared with.
        reference: Of the training split.
        unseen: Data that were not trained on, of two splits, that compared with first; nothing if there are too few.
    """

    samples: Tensor
    held_out: Tensor
    reference: Tensor
    unseen: dict[str, Tensor]


def _choose(samples: Tensor, data: Dataset, split: str, seed: int) -> _Sides:
    held_out = data.split(split)
    spare = len(data.train) // 2 if split == "train" else len(data.train)
    count = min(len(samples), len(held_out), spare)
    if count < FEWEST:
        raise UserError(
            f"an evaluation needs at least {FEWEST} samples on each side; there are {len(samples)} samples, "
            f"{len(held_out)} in the {split} split and {spare} training samples beside it."
        )
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(held_out), generator=rng)
    rest = order[count:] if split == "train" else torch.randperm(len(data.train), generator=rng)
    chosen = samples.detach()[torch.randperm(len(samples), generator=rng)[:count].to(samples.device)]
    names = ("validation", "test") if split == "validation" else ("test", "validation")
    unseen = {
        name: (order if name == split else torch.randperm(len(data.split(name)), generator=rng))[:count]
        for name in names
    }
    enough = min(map(len, unseen.values())) >= FEWEST
    return _Sides(chosen, order[:count], rest[:count], unseen if enough else {})


def _as_written(x: Tensor, data: Dataset) -> Tensor:
    """Samples as they would come back from a file."""
    return data.form.to_model(levels(x)) if data.form.is_image else x.float()


def _metrics(samples: Tensor, real: Tensor, data: Dataset, seed: int) -> Metrics:
    """The metrics of one set of features against the held-out ones."""
    spread = manifold(samples, real)
    sliced = sliced_wasserstein(samples, real, seed=seed)
    sides: Metrics = {"precision": spread.precision, "recall": spread.recall}
    if data.form.is_image:
        distances: Metrics = {"frechet": frechet(samples, real), "kernel": kernel_distance(samples, real)}
        return {**distances, "sliced": sliced, **sides, "density": spread.density, "coverage": spread.coverage}
    metrics: Metrics = {"energy": energy_distance(samples, real)}
    if data.form.shape[0] == 2:
        metrics["log_chamfer"] = log_chamfer(samples, real)
    if data.form.shape[0] > 2:
        metrics["frechet"] = frechet(samples, real)
    return {**metrics, "sliced": sliced, **sides, **_mode_metrics(samples, data)}


def _column_metrics(
    metrics: Metrics, ideal: Metrics, data: Dataset, samples: Tensor, reference: Tensor, real: Tensor
) -> Columns:
    """The metrics of each column of a table; adds those of the whole table to the others.

    Args:
        metrics: Metrics of the samples.
        ideal: Their real-data references.
        data: The table.
        samples: Rows in model space, shape ``(N, d)``.
        reference: Training rows.
        real: Held-out rows.
    """
    form = data.form
    clouds = [np.asarray(form.to_data(x), np.float64) for x in (samples, reference, real, data.train.x)]
    kinds = [np.dtype(kind).kind for kind in form.dtypes] * (form.shape[0] if len(form.dtypes) == 1 else 1)
    columns = {
        name: column_rows(*(cloud[:, i] for cloud in clouds), whole=kinds[i] in "iub")
        for i, name in enumerate(form.columns or ())
    }
    distances = [next(row for row in rows if row.name == "ks") for rows in columns.values()]
    for found, values in (
        (metrics, [row.value for row in distances]),
        (ideal, [row.reference for row in distances]),
    ):
        found |= {"ks_mean": float(np.mean(values)), "ks_worst": max(values)}
    if len(columns) > 1:
        metrics["correlations"], ideal["correlations"] = (correlation_difference(x, clouds[2]) for x in clouds[:2])
    return columns


def _memorised(known: RealFeatures, samples: Tensor, unseen: dict[str, Tensor]) -> tuple[Estimate, Estimate]:
    """Whether samples, and the second of the unseen sets, lie nearer to the training samples than the first does."""
    sets = [samples, *(known.rows(name, index) for name, index in unseen.items())]
    near = nearest(torch.cat(sets), known.blocks("train"))
    near_samples, near_held, near_other = near.split([len(x) for x in sets])
    return mann_whitney(near_samples, near_held), mann_whitney(near_other, near_held)


def _class_shares(
    metrics: Metrics,
    ideal: Metrics,
    data: Dataset,
    extract: Extractor,
    samples: Tensor,
    reference: Tensor,
    real: Tensor,
) -> Shares | None:
    """Per class its share of samples and of held-out data; adds the smallest and the largest to the metrics."""
    if not isinstance(extract, Classifier):
        return None
    ours, theirs, training = (extract.shares(x) for x in (samples, real, reference))
    for found, share in ((metrics, ours), (ideal, training)):
        found |= {"smallest_class": min(share), "largest_class": max(share)}
    known = data.classes or ()
    names = known if len(known) == len(ours) else map(str, range(len(ours)))
    return {name: {"samples": a, "real": b} for name, a, b in zip(names, ours, theirs, strict=True)}


def _mode_metrics(points: Tensor, data: Dataset) -> Metrics:
    """How many known modes have at least a tenth of their due within 3 sd, and the share of points so close."""
    centres, sd = toy.modes(data.source), toy.sd(data.source)
    if centres is None or sd is None:
        return {}
    placed = torch.as_tensor(data.form.to_data(points), dtype=torch.float64)
    near = torch.cdist(placed, centres.double()) <= 3 * sd
    covered = near.double().mean(0) >= DUE / len(centres)
    return {"modes": float(covered.sum()), "high_quality": near.any(1).double().mean().item()}


def _row(name: str, value: float | Estimate, reference: float | Estimate) -> Row:
    reference = reference.value if isinstance(reference, Estimate) else reference
    if isinstance(value, Estimate):
        return Row(name, value.value, reference, LOWER_IS_BETTER[name], value.error, value.interval)
    return Row(name, value, reference, LOWER_IS_BETTER[name])


def _too_few(count: int, dimension: int) -> list[str]:
    """A sentence where there are too few samples for metrics that do not depend on their count, or nothing."""
    enough = max(ENOUGH, PER_FEATURE * dimension)
    if count >= enough:
        return []
    return [
        f"Only {count:,} samples on each side: below {enough:,}, metrics of {dimension:,} features have a bias that "
        "depends on the count; compare them with the real-data reference, not with metrics from other counts."
    ]
