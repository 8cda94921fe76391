"""Data of any kind as one array: named sets, 2-D toys, arrays, tables, folders and archives of images.

`load` reads them all. The data set that it returns is checked, split and, for vectors, standardised.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from torch import Tensor

from wasserflow._core.errors import UserError, unknown
from wasserflow.data import toy
from wasserflow.data.array import from_array, read_idx_file, read_npy, read_npz, to_numpy
from wasserflow.data.batches import Batch, Batches
from wasserflow.data.dataset import Dataset, Form, Split
from wasserflow.data.folder import ARCHIVES, IMAGES, read_archive, read_folder
from wasserflow.data.image import LARGEST, SMALLEST
from wasserflow.data.ink import ink_points
from wasserflow.data.named import SETS, data_folder, find, read_digits, read_named
from wasserflow.data.photos import PHOTOS, find_photos, read_photos
from wasserflow.data.raw import Part, Raw
from wasserflow.data.split import check_values, finish, samples_of
from wasserflow.data.table import is_frame, read_csv, read_frame, read_parquet
from wasserflow.data.toy import TOYS

if TYPE_CHECKING:
    import pandas

__all__ = [
    "NAMES",
    "Batch",
    "Batches",
    "DataLike",
    "Dataset",
    "Form",
    "Split",
    "available",
    "data_folder",
    "load",
    "read",
    "read_samples",
    "toy",
]

NAMES = ("digits", *SETS, *PHOTOS, *TOYS)

READERS: dict[str, Callable[[Path], Raw]] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".csv": read_csv,
    ".parquet": read_parquet,
}
DataLike: TypeAlias = "str | Path | np.ndarray | Tensor | pandas.DataFrame"
"""What `load` reads."""

KINDS = f"a folder of images, {', '.join((*READERS, *ARCHIVES))} or an idx file"


def load(source: DataLike, *, size: int | None = None, skip_corrupt: bool = False) -> Dataset:
    """Read a data set.

    Args:
        source: A name in `NAMES`; the path of a folder of images, of a tar or zip archive of images, of a .npy, .npz,
            .csv, .parquet or idx file; an array or tensor: uint8 images ``(N, H, W)``, ``(N, H, W, C)`` or
            ``(N, C, H, W)``, or floating-point vectors ``(N, d)``; or a pandas DataFrame of numbers.
        size: Side in pixels to which images are centre cropped and resized; the default is 64 for celeba and
            lsun-church, and no resizing for other data.
        skip_corrupt: Leave out images that cannot be decoded, and log how many; by default the first is an error.

    Returns:
        The three splits in memory, uint8 images ``(N, C, H, W)`` or float32 vectors ``(N, d)``, and the form.

    Raises:
        UserError: If the source is absent or cannot be used; one sentence says why and what to do.
    """
    if size is not None and not SMALLEST <= size <= LARGEST:
        raise UserError(f"`size` is {size}: images need at least {SMALLEST} pixels a side, and at most {LARGEST}.")
    raw, found = _read(source, size, skip_corrupt)
    return finish(raw, found, size, skip_corrupt)


def read_samples(source: DataLike, form: Form, *, size: int | None = None) -> Tensor:
    """Samples that a model of ``form`` can start from or evaluate, in their own order, unsplit.

    Args:
        source: As in `load`; for a source with its own test split, that split is read.
        form: The form of the model's data.
        size: Side in pixels to which images are centre cropped and resized.

    Returns:
        Samples in model space, float32, with shape (N, *form.shape).

    Raises:
        UserError: If they cannot be read, or differ in shape from the model's data.
    """
    raw, _ = _read(source, size, skip_corrupt=False)
    return samples_of(raw, form, size)


def read(source: str | Path, n: int, seed: int = 0) -> Raw:
    """All samples of a source as stored: not split, not standardised, not copied into memory.

    Args:
        source: A name or a path as in `load`, or the path of one picture, whose ink becomes points
            (`wasserflow.data.ink`).
        n: Number of points drawn from a toy or a picture.
        seed: Random seed of those points.

    Raises:
        UserError: If the source is absent or cannot be used; one sentence says why and what to do.
    """
    source = str(source)
    if source in TOYS:
        points = toy.sample(source, n, seed).numpy()
        return Raw(source, Part(points), "ND", ("float32",), standardise=False)
    path = Path(os.path.abspath(os.path.expanduser(source)))
    if source not in NAMES and path.is_file() and path.name.lower().endswith(IMAGES):
        try:
            points = ink_points(path, n, np.random.default_rng(seed))
        except OSError as error:
            raise UserError(f"cannot read {error.filename or path}: {error.strerror or error}.") from error
        return Raw(str(path), Part(points), "ND", ("float32",), standardise=False)
    raw, _ = _read(source, None, skip_corrupt=False)
    if not len(raw.train):
        raise UserError(f"{raw.name} is empty.")
    if raw.layout == "ND":
        check_values(raw, raw.train)
    return raw


def available() -> dict[str, str]:
    """For every name in `NAMES`: ``embedded``, ``generated``, the folder that holds it, or ``absent``."""
    sets = {name: str(find(name) or "absent") for name in SETS}
    photos = {name: str(find_photos(name) or "absent") for name in PHOTOS}
    return {"digits": "embedded", **sets, **photos, **dict.fromkeys(TOYS, "generated")}


def _read(source: DataLike, size: int | None, skip_corrupt: bool) -> tuple[Raw, str]:
    """What a reader returns for a source, and the name or path that finds the source again."""
    if is_frame(source):
        return read_frame(source), "array"
    if isinstance(source, Tensor):
        return replace(from_array(to_numpy(source), "the tensor"), container="tensor"), "array"
    if isinstance(source, np.ndarray):
        return from_array(source, "the array"), "array"
    if isinstance(source, str) and source in NAMES:
        return _read_known(source, size, skip_corrupt), source
    if not isinstance(source, str | Path):
        raise UserError(
            f"data of type {type(source).__name__}: give a name, a path, a NumPy array, a tensor or a DataFrame."
        )
    path = Path(os.path.abspath(os.path.expanduser(source)))
    try:
        _check_exists(path, source)
        return _read_path(path, size, skip_corrupt), str(path)
    except OSError as error:
        raise UserError(f"cannot read {error.filename or path}: {error.strerror or error}.") from error


def _read_known(name: str, size: int | None, skip_corrupt: bool) -> Raw:
    if name == "digits":
        return read_digits()
    if name in TOYS:
        return toy.read_toy(name)
    try:
        if name in PHOTOS:
            return read_photos(name, size, skip_corrupt)
        return read_named(name)
    except OSError as error:
        raise UserError(f"cannot read {error.filename or data_folder()}: {error.strerror or error}.") from error


def _check_exists(path: Path, source: str | Path) -> None:
    if source != "" and path.exists():
        return
    if len(Path(source).parts) <= 1 and not path.suffix:
        raise UserError(f"{unknown('data set', source, NAMES)} There is no file or folder of that name either.")
    raise UserError(f"no such file or folder: {path}.")


def _read_path(path: Path, size: int | None, skip_corrupt: bool) -> Raw:
    name = path.name.lower()
    if path.is_dir():
        return read_folder(path, size, skip_corrupt)
    if name.endswith(ARCHIVES):
        return read_archive(path, size, skip_corrupt)
    if path.suffix.lower() in READERS:
        return READERS[path.suffix.lower()](path)
    if re.search(r"idx\d?|ubyte", name):
        return read_idx_file(path)
    if name.endswith(IMAGES):
        raise UserError(f"{path} is one image: give the folder that holds them all.")
    raise UserError(f"{path} is of no known kind: accepted are {KINDS}.")
