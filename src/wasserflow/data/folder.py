"""A folder or an archive of images; archives are read from start to end and never unpacked.

Folders ``train/`` and ``test/`` at the top, in capitals or not, are the split, and the first folders below are classes.
A single folder around everything has no meaning.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from wasserflow._core.errors import UserError
from wasserflow.data.archive import read_members
from wasserflow.data.decoding import Item, Name, decode_all
from wasserflow.data.image import decode
from wasserflow.data.raw import Part, Raw, encode_labels

__all__ = ["ARCHIVES", "IMAGES", "read_archive", "read_folder", "visible", "walk"]

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip")
IMAGES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".pbm",
    ".avif",
    ".jp2",
)
HIDDEN = {"__macosx", "thumbs.db", "desktop.ini"}
VALIDATION = {"val", "valid", "validation", "dev"}


def read_folder(path: Path, size: int | None, skip_corrupt: bool) -> Raw:
    """Every image in a folder and below it.

    Args:
        path: The folder.
        size: Side of the square to crop and resize to; None if all have one size already.
        skip_corrupt: Leave out images that cannot be decoded.

    Returns:
        The images in the order of their names, grey if all are grey; labels; the split.

    Raises:
        UserError: If it is empty, mixed or a run, its images differ in size, or one is corrupt.
    """
    if (path / "config.json").is_file() and ((path / "log.jsonl").exists() or (path / "checkpoint").exists()):
        raise UserError(f"{path} is a wasserflow run, not data: give a folder of images.")
    return _read(path, ((name, path.joinpath(*name)) for name in walk(path)), size, skip_corrupt)


def read_archive(path: Path, size: int | None, skip_corrupt: bool) -> Raw:
    """Every image in a tar or zip archive; as `read_folder` otherwise."""
    return _read(path, read_members(path, lambda name: visible(path, name)), size, skip_corrupt)


def walk(root: Path) -> list[Name]:
    """The visible files below a folder, in order; all must be images.

    Raises:
        UserError: If one is not an image.
    """

    def fail(error: OSError) -> None:
        raise error

    seen: set[str] = set()
    names: list[Name] = []
    for folder, folders, files in os.walk(root, onerror=fail, followlinks=True):
        if os.path.realpath(folder) in seen:  # a link to a parent would loop for ever
            folders.clear()
            continue
        seen.add(os.path.realpath(folder))
        below = Path(folder).relative_to(root).parts
        names += [name for file in files if visible(root, name := (*below, file))]
    return sorted(names)


def _read(source: Path, items: Iterable[Item], size: int | None, skip_corrupt: bool) -> Raw:
    rows, pictures = decode_all(source, items, partial(decode, size=size), skip_corrupt)
    return _sort_out(source, rows, pictures)


def visible(source: Path, name: Name) -> bool:
    """Whether a file is not hidden; raises a `UserError` if it is neither hidden nor an image."""
    if any(part.startswith(".") or part.lower() in HIDDEN for part in name):
        return False
    if not name[-1].lower().endswith(IMAGES):
        raise UserError(f"{source} is mixed: {'/'.join(name)} is not an image; move everything but images elsewhere.")
    return True


def _sort_out(source: Path, rows: dict[Name, int], pictures: np.ndarray) -> Raw:
    """Split and labels, as the names of the folders say."""
    train, test, depth = _split(source, _unwrapped(dict(sorted(rows.items()))))
    label, classes = _labels(source, {**train, **test}, depth, len(pictures))

    def part(rows: dict[Name, int]) -> Part:
        return Part(pictures, label, np.fromiter(rows.values(), np.int64, len(rows)))

    return Raw(
        str(source),
        part(train),
        "NHW" if pictures.shape[1] == 1 else "NHWC",
        ("uint8",),
        part(test) if test else None,
        classes=classes,
        fresh=True,
    )


def _unwrapped(named: dict[Name, int]) -> dict[Name, int]:
    """The names without folders around everything, but for one called train."""
    while len(tops := {name[0] for name in named}) == 1 and all(len(name) > 1 for name in named):
        if min(tops).lower() == "train":
            break
        named = {name[1:]: row for name, row in named.items()}
    return named


def _split(source: Path, named: dict[Name, int]) -> tuple[dict[Name, int], dict[Name, int], int]:
    """Training and test images, and how many folders of their names are the split."""
    tops = {name[0].lower() for name in named}
    # Beside other classes "train" is a class (of vehicles); alone or beside "test" it is a split.
    others = tops - {"train", "test"}
    if "train" not in tops or not ("test" in tops or others <= VALIDATION):
        return named, {}, 0
    if others:
        raise UserError(
            f"{source} has train/{' and test/' if 'test' in tops else ''} at its top, and {min(others)} beside: move "
            "that into one of them or elsewhere (validation is held out of train/)."
        )
    # Names stay whole: Train/a.png and train/a.png are two images.
    train, test = ({n: row for n, row in named.items() if n[0].lower() == top} for top in ("train", "test"))
    return train, test, 1


def _labels(
    source: Path, named: dict[Name, int], depth: int, count: int
) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """A label for each of ``count`` images, and the classes; None where no folders, or one alone, name them."""
    if not all(len(name) > depth + 1 for name in named):
        return None, None
    folders = {row: name[depth] for name, row in named.items()}
    (codes,), classes = encode_labels(f"the labels of {source}", np.array(list(folders.values())))
    if len(classes) < 2:
        return None, None
    label = np.zeros(count, np.int64)
    label[list(folders)] = codes
    return label, classes
