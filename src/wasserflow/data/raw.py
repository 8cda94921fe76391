"""What every reader of `data/` returns: the values as they came, not yet checked, split or standardised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wasserflow._core.errors import UserError
from wasserflow.data.dataset import Container

__all__ = ["Part", "Raw", "encode_labels"]


@dataclass(frozen=True)
class Part:
    """All samples of a source, or the half that the source itself calls train or test.

    Args:
        x: uint8 images ``(N, C, H, W)``, any strides, or numbers ``(N, d)``; may be memory-mapped.
        label: ``(N,)`` int64 in 0..K-1, or None.
        rows: Which samples count, and in which order; None for all of them.
    """

    x: np.ndarray
    label: np.ndarray | None = None
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.x if self.rows is None else self.rows)


@dataclass(frozen=True)
class Raw:
    """A source that has been read.

    Args:
        name: How an error message calls it.
        train: Its samples, those of its own test split apart.
        layout: As in `Form`.
        dtypes: As in `Form`.
        test: Its own test split, where it has one.
        columns: Column names of a table.
        classes: Names of the labels.
        standardise: Whether vectors are to have mean 0 and variance 1 in model space.
        validation: Its own validation split, where it has one.
        fresh: Whether its parts share one array, which nobody else holds and may be rearranged.
        container: As in `Form`.
    """

    name: str
    train: Part
    layout: str
    dtypes: tuple[str, ...]
    test: Part | None = None
    columns: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    standardise: bool = True
    validation: Part | None = None
    fresh: bool = False
    container: Container = "array"

    def order(self, columns: tuple[str, ...] | None, theirs: str) -> list[int]:
        """Where the columns that ``theirs`` has stand among these: by name where both have names.

        Raises:
            UserError: If one has a name that the other lacks.
        """
        if self.columns is None or columns is None:
            return list(range(self.train.x.shape[1]))
        if missing := sorted(set(self.columns) ^ set(columns)):
            raise UserError(
                f"{theirs} and {self.name} must have the same columns: only one has {', '.join(missing[:5])}"
            )
        return [self.columns.index(name) for name in columns]


def encode_labels(name: str, *given: np.ndarray) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Labels of any whole numbers or words as 0..K-1.

    Args:
        name: How an error message calls them.
        given: One array per split, ``(N,)`` or ``(N, 1)``.

    Returns:
        One ``(N,)`` int64 array per split, and the K names.

    Raises:
        UserError: They are not one whole number or word per sample.
    """
    for labels in given:
        if labels.dtype.kind not in "iubUS" or labels.ndim not in (1, 2) or labels[:1].size > 1:
            raise UserError(
                f"{name} has shape {labels.shape} and type {labels.dtype}: "
                "labels are one whole number or word per sample, shape (N,)."
            )
    values, codes = np.unique(np.concatenate([labels.reshape(-1) for labels in given]), return_inverse=True)
    ends = np.cumsum([len(labels) for labels in given])[:-1]
    classes = tuple(value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values)
    return np.split(codes.astype(np.int64), ends), classes
