"""The files in a tar archive, read from end to end; nothing is ever unpacked to the disk."""

from __future__ import annotations

import logging
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from wasserflow.errors import UserError

__all__ = ["read_members"]

Name = tuple[str, ...]


def read_members(archive: Path, wanted: Callable[[Name], bool]) -> Iterator[tuple[Name, bytes]]:
    """The wanted files of an archive, in its own order.

    Args:
        archive: A tar file, compressed in any way that Python knows.
        wanted: Whether to read a file, told by the parts of its path; other files are passed over.

    Yields:
        The parts of a file's path and its content.

    Raises:
        UserError: The archive is truncated or corrupt.
    """
    links = 0
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                links += member.issym() or member.islnk()
                # Nothing is written anywhere, so a name that climbs out of the archive is only a name.
                name = tuple(part for part in member.name.split("/") if part not in ("", ".", ".."))
                if member.isreg() and wanted(name) and (file := tar.extractfile(member)) is not None:
                    yield name, file.read()
            _check_end(tar)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise _broken(archive, error) from error
    except OSError as error:
        if error.errno is not None:  # the machine's trouble, not the archive's
            raise
        raise _broken(archive, error) from error
    if links:
        logging.getLogger("wasserflow").warning("%s: links inside it are ignored: %d", archive, links)


def _check_end(tar: tarfile.TarFile) -> None:
    """An iteration also stops, without a word, at a header that makes no sense; checksums come last of all."""
    if tar.fileobj is None:
        return
    tar.fileobj.seek(tar.offset)
    if any(tar.fileobj.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError(f"no header at byte {tar.offset}")
    while tar.fileobj.read(1 << 20):
        pass


def _broken(archive: Path, error: Exception) -> UserError:
    reason = str(error).partition("\n")[0].rstrip(": ") or type(error).__name__
    return UserError(f"{archive} is truncated or corrupt ({reason}): pack or fetch it again.")
