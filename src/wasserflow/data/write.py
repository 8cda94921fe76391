"""Samples written in the data's own form, batch by batch, so that any number of them can be written."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from math import floor, log10
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow._core.files import whole_or_nothing
from wasserflow.data.dataset import Form

__all__ = ["check_target", "write_samples"]

COARSE = 1e-3
"""Largest step of single precision, in standard deviations of a column, with which a .csv file is written."""

_KINDS = {".png": "picture", ".npy": "npy", ".csv": "table", ".parquet": "table", "": "folder"}


def check_target(path: Path, form: Form) -> None:
    """Raise a `UserError` if samples of this form cannot be written to, or drawn in, a file of this name."""
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
        n: Number of samples in all batches together.
        form: The form of the data.
        path: The file; its suffix chooses the format.

    Raises:
        UserError: If the format does not suit the samples, or the file cannot be written; then none is left behind.
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
    # Written sequentially, not through a memory map: a full disk is then an error, not a crash.
    with path.open("wb") as file:
        for i, array in enumerate(arrays):
            if i == 0:
                header = np.lib.format.header_data_from_array_1_0(array) | {"shape": (n, *array.shape[1:])}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(array).data)


def _write_table(arrays: Iterator[np.ndarray], form: Form, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import csv, parquet

    text = path.suffix.lower() == ".csv"
    open_writer: Any = csv.CSVWriter if text else parquet.ParquetWriter
    writer = None
    with ExitStack() as stack:
        for array in arrays:
            columns = form.to_columns(array)
            if text:
                columns = _brief(columns, form)
            table = pa.table(columns)
            writer = writer or stack.enter_context(open_writer(path, table.schema))
            writer.write_table(table)


def _brief(columns: dict[str, np.ndarray], form: Form) -> dict[str, np.ndarray]:
    """Columns in the precision in which they are printed: the single precision of the model, and no more digits."""
    brief = dict(columns)
    for index, (name, values) in enumerate(columns.items()):
        if values.dtype.kind != "f":
            continue
        mean, std = (0.0, 1.0) if form.mean is None or form.std is None else (form.mean[index], form.std[index])
        if np.spacing(np.float32(abs(mean))) < COARSE * std:
            brief[name] = values.astype(np.float32)
        else:  # a column far from 0, whose rows single precision could not tell apart
            brief[name] = values.astype(np.float64).round(6 - floor(log10(std)))
    return brief


def _write_folder(arrays: Iterator[np.ndarray], n: int, path: Path) -> None:
    from PIL import Image

    path.mkdir()
    digits = len(str(n - 1))
    number = 0
    for array in arrays:
        for pixels in array:
            Image.fromarray(pixels).save(path / f"{number:0{digits}d}.png")
            number += 1
