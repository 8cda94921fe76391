"""Checkpoints: one safetensors file each, written whole or not at all; the last two are kept."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from wasserflow.errors import UserError
from wasserflow.files import whole_or_nothing
from wasserflow.train.budget import Progress

__all__ = [
    "latest_progress",
    "load_latest",
    "load_optimizer",
    "load_weights",
    "optimizer_tensors",
    "prefixed",
    "save_checkpoint",
    "select",
    "write_tensors",
]

KEPT = 2
UNUSED = "unused"
Read = TypeVar("Read")
_NAME = re.compile(r"(\d{12})\.safetensors")


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under ``prefix/``."""
    return {f"{prefix}/{name}": value for name, value in tensors.items()}


def select(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors stored under ``prefix/``, without the prefix."""
    return {name.removeprefix(f"{prefix}/"): v for name, v in tensors.items() if name.startswith(f"{prefix}/")}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors; its settings follow from the run's configuration."""
    state = optimizer.state_dict()["state"]
    unused = set(range(len(_parameters(optimizer)))) - state.keys()  # of a network that has yet to grow
    tensors = {f"{row}/{key}": value for row, values in state.items() for key, value in values.items()}
    return tensors | {f"{row}/{UNUSED}": torch.zeros(()) for row in unused}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], where: Path) -> None:
    """The inverse of `optimizer_tensors`, with one sentence where it does not fit."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        row, key = name.split("/")
        state.setdefault(int(row), {})[key] = value
    parameters = _parameters(optimizer)
    whole = state.keys() == set(range(len(parameters)))
    state = {row: held for row, held in state.items() if held.keys() != {UNUSED}}
    keys = _state_keys(cast(Any, type(optimizer)))
    if not (whole and all(held.keys() == keys for held in state.values())) or any(
        v.ndim and v.shape != parameters[row].shape for row, held in state.items() for v in held.values()
    ):
        raise UserError(f"the optimisers' state in {where} does not fit this run's config.json")
    for row, held in state.items():  # fused optimisers take it for granted that state lies in memory as weights do
        state[row] = {key: torch.empty_like(parameters[row]).copy_(v) if v.ndim else v for key, v in held.items()}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _state_keys(kind: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> set[str]:
    """What an optimiser remembers of each parameter, which it tells only once it has made a step."""
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    optimizer = kind([parameter])
    optimizer.step()
    return set(optimizer.state[parameter])


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


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Load a state dictionary, with one sentence where it does not fit."""
    try:
        network.load_state_dict(dict(tensors))
    except RuntimeError as error:
        first = str(error).strip().splitlines()[1:2] or [str(error)]  # one line for each weight that does not fit
        raise UserError(f"the weights in {where} do not fit this run's config.json: {first[0].strip()}") from error


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first."""
    found = [path for path in folder.glob("*.safetensors") if _NAME.fullmatch(path.name)]
    return sorted(found, reverse=True)
