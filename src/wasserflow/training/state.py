"""The state of networks and optimisers as named tensors, and back."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from wasserflow._core.errors import UserError

__all__ = ["load_optimizer", "load_weights", "optimizer_tensors", "prefixed", "select"]

UNUSED = "unused"


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


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Load a state dictionary, with one sentence where it does not fit."""
    try:
        network.load_state_dict(dict(tensors))
    except RuntimeError as error:
        first = str(error).strip().splitlines()[1:2] or [str(error)]  # one line for each weight that does not fit
        raise UserError(f"the weights in {where} do not fit this run's config.json: {first[0].strip()}") from error
