"""Published image sets by name: their files, where they are published, and how they are read."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wasserflow._core.errors import UserError
from wasserflow.data.archive import read_members
from wasserflow.data.download import DownloadError, download
from wasserflow.data.idx import read_idx
from wasserflow.data.raw import Part, Raw

__all__ = ["SETS", "NamedSet", "data_folder", "find", "read_digits", "read_named"]

TEN = tuple("0123456789")
CLOTHES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class NamedSet:
    """A published image set.

    Args:
        folder: Its folder within the data folder.
        url: Address of its files; a file's name is appended.
        files: SHA-256 of each file, as published.
        read: Reads images and labels from its folder: train, then test.
        classes: Names of its labels.
        layout: Layout of its images, as in `Form`.
        unpacked: Files that may stand instead of one of ``files``, if not just the name without ``.gz``.
    """

    folder: str
    url: str
    files: dict[str, str]
    read: Callable[[Path], tuple[Part, Part]]
    classes: tuple[str, ...]
    layout: str
    unpacked: dict[str, tuple[str, ...]] = field(default_factory=dict)


def data_folder() -> Path:
    """The folder of named sets: ``WASSERFLOW_DATA``, or ``wasserflow`` in the user's cache folder."""
    if given := os.environ.get("WASSERFLOW_DATA"):
        return Path(given).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "wasserflow"


def find(name: str) -> Path | None:
    """The folder with all files of a named set, or None."""
    folder = data_folder() / SETS[name].folder
    return None if _missing(SETS[name], folder) else folder


def read_named(name: str) -> Raw:
    """A published set from the data folder, downloaded first if it is absent.

    Args:
        name: A key of `SETS`.

    Returns:
        Its images, labels and own test split.

    Raises:
        UserError: If it is absent and cannot be downloaded, or a file is corrupt.
    """
    known = SETS[name]
    folder = data_folder() / known.folder
    for file in _missing(known, folder):
        try:
            download(known.url + file, folder / file, known.files[file])
        except DownloadError as error:
            raise UserError(
                f"{name} is not in {folder} and the download failed ({error}): put {', '.join(known.files)} "
                f"into {folder}, or point WASSERFLOW_DATA at a folder that holds {known.folder}/ with them."
            ) from error
    train, test = known.read(folder)
    for part in (train, test):
        if part.label is not None and part.label.max(initial=0) >= len(known.classes):
            raise UserError(f"{name} in {folder} has labels beyond its {len(known.classes)} classes: fetch it again.")
    return Raw(name, train, known.layout, ("uint8",), test, classes=known.classes)


def read_digits() -> Raw:
    """The 1,797 scans of handwritten digits, 8x8, that ship with scikit-learn."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    grey = np.rint(images.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    return Raw("digits", Part(grey, np.asarray(labels, np.int64)), "NHW", ("uint8",), classes=TEN)


def _missing(known: NamedSet, folder: Path) -> list[str]:
    """The files to download."""

    def there(file: str) -> bool:
        unpacked = known.unpacked.get(file, (file.removesuffix(".gz"),))
        return (folder / file).is_file() or all((folder / name).is_file() for name in unpacked)

    return [file for file in known.files if not there(file)]


def _read_mnist(folder: Path) -> tuple[Part, Part]:
    def part(prefix: str) -> Part:
        both = []
        for file, axes in ((f"{prefix}-images-idx3-ubyte", 3), (f"{prefix}-labels-idx1-ubyte", 1)):
            packed = folder / f"{file}.gz"
            path = packed if packed.is_file() else folder / file
            both.append(read_idx(path))
            if both[-1].ndim != axes or both[-1].dtype != np.uint8 or len(both[-1]) != len(both[0]):
                raise UserError(f"{path} does not hold what its name says: shape {both[-1].shape}; fetch it again.")
        return Part(both[0][:, None], both[1].astype(np.int64))

    return part("train"), part("t10k")


CIFAR_BATCHES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
CIFAR_FOLDER = "cifar-10-batches-bin"
CIFAR_ARCHIVE = "cifar-10-binary.tar.gz"
CIFAR_RECORD = 1 + 3 * 32 * 32  # a label, then three planes of pixels


def _read_cifar(folder: Path) -> tuple[Part, Part]:
    archive = folder / CIFAR_ARCHIVE
    unpacked = folder / CIFAR_FOLDER
    if archive.is_file():
        members = read_members(archive, lambda name: name[-1] in CIFAR_BATCHES)
        contents = {name[-1]: content for name, content in members}
    else:
        contents = {name: (unpacked / name).read_bytes() for name in CIFAR_BATCHES}
    for name in CIFAR_BATCHES:
        if not contents.get(name) or len(contents[name]) % CIFAR_RECORD:
            where = archive if archive.is_file() else unpacked
            raise UserError(f"{name} in {where} is absent or truncated: delete {where} to have it fetched again.")

    def part(names: tuple[str, ...]) -> Part:
        records = np.frombuffer(b"".join(contents[name] for name in names), np.uint8).reshape(-1, CIFAR_RECORD)
        return Part(records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64))

    return part(CIFAR_BATCHES[:-1]), part(CIFAR_BATCHES[-1:])


SETS = {
    "mnist": NamedSet(
        folder="mnist",
        url="https://ossci-datasets.s3.amazonaws.com/mnist/",
        files={
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        read=_read_mnist,
        classes=TEN,
        layout="NHW",
    ),
    "fashion-mnist": NamedSet(
        folder="fashion_mnist",
        url="https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        files={
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        read=_read_mnist,
        classes=CLOTHES,
        layout="NHW",
    ),
    "cifar10": NamedSet(
        folder="cifar10",
        url="https://www.cs.toronto.edu/~kriz/",
        files={CIFAR_ARCHIVE: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
        read=_read_cifar,
        classes=OBJECTS,
        layout="NHWC",
        unpacked={CIFAR_ARCHIVE: tuple(f"{CIFAR_FOLDER}/{name}" for name in CIFAR_BATCHES)},
    ),
}
