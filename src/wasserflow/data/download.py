"""Download of one public file, atomic and checked."""

from __future__ import annotations

import hashlib
import logging
import os
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

__all__ = ["DownloadError", "download"]

CHUNK = 1 << 18
TIMEOUT = 30.0  # seconds without a byte


class DownloadError(Exception):
    """Why a download failed; the message completes a sentence."""


def download(url: str, path: Path, sha256: str) -> None:
    """Download a file to ``path``: to a file ``.part`` beside it, renamed after a check of its SHA-256.

    Args:
        url: Address of the file.
        path: The file to write; its folder is made if it is missing.
        sha256: Its digest, in hexadecimal.

    Raises:
        DownloadError: If there is no network, no space, or the file is not the expected one. No file is left behind.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # two processes must not write into one file
    digest, received = hashlib.sha256(), 0
    try:
        logging.getLogger("wasserflow").info("downloading %s", url)
        with urllib.request.urlopen(url, timeout=TIMEOUT) as reply:
            expected = reply.headers.get("Content-Length")
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                while chunk := reply.read(CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
                    received += len(chunk)
        if expected is not None and received != int(expected):
            raise DownloadError(f"{url} broke off after {received} of {expected} bytes")
        if digest.hexdigest() != sha256:
            raise DownloadError(f"{url} is not the file it should be: its SHA-256 is {digest.hexdigest()}")
        part.replace(path)
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        if isinstance(error, HTTPError):
            error.close()
        raise DownloadError(f"{url}: {reason}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
