"""A data set in memory, and the map between its own form and model space."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import log, prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from wasserflow._core.errors import UserError, unknown
from wasserflow._core.settings import read_settings, settings

if TYPE_CHECKING:
    import pandas

__all__ = ["Container", "Dataset", "Form", "Split", "value_range"]

Container = Literal["array", "tensor", "frame"]


@settings
class Form:
    """The form in which the data were given, so that samples can be returned in the same form.

    Model space is float32: images ``(N, C, H, W)`` in [-1, 1], or vectors ``(N, d)``, standardised where
    ``mean`` is given.

    Args:
        shape: One sample in model space, ``(C, H, W)`` or ``(d,)``.
        layout: Axes of the array as given: ``NHW``, ``NHWC``, ``NCHW`` (images) or ``ND`` (vectors).
        dtypes: NumPy type names: one for all values, or one per column of a table.
        mean: Mean of each column, in the data's units; None for images and for vectors that are not standardised.
        std: Standard deviation of each column, like ``mean``.
        columns: Column names of a table.
        container: Type of the object in memory: ``tensor``, ``frame`` (a pandas DataFrame), or ``array``, also for
            data given by name or path.
    """

    shape: tuple[int, ...]
    layout: str
    dtypes: tuple[str, ...]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    columns: tuple[str, ...] | None = None
    container: Container = "array"

    @property
    def noun(self) -> str:
        """Name of samples in texts: ``images``, ``rows`` of a table, or ``points``."""
        return "images" if self.is_image else "points" if self.columns is None else "rows"

    @property
    def is_image(self) -> bool:
        """Whether a sample is an image rather than a vector."""
        return len(self.shape) == 3

    @property
    def has_picture(self) -> bool:
        """Whether samples can be drawn: images, and points of the plane."""
        return self.is_image or self.shape == (2,)

    def to_model(self, stored: Tensor) -> Tensor:
        """Stored values, uint8 images or float32 vectors, in model space: float32."""
        return stored.float().div_(127.5).sub_(1) if self.is_image else stored

    @property
    def log_jacobian(self) -> float:
        """``log |d model / d data|``; added to a log-density in model space it gives that in the data's units."""
        if self.is_image:
            return -prod(self.shape) * log(127.5)
        return 0.0 if self.std is None else -sum(log(value) for value in self.std)

    def standardise(self, values: np.ndarray) -> np.ndarray:
        """Vectors in the data's units brought into model space: mean 0 and variance 1 if the form is standardised."""
        return values if self.mean is None else (values - np.asarray(self.mean)) / np.asarray(self.std)

    def to_data(self, samples: Tensor) -> np.ndarray:
        """Samples of model space in the data's own layout, units and type; tables of several types as float64.

        Whole-number and boolean columns of a table are rounded into their range; their types are ``dtypes``.

        Raises:
            UserError: If a value is not finite.
        """
        _check_drawn(samples)
        if self.is_image:
            pixels = samples.detach().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu()
            if self.layout == "NHW":
                return pixels[:, 0].numpy()
            return (pixels.permute(0, 2, 3, 1).contiguous() if self.layout == "NHWC" else pixels).numpy()
        values = samples.detach().cpu().double().numpy()
        if self.mean is not None and self.std is not None:
            values = values * np.asarray(self.std) + np.asarray(self.mean)
        types = [np.dtype(name) for name in self.dtypes]
        whole = [kind.kind in "iub" for kind in types]
        ranges = np.array([value_range(kind) for kind in types])
        values = np.where(whole, np.rint(values), values).clip(ranges[:, 0], ranges[:, 1])
        return values.astype(types[0]) if len(types) == 1 else values

    def to_user(self, samples: Tensor) -> np.ndarray | Tensor | pandas.DataFrame:
        """Samples of model space in the data's own form, as an object of the type in which the data were given.

        A DataFrame has the data's columns, with their types, and a new index.

        Raises:
            UserError: If a value is not finite, or the data were a DataFrame and pandas is not installed.
        """
        values = self.to_data(samples)
        if self.container == "tensor":
            return torch.from_numpy(values)
        if self.container == "frame":
            try:
                import pandas
            except ImportError as error:
                raise UserError("samples of a DataFrame need the package pandas: pip install pandas.") from error
            return pandas.DataFrame(self.to_columns(values))
        return values

    def to_columns(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """The columns of a table ``(N, d)`` that `to_data` returned, by name, each in its own type."""
        width = self.shape[0]
        names = self.columns or tuple(f"x{i}" for i in range(width))
        kinds = self.dtypes if len(self.dtypes) == width else self.dtypes * width
        return {name: _as_kind(values[:, i], kind) for i, (name, kind) in enumerate(zip(names, kinds, strict=True))}

    def to_picture(self, samples: Tensor) -> Tensor:
        """Samples of model space as they are drawn: images unchanged, points in the data's units.

        Raises:
            UserError: If a value is not finite.
        """
        _check_drawn(samples)
        return samples.detach().cpu() if self.is_image else torch.from_numpy(self.to_data(samples))

    def to_json(self) -> dict[str, Any]:
        """A dictionary for the run's record."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Form:
        """The inverse of `to_json`.

        Raises:
            ValueError: If the record is damaged.
            TypeError: If it names a type that NumPy lacks.
        """
        form = read_settings(cls, record, "form")
        columns = [given for given in (form.mean, form.std, form.columns) if given is not None]
        if (
            form.layout not in ("ND", "NHW", "NHWC", "NCHW")
            or len(form.shape) != (1 if form.layout == "ND" else 3)
            or min(form.shape) < 1
            or len([np.dtype(name) for name in form.dtypes]) not in (1, form.shape[0])
            or any(len(given) != form.shape[0] for given in columns)
        ):
            raise ValueError("form contradicts itself")
        return form


@dataclass(frozen=True)
class Split:
    """Part of a data set: uint8 images ``(N, C, H, W)`` or float32 vectors ``(N, d)``; labels ``(N,)``."""

    x: Tensor
    label: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Dataset:
    """A data set: its splits, its form and where it came from.

    Args:
        source: Its name or absolute path; ``array`` for data in memory.
        form: Its own form, and the map to model space.
        train: Samples to train on.
        validation: A seeded tenth of the training set, for every choice.
        test: The set's own test split, or a seeded tenth held out before anything else.
        fingerprint: SHA-256 over the form and over shapes, values and labels of the three splits.
        classes: Names of the labels, if there are labels.
        size: Side to which images were cropped and resized on reading.
        skip_corrupt: Whether images that could not be decoded were left out on reading.
    """

    source: str
    form: Form
    train: Split
    validation: Split
    test: Split
    fingerprint: str
    classes: tuple[str, ...] | None = None
    size: int | None = None
    skip_corrupt: bool = False

    def clean(self, n: int) -> Tensor:
        """``n`` training samples in model space, or all if there are fewer; the same on every call."""
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(0))
        return self.form.to_model(self.train.x[order[:n]])

    def split(self, name: str) -> Split:
        """The split called ``train``, ``validation`` or ``test``."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        if name not in splits:
            raise unknown("split", name, splits)
        return splits[name]


def _check_drawn(samples: Tensor) -> None:
    """Raise a `UserError` if a value is not finite: whole numbers and pictures would hide it."""
    if not samples.isfinite().all():
        raise UserError("the samples are not finite: the training diverged, train again with lower learning rates")


def _as_kind(values: np.ndarray, kind: str) -> np.ndarray:
    """Values as a column's own type, whole numbers kept within its range."""
    dtype = np.dtype(kind)
    if dtype.kind == "b":
        return values > 0.5
    return values.clip(*value_range(dtype)).astype(dtype)


def value_range(kind: np.dtype) -> tuple[float, float]:
    """The least and the greatest value of a number type, as floats in its range."""
    if kind.kind == "b":
        return 0.0, 1.0
    if kind.kind in "iu":
        most = float(np.iinfo(kind).max)  # that of 64 bits is rounded up, and one more would wrap
        return float(np.iinfo(kind).min), most if int(most) <= np.iinfo(kind).max else float(np.nextafter(most, 0))
    return -np.inf, np.inf
