"""Tables of numbers: .csv, .parquet and DataFrames, read by pyarrow; each column keeps its name and type."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from wasserflow._core.errors import UserError
from wasserflow.data.raw import Part, Raw

if TYPE_CHECKING:
    import pandas
    import pyarrow as pa

__all__ = ["is_frame", "read_csv", "read_frame", "read_parquet"]

EXACT = 1024
"""Steps of double precision, at the largest number of a column, that its range must span."""


def read_csv(path: Path) -> Raw:
    """A comma-separated table whose first row names the columns.

    Args:
        path: The file.

    Returns:
        Its rows as float64 vectors.

    Raises:
        UserError: If it has no header, or a column does not consist of numbers.
    """
    import pyarrow as pa
    from pyarrow import csv

    try:
        table = csv.read_csv(path)
        names = table.column_names
        if len(names) == 1:  # there an empty line is a row without a value
            table = csv.read_csv(path, parse_options=csv.ParseOptions(ignore_empty_lines=False))
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a table that can be read: {_first_line(error)}.") from error
    if all(_is_number(name) for name in names):
        raise UserError(f"{path} begins with the numbers {', '.join(names[:5])}: its first row must name the columns.")
    if len(names) == 1 and (mark := next((m for m in (";", "\t", "|") if m in names[0]), None)):
        raise UserError(f"{path} is separated by {mark!r}: separate its columns by commas.")
    return _from_table(table, str(path))


def read_parquet(path: Path) -> Raw:
    """A parquet file, as `read_csv` reads a .csv file. The index of a table that pandas wrote is no column."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except pa.ArrowException as error:
        raise UserError(f"{path} is truncated, corrupt or no parquet file: {_first_line(error)}.") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise UserError(f"{path} is truncated, corrupt or no parquet file: {_first_line(error)}.") from error
    try:
        index = [name for name in (table.schema.pandas_metadata or {})["index_columns"] if name in table.column_names]
    except (ValueError, TypeError, KeyError):  # not written by pandas, or damaged: then all are columns
        index = []
    return _from_table(table.drop_columns(index), str(path))


def is_frame(source: object) -> TypeGuard[pandas.DataFrame]:
    """Whether a source is a pandas DataFrame; pandas is not imported for this."""
    module = sys.modules.get("pandas")
    return module is not None and isinstance(source, module.DataFrame)


def read_frame(frame: pandas.DataFrame) -> Raw:
    """A DataFrame of numbers; its index is no column."""
    import pyarrow as pa

    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise UserError(f"the DataFrame cannot be read: {_first_line(error)}.") from error
    return replace(_from_table(table, "the DataFrame"), container="frame")


def _from_table(table: pa.Table, source: str) -> Raw:
    import pyarrow as pa

    if not table.num_rows or not table.num_columns:
        raise UserError(f"{source} is an empty table: it has {table.num_columns} columns and {table.num_rows} rows.")
    for index, (name, times) in enumerate(Counter(table.column_names).items()):
        if not name.strip():
            raise UserError(f"{source}: column {index} has no name; leave a row index out (pandas: index=False).")
        if times > 1:
            raise UserError(f"{source} has {times} columns called {name!r}: give each its own name.")
    values = np.empty((table.num_rows, table.num_columns), np.float64)
    for index, name in enumerate(table.column_names):
        values[:, index] = _numbers(table.column(index), name, source)
    exact = pa.types.is_decimal  # decimals become floating-point
    dtypes = tuple("float64" if exact(f.type) else np.dtype(f.type.to_pandas_dtype()).name for f in table.schema)
    return Raw(source, Part(values), "ND", dtypes, columns=tuple(table.column_names))


def _numbers(column: pa.ChunkedArray, name: str, source: str) -> np.ndarray:
    """A column as an array; the first row is row 1."""
    import pyarrow as pa

    where = f"{source}: column {name!r}"
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    if pa.types.is_null(column.type):
        raise UserError(f"{where} is empty: leave it out.")
    if not any(is_kind(column.type) for is_kind in numeric):
        values = enumerate((cell.as_py() for cell in column), 1)
        row, value = next(((r, v) for r, v in values if not _is_number(v)), (1, column[0].as_py()))
        raise UserError(f"{where} holds {value!r} in row {row}, of type {column.type}: all columns must be numbers.")
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0]) + 1
        raise UserError(f"{where} has no value in row {row}: fill it in or leave the row out.")
    whole = column.to_numpy()
    values = whole.astype(np.float64)
    if whole.dtype.kind in "iuO" and np.ptp(values) < EXACT * np.spacing(np.abs(values).max()):  # O: decimals
        least = whole.min()
        if least != whole.max():
            raise UserError(f"{where} varies little around {least}, beyond the precision of floats: subtract {least}.")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise UserError(f"{where} holds {values[bad[0]]} in row {bad[0] + 1}: fill it in or leave the row out.")
    return values


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")
