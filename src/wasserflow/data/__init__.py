"""One array, however it came: named sets, 2-D toys, arrays, tables, folders and archives of images.

`load` is the one door. What it returns is checked, split and, where it is made of vectors, standardised.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from wasserflow._core.errors import UserError, unknown
from wasserflow.data import toy
from wasserflow.data.archive import LARGEST
from wasserflow.data.array import from_array, read_idx_file, read_npy, read_npz, to_numpy
from wasserflow.data.batches import Batch, Batches
from wasserflow.data.dataset import Dataset, Form, Split
from wasserflow.data.folder import ARCHIVES, IMAGES, read_archive, read_folder
from wasserflow.data.image import SMALLEST
from wasserflow.data.ink import ink_points
from wasserflow.data.named import SETS, data_folder, find, read_digits, read_named
from wasserflow.data.photos import PHOTOS, find_photos, read_photos
from wasserflow.data.raw import Part, Raw
from wasserflow.data.split import check_values, finish, samples_of
from wasserflow.data.table import read_csv, read_parquet
from wasserflow.data.toy import TOYS

__all__ = [
    "NAMES",
    "Batch",
    "Batches",
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
KINDS = f"a folder of images, {', '.join((*READERS, *ARCHIVES))} or an idx file"


def load(source: str | Path | np.ndarray | Tensor, *, size: int | None = None, skip_corrupt: bool = False) -> Dataset:
    """Read a data set, wherever it is and whatever its form.

    Args:
        source: A name out of `NAMES`; the path of a folder of images, of the same in a tar or zip archive,
            of a .npy, .npz, .csv or .parquet file or of an idx file; or an array or tensor: uint8 images
            ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)``, or floating-point vectors ``(N, d)``.
        size: Side in pixels to which images are centre cropped and resized; `celeba` and `lsun-church` have 64
            unless told otherwise.
        skip_corrupt: Leave out images that cannot be decoded, and log how many; else stop at the first.

    Returns:
        Its three splits in memory, uint8 images ``(N, C, H, W)`` or float32 vectors ``(N, d)``, and its form.

    Raises:
        UserError: It is not there, or cannot be used; one sentence says why and what to do.
    """
    if size is not None and not SMALLEST <= size <= LARGEST:
        raise UserError(f"size is {size}: images need at least {SMALLEST} pixels a side, and at most {LARGEST}.")
    raw, found = _read(source, size, skip_corrupt)
    return finish(raw, found, size, skip_corrupt)


def read_samples(source: str | Path | np.ndarray | Tensor, form: Form, *, size: int | None = None) -> Tensor:
    """Samples that a model of ``form`` can start from or judge, in their own order, unsplit.

    Args:
        source: As in `load`; of a source with a test split of its own, that split.
        form: How the model's data looked.
        size: Side in pixels to which images are centre cropped and resized.

    Returns:
        Samples in model space, float32, with shape (N, *form.shape).

    Raises:
        UserError: They cannot be read, or have another shape than the model's data.
    """
    raw, _ = _read(source, size, skip_corrupt=False)
    return samples_of(raw, form, size)


def read(source: str | Path, n: int, seed: int = 0) -> Raw:
    """All samples of a source as they came: not split, not standardised, not copied into memory.

    Args:
        source: As for `load`, or the path of one picture, whose ink becomes points (`wasserflow.data.ink`).
        n: How many points of a toy, or of a picture.
        seed: Of those points.

    Raises:
        UserError: It is not there, or cannot be used; one sentence says why and what to do.
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
    """Every name that `load` knows: ``embedded``, ``generated``, the folder where it lies, or ``absent``."""
    sets = {name: str(find(name) or "absent") for name in SETS}
    photos = {name: str(find_photos(name) or "absent") for name in PHOTOS}
    return {"digits": "embedded", **sets, **photos, **dict.fromkeys(TOYS, "generated")}


def _read(source: str | Path | np.ndarray | Tensor, size: int | None, skip_corrupt: bool) -> tuple[Raw, str]:
    """What a reader makes of a source, and what finds the source again."""
    if isinstance(source, np.ndarray | Tensor):
        array = to_numpy(source) if isinstance(source, Tensor) else source
        return from_array(array, "the array"), "array"
    if isinstance(source, str) and source in NAMES:
        return _read_known(source, size, skip_corrupt), source
    if not isinstance(source, str | Path):
        raise UserError(f"data of type {type(source).__name__}: give a name, a path, a NumPy array or a tensor.")
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
