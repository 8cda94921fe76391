"""Log-densities of samples under a run's model, in the data's units, and how well they tell other data apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wasserflow._core.errors import UserError, check_seed
from wasserflow.data import DataLike, Dataset, read_samples
from wasserflow.method.capability import GivesLogDensity
from wasserflow.path import squared_norm
from wasserflow.run.store import Run

__all__ = ["Detection", "bits_per_dim", "detect", "log_density"]

PER_VOLUME = ("density", "likelihood")
"""Kinds that are logarithms of densities, and change with the units of the data."""


def log_density(
    path: str | Path,
    data: "DataLike | Dataset | None" = None,
    *,
    kind: str = "density",
    n: int | None = None,
    device: str | None = "cpu",
    **settings: Any,
) -> np.ndarray:
    """Log-densities of samples under a run's model: the higher, the more like its data.

    Densities and likelihoods are per volume of the data's own units: grey levels of images, units of a table's columns.

    Args:
        path: The folder of a run that learned a potential.
        data: Anything that `wasserflow.data.load` takes; of a set with a test split, that split. By default the run's
            own test split.
        kind: ``density``, ``likelihood``, ``potential`` or ``published``, as the model's ``log_density`` explains.
        n: Use only the first n samples; all by default.
        device: Where to compute.
        settings: Further arguments of the model's ``log_density``.

    Returns:
        Shape (N,), float64.

    Raises:
        UserError: If the run's model has no such density, or the samples do not fit it.
    """
    run, model = _open(path, device)
    return _scores(run, model, _samples(run, data, n), kind, settings)


@dataclass(frozen=True)
class Detection:
    """How well a number tells the run's data from others.

    Args:
        data: What the others are.
        count: How many samples of either side were compared, ours first.
        auroc: The probability that a sample of ours outscores one of the others, by the name of the number.
    """

    data: str
    count: tuple[int, int]
    auroc: dict[str, float]


def detect(
    path: str | Path,
    against: Sequence[Any],
    data: "DataLike | Dataset | None" = None,
    *,
    kind: str = "density",
    n: int | None = None,
    device: str | None = "cpu",
    **settings: Any,
) -> tuple[np.ndarray, list[Detection]]:
    """Log-densities of samples, and how well they tell them from other data, beside two baselines without a model.

    The baselines are ``|x|^2`` in model space, with the sign that suits each set better (which a detector cannot know),
    and a constant. A density that has learned nothing but the data's brightness does no better than the first.

    Args:
        path: As in `log_density`.
        against: Other data, each anything that `wasserflow.data.load` takes.
        data: As in `log_density`.
        kind: As in `log_density`.
        n: As in `log_density`, of each set.
        device: As in `log_density`.
        settings: As in `log_density`.
    """
    from sklearn.metrics import roc_auc_score

    run, model = _open(path, device)
    ours = _samples(run, data, n)
    others = {str(source): _samples(run, source, n) for source in against}
    score_of_ours = _scores(run, model, ours, kind, settings)
    found = []
    for name, theirs in others.items():
        side = np.r_[np.ones(len(ours)), np.zeros(len(theirs))]

        def auroc_of(one: np.ndarray, other: np.ndarray, side: np.ndarray = side) -> float:
            return float(roc_auc_score(side, np.r_[one, other]))

        lengths = auroc_of(squared_norm(ours).numpy(), squared_norm(theirs).numpy())
        auroc = {
            kind: auroc_of(score_of_ours, _scores(run, model, theirs, kind, settings)),
            "|x|^2, better sign": max(lengths, 1 - lengths),
            "constant": auroc_of(np.zeros(len(ours)), np.zeros(len(theirs))),
        }
        found.append(Detection(name, (len(ours), len(theirs)), auroc))
    return score_of_ours, found


def bits_per_dim(log_likelihood: np.ndarray, size: int) -> np.ndarray:
    """Bits per dimension of log-likelihoods in the data's units; for images per grey level, without dequantisation."""
    return -log_likelihood / (size * log(2))


def _open(path: str | Path, device: str | None) -> tuple[Run, GivesLogDensity]:
    run = Run.open(path)
    model = run.load(device)
    if not isinstance(model, GivesLogDensity):
        raise UserError(f"{path} is a run of {run.record['method']}, which learns no potential, and so no density")
    return run, model


def _samples(run: Run, source: Any, n: int | None) -> Tensor:
    if n is not None and n < 1:
        raise UserError(f"`n` must be at least 1, not {n}")
    x = run.form.to_model(run.load_data().test.x[:n]) if source is None else read_samples(source, run.form)[:n]
    return x


def _scores(run: Run, model: Any, x: Tensor, kind: str, settings: dict[str, Any]) -> np.ndarray:
    check_seed(settings.get("seed", 0))
    values = model.log_density(x, kind=kind, **settings).double()
    if not torch.isfinite(values).all():
        share = 1 - float(values.isfinite().double().mean())
        raise UserError(f"{share:.0%} of the values are not finite: the kind {kind} does not suit this run")
    return values.numpy() + (run.form.log_jacobian if kind in PER_VOLUME else 0.0)
