"""Checkpoints: one safetensors file each, written whole or not at all; the last two are kept."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow._core.files import whole_or_nothing
from wasserflow.training.budget import Progress

__all__ = ["latest_progress", "load_latest", "save_checkpoint", "write_tensors"]

KEPT = 2


Read = TypeVar("Read")


_NAME = re.compile(r"(\d{12})\.safetensors")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file whole or not at all, with the permissions of any new file, where it gives its owner's.

    Raises:
        UserError: If it cannot be written; what was there stays.
    """
    with whole_or_nothing(path) as unfinished:
        held = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
        unfinished.touch()
        allowed = unfinished.stat().st_mode
        save_file(held, unfinished, metadata)
        unfinished.chmod(allowed)


def save_checkpoint(folder: Path, tensors: Mapping[str, Tensor], progress: Progress) -> Path:
    """Write a checkpoint, then remove all but the last two.

    Raises:
        UserError: If it cannot be written; what was there stays.
    """
    path = folder / f"{progress.images:012d}.safetensors"
    write_tensors(path, tensors, {"progress": json.dumps(asdict(progress))})
    cut_off = folder.glob(".*.safetensors")  # left by a process that was killed while it wrote
    for old in [*_checkpoints(folder)[KEPT:], *cut_off]:
        old.unlink(missing_ok=True)
    return path


def load_latest(folder: Path) -> tuple[dict[str, Tensor], Progress, Path]:
    """The newest checkpoint that can be read whole.

    Raises:
        UserError: If there is none.
    """
    return _latest(folder, lambda file: {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


def latest_progress(folder: Path) -> Progress:
    """How far the newest checkpoint is, without its tensors.

    Raises:
        UserError: If there is none.
    """
    return _latest(folder, lambda file: None)[1]


def _latest(folder: Path, read: Callable[[Any], Read]) -> tuple[Read, Progress, Path]:
    broken = None
    for path in _checkpoints(folder):
        try:
            path.open("rb").close()  # safetensors calls a file that may not be read absent
            with safe_open(path, "pt") as file:
                progress = Progress(**json.loads((file.metadata() or {})["progress"]))
                return read(file), progress, path
        except PermissionError as error:
            raise UserError(f"{path} may not be read: {error.strerror}") from error
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            broken = f"{path.name}: {f'it lacks {error}' if isinstance(error, KeyError) else error}"
    if broken:
        raise UserError(f"no checkpoint in {folder} can be read ({broken}): train it again into another folder")
    raise UserError(
        f"{folder.parent} has no checkpoint yet: wait for the first one, or, if nothing trains it any more, train it "
        "again into another folder"
    )


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first."""
    found = [path for path in folder.glob("*.safetensors") if _NAME.fullmatch(path.name)]
    return sorted(found, reverse=True)
