"""From the result of a reader to a data set: checks, splits, standardisation, fingerprint.

The held-out tenths come from a constant seed, never from a run's: two runs on the same data hold out the same samples,
so that their metrics can be compared and a resumed run never trains on its own test set.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow.data.dataset import Dataset, Form, Split
from wasserflow.data.image import SMALLEST, resize
from wasserflow.data.raw import Part, Raw

__all__ = ["check_values", "fingerprint", "finish", "hold_out", "samples_of"]

SEED = 20190609
FEWEST = 20
BLOCK = 1 << 24  # values copied at a time, which bounds the temporaries of a transform

Transform = Callable[[np.ndarray], np.ndarray]


def finish(raw: Raw, source: str, size: int | None = None, skip_corrupt: bool = False) -> Dataset:
    """Check, split, crop and standardise.

    Args:
        raw: The result of a reader.
        source: As in `Dataset`.
        size: Side to which images are cropped and resized.
        skip_corrupt: As in `Dataset`.

    Returns:
        The data set, its values in memory: uint8 images ``(N, C, H, W)`` or float32 vectors ``(N, d)``.

    Raises:
        UserError: If the values cannot be learned from; the sentence says which and why.
    """
    if len(raw.train) < FEWEST or (raw.test is not None and not len(raw.test)):
        where = "no test samples" if len(raw.train) >= FEWEST else _count(len(raw.train), "sample")
        raise UserError(f"{raw.name} has {where}: at least {FEWEST} are needed to train on, and one to test on.")
    train, validation, test = _three(raw)
    images = raw.layout != "ND"
    mean = std = None
    if images:
        transform, dtype, shape = _image_transform(raw, size), np.uint8, tuple(raw.train.x.shape[1:])
        if size is not None:
            shape = (shape[0], size, size)
    else:
        if size is not None:
            raise UserError(f"{raw.name} holds vectors, not images: leave out `size={size}`.")
        for part in (raw.train, raw.test):
            if part is not None:
                check_values(raw, part)
        column_mean, column_std = _moments(raw, train)
        transform, dtype, shape = None, np.float32, (raw.train.x.shape[1],)
        if raw.standardise:
            transform = lambda block: (block - column_mean) / column_std  # noqa: E731
            mean, std = tuple(column_mean.tolist()), tuple(column_std.tolist())
    form = Form(shape, raw.layout, raw.dtypes, mean, std, raw.columns, raw.container)
    if raw.fresh and transform is None:
        splits = _rearrange([train, validation, test])
    else:
        splits = [_gather(part, shape, dtype, transform) for part in (train, validation, test)]
    digest = fingerprint(form, splits)
    return Dataset(source, form, splits[0], splits[1], splits[2], digest, raw.classes, size, skip_corrupt)


def samples_of(raw: Raw, form: Form, size: int | None = None) -> Tensor:
    """All samples of a source, or of its test split if it has one, in the model space of ``form``, unsplit.

    Raises:
        UserError: If they are not of that form, have columns of other names, or are not finite.
    """
    part = raw.train if raw.test is None else raw.test
    images = raw.layout != "ND"
    shape = tuple(part.x.shape[1:])
    shape = (*shape[:-2], size, size) if images and size else shape
    if shape != form.shape:
        raise UserError(
            f"{raw.name} has samples of shape {shape}: {form.shape} are needed, as the model was trained on."
        )
    if images:
        return form.to_model(_gather(part, shape, np.uint8, _image_transform(raw, size)).x)
    check_values(raw, part)
    order = raw.order(form.columns, "the model's data")
    return form.to_model(_gather(part, shape, np.float32, lambda block: form.standardise(block[:, order])).x)


def hold_out(count: int, stream: int) -> tuple[np.ndarray, np.ndarray]:
    """A seeded tenth of ``count`` samples, and the rest; both in ascending order.

    Args:
        count: Number of samples.
        stream: 0 for the test split, 1 for validation: different draws of the same seed.

    Returns:
        Indices of the rest and of the tenth; the tenth has at least one sample.
    """
    order = np.random.default_rng([SEED, stream]).permutation(count)
    tenth = max(1, count // 10)
    return np.sort(order[tenth:]), np.sort(order[:tenth])


def fingerprint(form: Form, splits: list[Split]) -> str:
    """SHA-256, in hexadecimal, over the form and over shapes, values and labels of the splits.

    The container does not count: an array and a tensor of the same values are the same data.
    """
    known = form.to_json()
    del known["container"]
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
    for split in splits:
        for tensor in (split.x, split.label):
            digest.update(b"none" if tensor is None else f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            if tensor is not None:
                digest.update(tensor.numpy().data)
    return digest.hexdigest()


def _three(raw: Raw) -> tuple[Part, Part, Part]:
    """The samples of the train, validation and test splits."""

    def pick(part: Part, chosen: np.ndarray) -> Part:
        return Part(part.x, part.label, chosen if part.rows is None else part.rows[chosen])

    rest, test = raw.train, raw.test
    if test is None:
        kept, held_out = hold_out(len(rest), 0)
        rest, test = pick(rest, kept), pick(rest, held_out)
    if raw.validation:  # and not empty
        return rest, raw.validation, test
    kept, held_out = hold_out(len(rest), 1)
    return pick(rest, kept), pick(rest, held_out), test


def _blocks(part: Part) -> Iterator[tuple[int, np.ndarray]]:
    """The samples of a part, a block at a time, each with the index of its first."""
    step = max(1, BLOCK // max(1, int(np.prod(part.x.shape[1:]))))
    for start in range(0, len(part), step):
        chosen = slice(start, start + step)
        yield start, part.x[chosen if part.rows is None else part.rows[chosen]]


def _gather(part: Part, shape: tuple[int, ...], dtype: type, transform: Transform | None) -> Split:
    out = np.empty((len(part), *shape), dtype)
    for start, block in _blocks(part):
        out[start : start + len(block)] = block if transform is None else transform(block)
    label = part.label if part.label is None or part.rows is None else part.label[part.rows]
    return Split(torch.from_numpy(out), None if label is None else torch.from_numpy(label))


def _rearrange(parts: list[Part]) -> list[Split]:
    """Splits as slices of the array that the parts share; its rows are permuted in place, without a second copy."""
    x, splits, start = parts[0].x, [], 0
    rows = [np.arange(len(part)) if part.rows is None else part.rows for part in parts]
    _permute(x, np.concatenate(rows))
    for part, chosen in zip(parts, rows, strict=True):
        label = None if part.label is None else torch.from_numpy(part.label[chosen])
        splits.append(Split(torch.from_numpy(x[start : start + len(chosen)]), label))
        start += len(chosen)
    return splits


def _permute(x: np.ndarray, order: np.ndarray) -> None:
    """``x[: len(order)] = x[order]`` for an order without repetition, without a copy of x."""
    rest = np.setdiff1d(np.arange(len(x)), order, assume_unique=True)
    source = np.concatenate([order, rest]).tolist()
    done = bytearray(len(x))
    for start in range(len(x)):
        if done[start]:
            continue
        held, here = x[start].copy(), start
        while (there := source[here]) != start:  # along the cycle that begins here
            x[here] = x[there]
            done[here], here = 1, there
        x[here] = held
        done[here] = 1


def _image_transform(raw: Raw, size: int | None) -> Transform | None:
    channels, height, width = raw.train.x.shape[1:]
    if raw.test is not None and raw.test.x.shape[1:] != (channels, height, width):
        raise UserError(
            f"{raw.name} has training images of shape {(channels, height, width)} and test images of shape "
            f"{tuple(raw.test.x.shape[1:])}, channels first: they must be the same."
        )
    if min(height, width) < SMALLEST:
        raise UserError(f"{raw.name} holds images of {width}x{height} pixels: at least {SMALLEST} a side are needed.")
    return None if size is None or (height, width) == (size, size) else lambda block: resize(block, size)


def check_values(raw: Raw, part: Part) -> None:
    """Raise a `UserError` if a number is not finite, saying where."""
    for start, block in _blocks(part):
        bad = ~np.isfinite(block)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise UserError(
                f"{raw.name} holds {block[row, column]} in row {start + row}, {_column(raw, column)} "
                "(rows and columns count from 0): fill it in or leave the row out."
            )


def _moments(raw: Raw, train: Part) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column over the training samples, in float64."""
    extremes = [(block.min(0), block.max(0)) for _, block in _blocks(train)]
    low, high = np.min([e[0] for e in extremes], 0), np.max([e[1] for e in extremes], 0)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = sum(block.sum(0, dtype=np.float64) for _, block in _blocks(train)) / len(train)
        square = sum(((block - mean) ** 2).sum(0, dtype=np.float64) for _, block in _blocks(train))
        std = np.sqrt(square / len(train))
    constant = np.flatnonzero((low == high) | (std == 0))
    if len(constant):
        names = ", ".join(_column(raw, c) for c in constant[:5]) + (", ..." if len(constant) > 5 else "")
        raise UserError(f"{raw.name} does not vary in {names}: a constant cannot be learned, leave it out.")
    if not np.isfinite(std).all():
        worst = _column(raw, np.flatnonzero(~np.isfinite(std))[0])
        raise UserError(f"{raw.name} has values too large to take the variance of in {worst}: rescale it.")
    return np.asarray(mean), std


def _column(raw: Raw, index: int | np.integer) -> str:
    return f"column {index}" if raw.columns is None else f"column {raw.columns[int(index)]!r}"


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
