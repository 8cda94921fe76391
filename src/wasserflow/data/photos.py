"""Published sets of photographs by name: the user fetches them, and they are decoded at the wanted size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wasserflow._core.errors import UserError
from wasserflow.data import celeba, lsun
from wasserflow.data.named import data_folder
from wasserflow.data.raw import Raw

__all__ = ["PHOTOS", "SIZE", "PhotoSet", "find_photos", "read_photos"]

SIZE = 64  # default, in pixels a side


@dataclass(frozen=True)
class PhotoSet:
    """A published set of photographs that the user has to fetch.

    Args:
        folder: Its folder within the data folder.
        needs: The files needed, each with the names that it may have.
        where: How to get them, as the middle of a sentence.
        read: Reads it, given its folder, the size, and whether to skip corrupt images.
    """

    folder: str
    needs: tuple[tuple[str, ...], ...]
    where: str
    read: Callable[[Path, int, bool], Raw]


PHOTOS = {
    "celeba": PhotoSet(
        folder="celeba",
        needs=((celeba.ARCHIVE, celeba.FOLDER),),
        where=f"{celeba.ARCHIVE} (as it is or unpacked) and {celeba.PARTITION} from "
        "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        read=celeba.read_celeba,
    ),
    "lsun-church": PhotoSet(
        folder="lsun",
        needs=((f"{lsun.TRAIN}/data.mdb",), (f"{lsun.TEST}/data.mdb",)),
        where=f"the folders {lsun.TRAIN} and {lsun.TEST}, unpacked from the .zip files of those names in "
        "http://dl.yf.io/lsun/scenes/,",
        read=lsun.read_church,
    ),
}


def find_photos(name: str) -> Path | None:
    """The folder with all files of a set, or None."""
    folder = data_folder() / PHOTOS[name].folder
    return None if _lacks(PHOTOS[name], folder) else folder


def read_photos(name: str, size: int | None, skip_corrupt: bool) -> Raw:
    """A set of photographs from the data folder.

    Args:
        name: A key of `PHOTOS`.
        size: Side in pixels to crop and resize to; `SIZE` if None.
        skip_corrupt: Leave out images that cannot be decoded.

    Returns:
        Its images and the publisher's split.

    Raises:
        UserError: If it is absent (the message says where to get it), or a file is corrupt.
    """
    known = PHOTOS[name]
    folder = data_folder() / known.folder
    if lacking := _lacks(known, folder):
        raise UserError(
            f"{name} is absent, for {folder} lacks {' and '.join(lacking)}: put {known.where} there, or point "
            f"WASSERFLOW_DATA at a folder that holds {known.folder}/ with them."
        )
    return known.read(folder, size or SIZE, skip_corrupt)


def _lacks(known: PhotoSet, folder: Path) -> list[str]:
    return [" or ".join(files) for files in known.needs if not any((folder / file).exists() for file in files)]
