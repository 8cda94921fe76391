"""What every reader of `data/` returns: the values as stored, not yet checked, split or standardised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wasserflow._core.errors import UserError
from wasserflow.data.dataset import Container

__all__ = ["Part", "Raw", "encode_labels"]


@dataclass(frozen=True)
class Part:
    """All samples of a source, or its own train, validation or test split.

    Args:
        x: uint8 images ``(N, C, H, W)``, any strides, or numbers ``(N, d)``; may be memory-mapped.
        label: ``(N,)`` int64 in 0..K-1, or None.
        rows: Indices of its samples in ``x``, in order; None for all.
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
        name: Its name in error messages.
        train: Its samples without those of its own test split.
        layout: As in `Form`.
        dtypes: As in `Form`.
        test: Its own test split, if it has one.
        columns: Column names of a table.
        classes: Names of the labels.
        standardise: Whether vectors have mean 0 and variance 1 in model space.
        validation: Its own validation split, if it has one.
        fresh: Whether its parts share one array that is used nowhere else and may be rearranged.
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
        """Positions of the other's columns among these, by name if both have names.

        Args:
            columns: Column names of the other.
            theirs: Name of the other in error messages.

        Raises:
            UserError: If one has a column that the other lacks.
        """
        if self.columns is None or columns is None:
            return list(range(self.train.x.shape[1]))
        if missing := sorted(set(self.columns) ^ set(columns)):
            raise UserError(
                f"{theirs} and {self.name} must have the same columns: only one has {', '.join(missing[:5])}"
            )
        return [self.columns.index(name) for name in columns]


def encode_labels(name: str, *given: np.ndarray) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Labels, whole numbers or words, as 0..K-1.

    Args:
        name: Their name in error messages.
        given: One array per split, ``(N,)`` or ``(N, 1)``.

    Returns:
        One ``(N,)`` int64 array per split, and the K names.

    Raises:
        UserError: If they are not one whole number or word per sample.
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
