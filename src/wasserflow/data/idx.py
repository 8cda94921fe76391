"""idx files, the format of MNIST: two zeros, a type, a number of axes, big-endian sizes, then values."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from wasserflow._core.errors import UserError

__all__ = ["read_idx"]

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> np.ndarray:
    """The array in an idx file, compressed with gzip or not.

    Args:
        path: The file.

    Returns:
        The values in this machine's byte order, with the shape that the file states.

    Raises:
        UserError: If the file is truncated, corrupt, or no idx file.
    """
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, zlib.error, gzip.BadGzipFile, struct.error) as error:
            raise UserError(
                f"{path} is a truncated or corrupt gzip file ({error}): delete it and fetch it again."
            ) from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in TYPES or content[3] == 0:
        raise UserError(f"{path} is not an idx file: it begins with {content[:4].hex(' ') or 'nothing'}.")
    kind, start = np.dtype(TYPES[content[2]]), 4 + 4 * content[3]
    if len(content) < start:
        raise UserError(f"{path} is truncated: its header ends after {len(content)} of {start} bytes.")
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    expected = start + math.prod(shape) * kind.itemsize
    if len(content) != expected:
        problem = "is truncated" if len(content) < expected else "has bytes after its end"
        raise UserError(f"{path} {problem}: shape {shape} needs {expected} bytes and it has {len(content)}.")
    values = np.frombuffer(content, kind, offset=start).reshape(shape)
    return values.astype(kind.newbyteorder("="), copy=False)
