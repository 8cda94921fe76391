"""Samples of a run, and the model that draws them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from wasserflow.data import DataLike, Dataset
from wasserflow.method import Method
from wasserflow.run.store import Run

if TYPE_CHECKING:
    import pandas

__all__ = ["load", "sample"]


def load(
    path: str | Path, *, device: str | torch.device | None = "cpu", data: DataLike | Dataset | None = None
) -> Method:
    """The model of a run at its newest checkpoint, in evaluation mode.

    Networks that keep EMA weights have those loaded.

    Args:
        path: The run's folder.
        device: Where to put the model; None for the best device here.
        data: The same data again, for a method that samples with them and was trained on an array in memory.

    Raises:
        UserError: If there is no such run or device, or it has no readable checkpoint.
    """
    return Run.open(path).load(device, data)


def sample(
    path: str | Path,
    n: int,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    data: DataLike | Dataset | None = None,
    **settings: Any,
) -> np.ndarray | torch.Tensor | pandas.DataFrame:
    """Samples of a run in the data's own form: an array of their layout, units and type, a tensor, or a DataFrame.

    Args:
        path: The run's folder.
        n: Number of samples.
        seed: Random seed; sample i depends on the seed and on i alone.
        device: Where to compute.
        data: As in `load`.
        settings: Settings of sampling that differ from the method's defaults.

    Raises:
        UserError: If there is no such run, or it has no readable checkpoint.
    """
    run = Run.open(path)
    model = run.load(device, data)
    samples = run.form.to_user(model.sample(n, seed=seed, **settings))
    run.remember(model)
    return samples
