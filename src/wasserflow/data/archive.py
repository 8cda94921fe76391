"""The files in a tar or zip archive, read from start to end; nothing is unpacked to the disk."""

from __future__ import annotations

import logging
import lzma
import posixpath
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from wasserflow._core.errors import UserError

__all__ = ["BROKEN", "read_members", "zip_names"]

MOST_BYTES = 1 << 29  # bytes of one file: more than the largest picture that is decoded has as a bitmap
BROKEN = (zipfile.BadZipFile, EOFError, zlib.error, struct.error, ValueError, NotImplementedError)

Name = tuple[str, ...]
Member = tuple[Name, bool, int, Callable[[], bytes]]  # a name, whether it is a link, bytes unpacked, the content


def read_members(archive: Path, wanted: Callable[[Name], bool]) -> Iterator[tuple[Name, bytes]]:
    """The wanted files of an archive, in its own order.

    Args:
        archive: A zip file, or a tar file compressed in any way that Python knows.
        wanted: Whether to read a file, given the parts of its path; other files are skipped.

    Yields:
        The parts of a file's path and its content.

    Raises:
        UserError: If the archive is truncated or corrupt, or a file in it is locked, too large, or compressed by a
            method other than deflate.
    """
    links = 0
    try:
        for name, link, size, read in _zipped(archive) if _is_zip(archive) else _tarred(archive):
            links += link
            if link or not wanted(name):
                continue
            if size > MOST_BYTES:
                raise UserError(f"{archive}: {'/'.join(name)} unpacks to {size:,} bytes, which no picture needs.")
            yield name, read()
    except (*BROKEN, lzma.LZMAError, tarfile.TarError) as error:
        raise _broken(archive, error) from error
    except OSError as error:
        if error.errno is not None:  # an error of the machine, not of the archive
            raise
        raise _broken(archive, error) from error
    if links:
        logging.getLogger("wasserflow").warning("%s: links inside it are ignored: %d", archive, links)


def zip_names(archive: Path) -> list[Name]:
    """The files listed in a zip archive; raises a `UserError` if it is truncated or corrupt."""
    try:
        return [name for name, link, _, _ in _zipped(archive) if not link]
    except BROKEN as error:
        raise _broken(archive, error) from error


def _is_zip(archive: Path) -> bool:
    return archive.name.lower().endswith(".zip")


def _parts(name: str) -> Name:
    # Some programs for Windows write backslashes. Nothing is written to the disk, so ".." ends at the archive's top.
    return tuple(part for part in posixpath.normpath("/" + name.replace("\\", "/")).split("/") if part)


def _tarred(archive: Path) -> Iterator[Member]:
    with tarfile.open(archive) as tar:
        for member in tar:
            link = member.issym() or member.islnk()
            file = tar.extractfile(member) if member.isreg() else None
            if (link or file is not None) and (parts := _parts(member.name)):
                yield parts, link, member.size, bytes if file is None else file.read
        _check_end(tar)


def _zipped(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            parts = _parts(member.filename)
            if parts and not member.filename.endswith(("/", "\\")):
                link = stat.S_ISLNK(member.external_attr >> 16)
                yield parts, link, member.file_size, partial(_unzip, archive, file, member)


def _unzip(archive: Path, file: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    how = None
    if member.flag_bits & 0x1:
        how = "locked by a password"
    elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        how = f"packed by method {member.compress_type}, neither stored nor deflated"
    if how is not None:
        raise UserError(f"{archive}: {member.filename} is {how}: unpack it, and give the folder.")
    with file.open(member) as content:
        # Never read() without a limit: an archive may unpack to far more than it states.
        return content.read(member.file_size)


def _check_end(tar: tarfile.TarFile) -> None:
    """Iterating over a tar file stops silently at a damaged header, and checksums come after the last file."""
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
