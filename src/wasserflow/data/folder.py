"""A folder of images, or the same inside a tar archive, which is read from end to end and never unpacked.

What the names of folders say: ``train/`` and ``test/`` at the top are the split, the first folders below are
classes. A single folder around everything says nothing.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from wasserflow.data.image import BadImage, decode
from wasserflow.data.raw import Part, Raw, encode_labels
from wasserflow.data.tar import read_members
from wasserflow.errors import UserError

__all__ = ["ARCHIVES", "IMAGES", "read_archive", "read_folder"]

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
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

WORKERS = min(8, os.cpu_count() or 1)
GROUP = 32  # pictures a task
GROUP_BYTES = 1 << 22
PILE_BYTES = 1 << 25

Name = tuple[str, ...]  # the parts of a path below the top
Item = tuple[Name, Path | bytes]


def read_folder(path: Path, size: int | None, skip_corrupt: bool) -> Raw:
    """Every image in a folder and below it.

    Args:
        path: The folder.
        size: Side of the square to crop and resize to; None where all have one size already.
        skip_corrupt: Leave out what cannot be decoded.

    Returns:
        The images in the order of their names, grey where all are grey; labels; the split.

    Raises:
        UserError: It is empty, mixed or a run, its images differ in size, or one is corrupt.
    """
    if (path / "config.json").is_file() and ((path / "log.jsonl").exists() or (path / "checkpoint").exists()):
        raise UserError(f"{path} is a wasserflow run, not data: give a folder of images.")
    names = sorted(_walk(path))
    return _read(path, ((name, path.joinpath(*name)) for name in names), size, skip_corrupt)


def read_archive(path: Path, size: int | None, skip_corrupt: bool) -> Raw:
    """Every image in a tar archive; as `read_folder` otherwise."""
    return _read(path, read_members(path, lambda name: _visible(path, name)), size, skip_corrupt)


def _walk(root: Path) -> Iterator[Name]:
    """Visible files below a folder; all are images."""

    def fail(error: OSError) -> None:
        raise error

    seen: set[str] = set()
    for folder, folders, files in os.walk(root, onerror=fail, followlinks=True):
        if os.path.realpath(folder) in seen:  # a link back up would go round for ever
            folders.clear()
            continue
        seen.add(os.path.realpath(folder))
        for file in files:
            name = Path(folder, file).relative_to(root).parts
            if _visible(root, name):
                yield name


def _visible(source: Path, name: Name) -> bool:
    """Whether a file is not hidden; then it must be an image."""
    if any(part.startswith(".") or part.lower() in HIDDEN for part in name):
        return False
    if not name[-1].lower().endswith(IMAGES):
        raise UserError(f"{source} is mixed: {'/'.join(name)} is not an image; move everything but images elsewhere.")
    return True


def _read(source: Path, items: Iterable[Item], size: int | None, skip_corrupt: bool) -> Raw:
    rows: dict[Name, int] = {}
    pile = _Pile()
    unusable: list[str] = []
    first: tuple[Name, tuple[int, ...]] | None = None
    for name, picture in _decoded(items, size):
        if isinstance(picture, BadImage):
            unusable.append(f"{'/'.join(name)} {picture}")
            if not skip_corrupt:
                raise UserError(
                    f"{source}: {unusable[0]}. Mend it, remove it, or leave all such out with --skip-corrupt."
                )
            continue
        first = first or (name, picture.shape[:2])
        if picture.shape[:2] != first[1]:
            (height, width), (high, wide) = first[1], picture.shape[:2]
            raise UserError(
                f"{source} holds images of different sizes: {'/'.join(first[0])} has {width}x{height} "
                f"pixels, {'/'.join(name)} has {wide}x{high}. Crop and resize all with --size N."
            )
        rows[name] = pile.add(picture)  # a name that comes twice in an archive means its later content
    if unusable:
        logging.getLogger("wasserflow").warning(
            "%s: skipped %d of %d images: %s%s",
            source,
            len(unusable),
            len(unusable) + len(rows),
            "; ".join(unusable[:3]),
            "; ..." if len(unusable) > 3 else "",
        )
    if not rows:
        raise UserError(f"{source} holds no {'readable ' if unusable else ''}images: it is empty.")
    return _sort_out(source, rows, pile.array())


def _sort_out(source: Path, rows: dict[Name, int], pictures: np.ndarray) -> Raw:
    """Split and labels, as the names of the folders say."""
    named = dict(sorted(rows.items()))
    while len(tops := {name[0] for name in named}) == 1 and "train" not in tops and all(len(n) > 1 for n in named):
        named = {name[1:]: row for name, row in named.items()}
    train, test = named, {}
    # Next to other classes "train" is a class (of vehicles); alone or beside "test" it is a split.
    others = tops - {"train", "test"}
    if "train" in tops and ("test" in tops or others <= VALIDATION):
        if others:
            raise UserError(
                f"{source} has train/{' and test/' if 'test' in tops else ''} at its top, and {min(others)} "
                "beside: move that into one of them or elsewhere (validation is held out of train/)."
            )
        train, test = ({name[1:]: row for name, row in named.items() if name[0] == top} for top in ("train", "test"))
    label, classes = None, None
    if all(len(name) > 1 for name in (*train, *test)):
        folders = {row: name[0] for name, row in (*train.items(), *test.items())}
        (codes,), classes = encode_labels(f"the labels of {source}", np.array(list(folders.values())))
        label = np.zeros(len(pictures), np.int64)
        label[list(folders)] = codes
    if classes is not None and len(classes) < 2:  # one class tells nothing apart
        label, classes = None, None

    grey = pictures.ndim == 3
    x = pictures[:, None] if grey else pictures.transpose(0, 3, 1, 2)

    def part(rows: dict[Name, int]) -> Part:
        return Part(x, label, np.fromiter(rows.values(), np.int64, len(rows)))

    return Raw(
        str(source),
        part(train),
        "NHW" if grey else "NHWC",
        ("uint8",),
        part(test) if test else None,
        classes=classes,
    )


def _decoded(items: Iterable[Item], size: int | None) -> Iterator[tuple[Name, np.ndarray | BadImage]]:
    """Pictures in the order of the items, decoded by threads that never run far ahead."""
    from PIL import Image

    Image.init()  # once, before threads would race for it
    pool = ThreadPoolExecutor(WORKERS)
    try:
        waiting = deque()
        for group in _groups(items):
            waiting.append(pool.submit(_decode_group, group, size))
            if len(waiting) > 2 * WORKERS:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decode_group(group: list[Item], size: int | None) -> list[tuple[Name, np.ndarray | BadImage]]:
    out: list[tuple[Name, np.ndarray | BadImage]] = []
    for name, content in group:
        try:
            out.append((name, decode(content if isinstance(content, bytes) else content.read_bytes(), size)))
        except BadImage as bad:
            out.append((name, bad))
    return out


def _groups(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Items a task at a time: few enough that their bytes, where they carry them, do not pile up."""
    group: list[Item] = []
    carried = 0
    for item in items:
        group.append(item)
        carried += len(item[1]) if isinstance(item[1], bytes) else 0
        if len(group) == GROUP or carried > GROUP_BYTES:
            yield group
            group, carried = [], 0
    if group:
        yield group


class _Pile:
    """Pictures of one size, kept as grey blocks until the first that is not, joined without a second copy."""

    def __init__(self) -> None:
        self.blocks: list[np.ndarray] = []
        self.loose: list[np.ndarray] = []
        self.count = 0

    def add(self, picture: np.ndarray) -> int:
        """Put a picture ``(H, W)`` or ``(H, W, 3)`` on top; returns its row."""
        self.loose.append(picture)
        if len(self.loose) * picture.nbytes > PILE_BYTES:
            self._press()
        self.count += 1
        return self.count - 1

    def array(self) -> np.ndarray:
        """All of them, ``(N, H, W)`` where all are grey and ``(N, H, W, 3)`` otherwise; empties the pile."""
        self._press()
        colour = any(block.ndim == 4 for block in self.blocks)
        out = np.empty((self.count, *self.blocks[0].shape[1:3], *((3,) if colour else ())), np.uint8)
        row = 0
        self.blocks.reverse()
        while self.blocks:
            block = self.blocks.pop()  # let go of each as soon as it is copied
            out[row : row + len(block)] = block[..., None] if colour and block.ndim == 3 else block
            row += len(block)
        return out

    def _press(self) -> None:
        if not self.loose:
            return
        colour = any(picture.ndim == 3 for picture in self.loose)
        shape = (*self.loose[0].shape[:2], *((3,) if colour else ()))
        block = np.empty((len(self.loose), *shape), np.uint8)
        for row, picture in enumerate(self.loose):
            block[row] = picture[..., None] if colour and picture.ndim == 2 else picture
        self.blocks.append(block)
        self.loose = []
