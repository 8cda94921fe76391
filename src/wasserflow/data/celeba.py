"""CelebA: 202,599 photographs of faces, aligned by the publisher, in the publisher's split.

Liu, Luo, Wang & Tang, *Deep Learning Face Attributes in the Wild*, ICCV 2015, https://arxiv.org/abs/1411.7766.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from wasserflow._core.errors import UserError
from wasserflow.data.archive import read_members, zip_names
from wasserflow.data.decoding import Item, Name, decode_all
from wasserflow.data.folder import visible, walk
from wasserflow.data.image import decode
from wasserflow.data.raw import Part, Raw

__all__ = ["ARCHIVE", "FOLDER", "PARTITION", "read_celeba"]

ARCHIVE, FOLDER, PARTITION = "img_align_celeba.zip", "img_align_celeba", "list_eval_partition.txt"
ALIGNED = (178, 218)  # width and height of each
CROP = 140  # pixels a side: the face, without most of the background
SPLITS = ("0", "1", "2")  # train, validation and test in the partition file


def read_celeba(folder: Path, size: int, skip_corrupt: bool) -> Raw:
    """The faces, cropped to the 140 pixels in the middle and resized.

    Args:
        folder: Where ``img_align_celeba.zip`` or the unpacked ``img_align_celeba/`` lies, and, for the publisher's
            split, ``list_eval_partition.txt``; without it the usual seeded tenths are held out.
        size: Side in pixels.
        skip_corrupt: Leave out images that cannot be decoded.

    Returns:
        uint8 images ``(N, 3, size, size)``, in the order of their names.

    Raises:
        UserError: If a file is corrupt, incomplete, or not of CelebA.
    """
    source = folder / ARCHIVE
    if source.is_file():
        names = [name for name in zip_names(source) if visible(source, name)]
    else:
        source = folder / FOLDER
        names = walk(source)
    split = _read_partition(folder / PARTITION, source, {name[-1] for name in names})
    decoder = partial(decode, size=size, side=CROP, expected=ALIGNED)
    rows, pictures = decode_all(source, _items(source, names), decoder, skip_corrupt)
    rows = {name[-1]: row for name, row in rows.items()}

    def part(which: str) -> Part:
        chosen = [rows[name] for name in sorted(rows) if split is None or split[name] == which]
        return Part(pictures, rows=np.array(chosen, np.int64))

    train, validation, test = map(part, SPLITS)
    return Raw(
        "celeba",
        train,
        "NHWC",
        ("uint8",),
        None if split is None else test,
        validation=None if split is None else validation,
        fresh=True,
    )


def _items(source: Path, names: list[Name]) -> Iterator[Item]:
    if source.is_dir():
        return ((name, source.joinpath(*name)) for name in names)
    wanted = set(names)
    return read_members(source, wanted.__contains__)


def _read_partition(path: Path, source: Path, names: set[str]) -> dict[str, str] | None:
    """The split of each image; None if there is no such file."""
    if not path.is_file():
        logging.getLogger("wasserflow").warning(
            "celeba: %s is absent, so seeded tenths are held out, not the publisher's validation and test splits", path
        )
        return None
    split: dict[str, str] = {}
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or words[1] not in SPLITS:
            raise UserError(
                f"line {number} of {path} is {line[:60]!r}, not the name of an image and 0, 1 or 2: fetch it again."
            )
        split[words[0]] = words[1]
    if unlisted := names - split.keys():
        raise UserError(
            f"{path} has no line for {min(unlisted)}{_others(unlisted)} in {source}: it is truncated, or of "
            "another set; fetch it again, or move it away to have seeded tenths held out."
        )
    if absent := split.keys() - names:
        raise UserError(
            f"{source} is incomplete: {min(absent)}{_others(absent)} of {path.name} "
            f"{'is' if len(absent) == 1 else 'are'} not in it; unpack or fetch it again."
        )
    return split


def _others(names: set[str]) -> str:
    return f" and {len(names) - 1:,} other images" if len(names) > 2 else " and another image" * (len(names) == 2)
