"""Samples in the data's own form, written batch by batch, so that any number of them fits in memory."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow._core.files import whole_or_nothing
from wasserflow.data.dataset import Form, value_range

__all__ = ["check_target", "write_samples"]

_KINDS = {".png": "picture", ".npy": "npy", ".csv": "table", ".parquet": "table", "": "folder"}


def check_target(path: Path, form: Form) -> None:
    """Raise a `UserError` if samples of this form cannot go into a file of this name, or be drawn in it."""
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise UserError(
            f"cannot write samples to {path}: give .png, .npy, .csv, .parquet, or a folder without a suffix"
        )
    if kind == "picture" and not form.has_picture:
        raise UserError(f"vectors of length {form.shape[0]} have no picture: give a .npy, .csv or .parquet file")
    if path.is_dir() and kind != "folder":
        raise UserError(f"{path} is a folder: choose another name for the file")
    if kind == "table" and form.is_image:
        raise UserError(f"images do not go into {path.name}: give a .npy file, a .png grid, or a folder")
    if kind == "folder" and not form.is_image:
        raise UserError(f"a folder is for images: give a .npy, .csv or .parquet file instead of {path}")
    if kind == "folder" and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists and is not an empty folder: choose another name")


def write_samples(batches: Iterable[Tensor], n: int, form: Form, path: Path) -> None:
    """Write ``n`` samples of model space, in batches, to a .npy, .csv or .parquet file or a folder of PNG images.

    Args:
        batches: Samples in model space, (B, *shape) each.
        n: How many there are in all.
        form: The data's own layout, units and types.
        path: Where to; its suffix says how.

    Raises:
        UserError: If the file does not suit the samples, or cannot be written; then nothing is left behind.
    """
    check_target(path, form)
    kind = _KINDS[path.suffix.lower()]
    if kind == "folder":  # a PNG has its own layout
        form = replace(form, layout="NHW" if form.shape[0] == 1 else "NHWC")
    arrays = (form.to_data(batch) for batch in batches)
    with whole_or_nothing(path) as unfinished:
        match kind:
            case "npy":
                _write_npy(arrays, n, unfinished)
            case "table":
                _write_table(arrays, form, unfinished)
            case _:
                _write_folder(arrays, n, unfinished)


def _write_npy(arrays: Iterator[np.ndarray], n: int, path: Path) -> None:
    # Written front to back rather than through a memory map: a full disk is then an error, not a crash.
    with path.open("wb") as file:
        for i, array in enumerate(arrays):
            if i == 0:
                header = np.lib.format.header_data_from_array_1_0(array) | {"shape": (n, *array.shape[1:])}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(array).data)


def _write_table(arrays: Iterator[np.ndarray], form: Form, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import csv, parquet

    width = form.shape[0]
    names = form.columns or tuple(f"x{i}" for i in range(width))
    kinds = form.dtypes if len(form.dtypes) == width else form.dtypes * width
    schema = pa.schema([(name, pa.from_numpy_dtype(np.dtype(kind))) for name, kind in zip(names, kinds, strict=True)])
    open_writer: Any = csv.CSVWriter if path.suffix.lower() == ".csv" else parquet.ParquetWriter
    with open_writer(path, schema) as writer:
        for array in arrays:
            columns = [_column(array[:, i], kind) for i, kind in enumerate(kinds)]
            writer.write_table(pa.table(columns, schema=schema))


def _column(values: np.ndarray, kind: str) -> np.ndarray:
    """Values as the column's own type, whole numbers kept within its range."""
    dtype = np.dtype(kind)
    if dtype.kind == "b":
        return values > 0.5
    return values.clip(*value_range(dtype)).astype(dtype)


def _write_folder(arrays: Iterator[np.ndarray], n: int, path: Path) -> None:
    from PIL import Image

    path.mkdir()
    digits = len(str(n - 1))
    number = 0
    for array in arrays:
        for pixels in array:
            Image.fromarray(pixels).save(path / f"{number:0{digits}d}.png")
            number += 1
