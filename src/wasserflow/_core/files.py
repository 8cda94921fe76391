"""Files that exist whole or not at all.

What is written goes to a hidden neighbour first, is flushed to the disk, and takes the final name in one
rename, which the file system does atomically: a reader, or the next start after a crash, finds the old file or
the new one and never half of either.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from wasserflow._core.errors import UserError

__all__ = ["digest", "whole_or_nothing"]


def digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of all weights in the order of their names: equal for equal weights, and another for damaged ones."""
    sha = hashlib.sha256()
    for name in sorted(weights):
        sha.update(weights[name].cpu().numpy().tobytes())
    return sha.hexdigest()


@contextmanager
def whole_or_nothing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Hand out a temporary path that becomes ``path`` when the block ends well and vanishes when it does not.

    The block creates a file or a folder at the temporary path. A file replaces the one that was there; a folder
    never replaces a folder with something in it. The temporary name lies in the same folder (so that the rename
    stays within one file system), is hidden, carries the process id, and keeps the suffix, by which many writers
    choose their format.

    Args:
        path: Where the finished file or folder goes; its parent folder must exist.

    Yields:
        The temporary path.

    Raises:
        UserError: It could not be written: a full disk, no permission, no such folder.
    """
    path = Path(path)
    if not path.name:
        raise UserError(f"cannot write {path}: give the name of a new file or folder.")
    # Root could replace a device such as /dev/null by a file.
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UserError(f"cannot write {path}: it is a device or a pipe, not a file.")
    token = f"{os.getpid()}-{secrets.token_hex(4)}"
    hidden = path.with_name(f".{path.stem[:40].lstrip('.')}-{token}{path.suffix}")
    try:
        yield hidden
        _flush(hidden)
        os.replace(hidden, path)
        _flush_folder(path.parent)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {path}: {_reason(error, path)}.") from error
    finally:
        _remove(hidden)


def _flush(path: Path) -> None:
    """Push a file, or every file in a folder, to the disk, so that the rename never outruns the content."""
    for file in [path] if not path.is_dir() else sorted(p for p in path.rglob("*") if p.is_file()):
        with open(file, "rb+") as handle:
            os.fsync(handle.fileno())
    if path.is_dir():
        for folder in [path, *(p for p in path.rglob("*") if p.is_dir())]:
            _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    """Make a rename itself durable, where the system lets a folder be opened."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _reason(error: Exception, path: Path) -> str:
    """What went wrong, without the temporary name, which would mean nothing to the reader."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    if number := getattr(error, "errno", None):
        return os.strerror(number)
    return (str(error) or type(error).__name__).rstrip(".")
