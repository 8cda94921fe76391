"""LSUN: photographs of scenes, one LMDB database for each category and split, resized to 256 pixels by the publisher.

Yu, Zhang, Song, Seff & Xiao, *LSUN: Construction of a Large-scale Image Dataset using Deep Learning with Humans in
the Loop*, 2015, https://arxiv.org/abs/1506.03365.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from wasserflow._core.errors import UserError, install
from wasserflow.data.decoding import Item, decode_all
from wasserflow.data.image import decode
from wasserflow.data.raw import Part, Raw

__all__ = ["TEST", "TRAIN", "read_church"]

TRAIN, TEST = "church_outdoor_train_lmdb", "church_outdoor_val_lmdb"


def read_church(folder: Path, size: int, skip_corrupt: bool) -> Raw:
    """Churches from outside: 126,227 to train on, and the publisher's 300 for validation as the test split.

    Args:
        folder: Where the two database folders lie.
        size: Side in pixels to which the centre of each is cropped and resized.
        skip_corrupt: Leave out images that cannot be decoded.

    Returns:
        uint8 images ``(N, 3, size, size)``, in the order of their keys.

    Raises:
        UserError: If the package lmdb is not installed, or a database is empty, truncated or corrupt.
    """
    with closing(_items(folder)) as items:  # also on an error: no database can be opened twice
        rows, pictures = decode_all(folder, items, partial(decode, size=size), skip_corrupt)
    train, test = (np.array([row for name, row in rows.items() if name[0] == top], np.int64) for top in (TRAIN, TEST))
    return Raw("lsun-church", Part(pictures, rows=train), "NHWC", ("uint8",), Part(pictures, rows=test), fresh=True)


def _items(folder: Path) -> Generator[Item, None, None]:
    for name in (TRAIN, TEST):
        yield from _read_database(folder / name)


def _read_database(path: Path) -> Iterator[Item]:
    """The encoded images of a database, in the order of their keys; nothing is written or locked."""
    try:
        import lmdb
    except ImportError as error:
        raise UserError(f"reading LSUN needs the package lmdb: {install('lmdb')}.") from error
    file = path / "data.mdb"
    with file.open("rb"):  # raises the machine's own error if it cannot be opened
        pass
    try:
        with lmdb.open(str(path), readonly=True, lock=False, create=False, readahead=False) as database:
            # It is mapped into memory: reading past its end would kill the process.
            needed = (database.info()["last_pgno"] + 1) * database.stat()["psize"]
            if (size := file.stat().st_size) < needed:
                raise UserError(f"{file} is truncated: it has {size:,} of {needed:,} bytes; fetch it again.")
            with database.begin() as view:
                if not view.stat()["entries"]:
                    raise UserError(f"{path} holds no images: it is empty; fetch it again.")
                for key, encoded in view.cursor():
                    yield (path.name, key.decode("ascii", "backslashreplace")), encoded
    except lmdb.Error as error:
        raise UserError(f"{file} is not a readable LMDB database ({error}): fetch it again.") from error
