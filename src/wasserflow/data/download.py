"""One public file, fetched whole or not at all."""

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
    """Why a file could not be had; the message completes a sentence."""


def download(url: str, path: Path, sha256: str) -> None:
    """Fetch a file to ``path``: first beside it as ``.part``, under its own name once its SHA-256 is right.

    Args:
        url: Where it is published.
        path: Where it shall lie; its folder is made where it is missing.
        sha256: Its digest, in hexadecimal.

    Raises:
        DownloadError: No network, no room, or not the file that was expected. Nothing is left behind.
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
