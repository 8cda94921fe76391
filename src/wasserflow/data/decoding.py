"""Many picture files as one array, decoded by threads."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from wasserflow._core.errors import UserError
from wasserflow.data.image import BadImage

__all__ = ["Decoder", "Item", "Name", "decode_all"]

WORKERS = min(8, os.cpu_count() or 1)
GROUP = 32  # pictures a task
GROUP_BYTES = 1 << 22
PILE_BYTES = 1 << 25

Name = tuple[str, ...]  # the parts of a path below the top
Item = tuple[Name, Path | bytes]
Decoder = Callable[[bytes], np.ndarray]


def decode_all(
    source: Path, items: Iterable[Item], decoder: Decoder, skip_corrupt: bool
) -> tuple[dict[Name, int], np.ndarray]:
    """All pictures of a source in one array, without a second copy in memory.

    Args:
        source: Their place in error messages.
        items: Name of each picture, and its bytes or its file; taken one after the other.
        decoder: Turns the bytes into pixels ``(H, W)`` or ``(H, W, 3)``, or raises `BadImage`.
        skip_corrupt: Leave out, and log, images that cannot be decoded.

    Returns:
        The row of each name, and the pictures: uint8 ``(N, 1, H, W)`` if all are grey, ``(N, 3, H, W)`` otherwise.

    Raises:
        UserError: If there are none, one cannot be decoded, or they differ in size.
    """
    rows: dict[Name, int] = {}
    pile = _Pile()
    unusable: list[str] = []
    first: tuple[Name, tuple[int, ...]] | None = None
    for name, picture in _decoded(items, decoder):
        if isinstance(picture, BadImage):
            unusable.append(f"{'/'.join(name)} {picture}")
            if not skip_corrupt:
                raise UserError(
                    f"{source}: {unusable[0]}. Repair it, remove it, or leave all such images out with `skip_corrupt`."
                )
            continue
        first = first or (name, picture.shape[1:])
        if picture.shape[1:] != first[1]:
            (height, width), (high, wide) = first[1], picture.shape[1:]
            raise UserError(
                f"{source} holds images of different sizes: {'/'.join(first[0])} has {width}x{height} "
                f"pixels, {'/'.join(name)} has {wide}x{high}. Crop and resize all with `size=N`."
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
    return rows, pile.array()


def _decoded(items: Iterable[Item], decoder: Decoder) -> Iterator[tuple[Name, np.ndarray | BadImage]]:
    """Pictures in the order of the items; threads decode a bounded number of them ahead."""
    from PIL import Image

    Image.init()  # not thread-safe
    pool = ThreadPoolExecutor(WORKERS)
    try:
        waiting = deque()
        for group in _groups(items):
            waiting.append(pool.submit(_decode_group, group, decoder))
            if len(waiting) > 2 * WORKERS:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decode_group(group: list[Item], decoder: Decoder) -> list[tuple[Name, np.ndarray | BadImage]]:
    out: list[tuple[Name, np.ndarray | BadImage]] = []
    for name, content in group:
        try:
            pixels = decoder(content if isinstance(content, bytes) else content.read_bytes())
            out.append((name, np.ascontiguousarray(pixels.transpose(2, 0, 1)) if pixels.ndim == 3 else pixels[None]))
        except BadImage as bad:
            out.append((name, bad))
    return out


def _groups(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Items in groups, one per task, small enough that the bytes that they carry take little memory."""
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
    """Pictures of one size: grey blocks until the first in colour, joined without a second copy."""

    def __init__(self) -> None:
        self.blocks: list[np.ndarray] = []
        self.loose: list[np.ndarray] = []
        self.count = 0

    def add(self, picture: np.ndarray) -> int:
        """Put a picture ``(1, H, W)`` or ``(3, H, W)`` on top; returns its row."""
        self.loose.append(picture)
        if len(self.loose) * picture.nbytes > PILE_BYTES:
            self._press()
        self.count += 1
        return self.count - 1

    def array(self) -> np.ndarray:
        """All pictures, ``(N, 1, H, W)`` if all are grey and ``(N, 3, H, W)`` otherwise; empties the pile."""
        self._press()
        channels = max(block.shape[1] for block in self.blocks)
        out = np.empty((self.count, channels, *self.blocks[0].shape[2:]), np.uint8)
        row = 0
        self.blocks.reverse()
        while self.blocks:
            block = self.blocks.pop()  # freed as soon as it is copied
            out[row : row + len(block)] = block
            row += len(block)
        return out

    def _press(self) -> None:
        if not self.loose:
            return
        channels = max(len(picture) for picture in self.loose)
        block = np.empty((len(self.loose), channels, *self.loose[0].shape[1:]), np.uint8)
        for row, picture in enumerate(self.loose):
            block[row] = picture
        self.blocks.append(block)
        self.loose = []
