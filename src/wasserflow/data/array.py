"""Arrays in memory or in a .npy, .npz or idx file."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow.data.archive import BROKEN
from wasserflow.data.idx import read_idx
from wasserflow.data.image import channels_first
from wasserflow.data.raw import Part, Raw, encode_labels

__all__ = ["from_array", "load_npy", "read_idx_file", "read_npy", "read_npz", "to_numpy"]

ACCEPTED = (
    "uint8 images of shape (N, H, W), (N, H, W, C) or (N, C, H, W) with C of 1, 3 or 4, "
    "or floating-point vectors of shape (N, d)"
)
LABELS = ("labels", "label", "y")


def to_numpy(tensor: Tensor) -> np.ndarray:
    """A tensor on any device as an array; bfloat16, which NumPy lacks, becomes float32."""
    import torch

    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).resolve_conj().numpy()


def from_array(
    array: np.ndarray, name: str, test: np.ndarray | None = None, labels: tuple[np.ndarray, ...] = ()
) -> Raw:
    """Images or vectors, depending on type and axes.

    Args:
        array: uint8 ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)``, or floating-point ``(N, d)``.
        name: Its name in error messages.
        test: Its own test split, in the same form.
        labels: Labels of ``array`` and of ``test``, of ``array`` alone, or none.

    Returns:
        The samples, not yet split.

    Raises:
        UserError: If type and axes are none of these.
    """
    array, test = _at_most_double(array), None if test is None else _at_most_double(test)
    x, layout = _read_axes(array, name)
    held_out = None
    if test is not None:
        held_out = _read_axes(test, f"the test split of {name}")[0]
        if array.dtype != test.dtype or x.shape[1:] != held_out.shape[1:]:
            raise UserError(
                f"{name} has a training split of {array.dtype} {array.shape} and a test split of "
                f"{test.dtype} {test.shape}: they must differ in their number only."
            )
    codes, classes = encode_labels(f"the labels of {name}", *labels) if labels else ([], None)
    for code, part in zip(codes, (array, test), strict=False):
        if part is not None and len(code) != len(part):
            raise UserError(f"{name} has {len(part)} samples and {len(code)} labels: one for each is needed.")
    train = Part(x, codes[0] if codes else None)
    own = None if held_out is None else Part(held_out, codes[1] if len(codes) > 1 else None)
    return Raw(name, train, layout, (array.dtype.name,), own, classes=classes)


def read_npy(path: Path) -> Raw:
    """The array in a .npy file; it is memory-mapped, and copied into its splits only."""
    return from_array(load_npy(path), str(path))


def read_npz(path: Path) -> Raw:
    """The images or vectors in a .npz file, with labels and a test split if there are arrays of those names."""
    arrays = _load_archive(path)
    keys = {key.lower(): key for key in arrays}
    if len(arrays) == 1:
        return from_array(next(iter(arrays.values())), str(path))
    if "x_train" in keys:
        test = arrays[keys["x_test"]] if "x_test" in keys else None
        wanted = ["y_train"] if test is None or "y_test" not in keys else ["y_train", "y_test"]
        labels = tuple(arrays[keys[key]] for key in wanted) if "y_train" in keys else ()
        return from_array(arrays[keys["x_train"]], str(path), test, labels)
    found = [keys[key] for key in ("images", "x", "data") if key in keys]
    if len(found) != 1:
        raise UserError(
            f"{path} holds the arrays {', '.join(sorted(arrays))}: name the samples images, x or data "
            "(labels: labels or y), or x_train and x_test (labels: y_train and y_test)."
        )
    labels = [keys[key] for key in LABELS if key in keys]
    return from_array(arrays[found[0]], str(path), labels=tuple(arrays[key] for key in labels[:1]))


def read_idx_file(path: Path) -> Raw:
    """The array in an idx file."""
    return from_array(read_idx(path), str(path))


def _at_most_double(array: np.ndarray) -> np.ndarray:
    """The array, converted to double precision if it has more, which PyTorch lacks."""
    with np.errstate(over="ignore"):  # values beyond its range become infinite, and are refused later
        return array.astype(np.float64) if array.dtype.kind == "f" and array.dtype.itemsize > 8 else array


def _read_axes(array: np.ndarray, name: str) -> tuple[np.ndarray, str]:
    """A view ``(N, C, H, W)`` of images, or the vectors ``(N, d)``, and the layout."""
    form = f"{name} has type {array.dtype} and shape {array.shape}"
    if array.dtype == object:
        raise UserError(f"{name} holds Python objects, not numbers: convert it with np.stack or astype.")
    if array.dtype == np.uint8 and (images := channels_first(array)) is not None:
        return images
    if array.dtype.kind == "f" and array.ndim == 2:
        if array.shape[1] == 0:
            raise UserError(f"{form}: its vectors have no components.")
        return array, "ND"
    if array.ndim == 1 and array.dtype.kind in "fiub":
        raise UserError(f"{form}: one axis is not a set of vectors; for N numbers use reshape(-1, 1).")
    if array.ndim == 2 and array.dtype.kind in "iub":
        raise UserError(f"{form}: vectors must be floating-point; use astype('float32').")
    if array.ndim in (3, 4) and array.dtype.kind in "fiub" and array.dtype != np.uint8:
        raise UserError(f"{form}: images must be uint8, 0 to 255; scale and round them, then astype('uint8').")
    raise UserError(f"{form}: accepted are {ACCEPTED}.")


def load_npy(path: Path) -> np.ndarray:
    """The array in a .npy file as stored, memory-mapped; raises a `UserError` if there is none."""
    try:
        with path.open("rb") as file:  # np.load calls any unknown content a pickle
            if file.read(6) != b"\x93NUMPY":
                raise UserError(f"{path} is not a .npy file: truncated, corrupt, or something else by that name.")
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, SyntaxError) as error:
        raise _bad(path, error) from error


def _load_archive(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            if file.read(4) not in (b"PK\3\4", b"PK\5\6"):  # np.load calls any unknown content a pickle
                raise UserError(f"{path} is not a .npz file: truncated, corrupt, or something else by that name.")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive.files}
    except (*BROKEN, SyntaxError, KeyError, RuntimeError, lzma.LZMAError) as error:
        raise _bad(path, error) from error
    if not arrays:
        raise UserError(f"{path} holds no arrays.")
    if other := [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise UserError(f"{path} holds {other[0]}, which is no array: save arrays alone, with np.savez.")
    return arrays


def _bad(path: Path, error: Exception) -> UserError:
    if "Object arrays" in str(error) or "Python objects" in str(error):
        return UserError(
            f"{path} holds Python objects, which are never unpickled: save numbers, with np.stack or astype."
        )
    how = "locked or oddly packed" if isinstance(error, RuntimeError) else "truncated or corrupt"
    return UserError(f"{path} is {how} ({error}): save it again.")
