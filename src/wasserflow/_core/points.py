"""Sets of points, however they come: tensors, NumPy arrays, pandas DataFrames; flattened, checked, in float64."""

import sys
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from wasserflow._core.errors import UserError

__all__ = ["Frame", "P", "Points", "as_points", "check_finite", "flat", "in_kind", "is_frame", "wide"]


class Frame(Protocol):
    """What is used of a pandas DataFrame; pandas itself is never imported."""

    @property
    def columns(self) -> Any:
        """The columns' names."""
        ...

    @property
    def index(self) -> Any:
        """The rows' names."""
        ...

    def to_numpy(self, dtype: Any = ..., copy: bool = ..., na_value: Any = ...) -> np.ndarray:
        """The values as one array."""
        ...


Points = Tensor | np.ndarray | Frame
"""Points (N, *), one per row."""

P = TypeVar("P", bound=Points)
"""The kind in which points are given and given back."""

COMPLEX = "{} holds complex numbers: give their parts as columns"


def as_points(given: object, whose: str) -> Tensor:
    """Points of any kind as a tensor, which shares their memory where it can.

    Args:
        given: A tensor; an array of numbers; a DataFrame with columns of numbers, which becomes float64 (float32 where
            every column is).
        whose: How an error message calls them.

    Raises:
        UserError: If it holds something else than numbers.
    """
    if isinstance(given, Tensor):
        if given.is_complex():
            raise UserError(COMPLEX.format(whose))
        return given
    array = _frame_values(given, whose) if is_frame(given) else np.asarray(given)
    if array.dtype.kind == "c":
        raise UserError(COMPLEX.format(whose))
    if array.dtype.kind not in "fiub":
        raise UserError(f"{whose} holds {array.dtype}, not numbers: convert it with astype")
    long = array.dtype.kind == "f" and array.dtype.itemsize > 8  # torch has no type for it
    array = array.astype(np.float64 if long else array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(array if array.flags.writeable and array.flags.c_contiguous else array.copy())


def in_kind(points: Tensor, given: P) -> P:
    """Points (N, *) in the kind of the ``given`` ones: a tensor, an array, or a DataFrame with their columns."""
    if isinstance(given, Tensor):
        return points  # type: ignore[return-value]
    values = points.detach().cpu().numpy()
    if not is_frame(given):
        return values  # type: ignore[return-value]
    return type(given)(values, columns=given.columns, index=given.index)  # type: ignore[call-arg]


def flat(points: Points) -> Tensor:
    """Points (N, *) of any kind as vectors (N, d), without a graph."""
    return as_points(points, "the array of particles").detach().flatten(1)


def check_finite(points: Tensor, whose: str) -> None:
    """Raise a `UserError` that names the first of the points (N, *) that is not finite."""
    if points.is_floating_point() and not points.isfinite().all():
        row = int((~points.flatten(1).isfinite().all(1)).nonzero()[0])
        raise UserError(f"{whose} holds a number that is not finite in row {row}: fill it in or leave the row out")


def wide(x: Tensor) -> Tensor:
    """``x`` as float64; as float32 on Apple's GPUs, which have nothing wider."""
    return x.float() if x.device.type == "mps" else x.double()


def is_frame(given: object) -> bool:
    """Whether it is a pandas DataFrame, which it can only be once pandas has been imported."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(given, pandas.DataFrame)


def _frame_values(frame: Any, whose: str) -> np.ndarray:
    """The values of a DataFrame as floats; missing ones are nan."""
    numeric = sys.modules["pandas"].api.types.is_numeric_dtype
    for column, kind in frame.dtypes.items():
        if not numeric(kind):
            raise UserError(f"column {column!r} of {whose} holds {kind}, not numbers: encode it or leave it out")
    single = all(kind == np.float32 for kind in frame.dtypes)
    return frame.to_numpy(np.float32 if single else np.float64, na_value=np.nan)
