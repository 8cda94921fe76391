"""Among how many processes a training runs, and what they have to agree on."""

from typing import cast

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor

from wasserflow._core.device import resolve_device
from wasserflow._core.errors import UserError

__all__ = ["max_over_processes", "mean_over_processes", "processes", "resolve_training_device"]


def processes() -> PartialState:
    """The process group: one process, or those that ``accelerate launch`` or ``torchrun`` started."""
    return PartialState(cpu=not torch.accelerator.is_available())


def resolve_training_device(name: str | torch.device | None) -> torch.device:
    """As `resolve_device`, for a training, whose processes have a device each.

    Raises:
        UserError: If one is named for several processes, or it is absent.
    """
    if name is None:
        return torch.device(processes().device or "cpu")
    if processes().num_processes > 1:
        raise UserError(f"leave out the device {str(name)!r}: the launcher gives each process its own")
    return resolve_device(name)


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes, in each of them; one process asks nobody and waits for nothing."""
    return value if processes().num_processes == 1 else cast(Tensor, reduce(value, "mean"))


def max_over_processes(values: tuple[float, ...], device: torch.device) -> tuple[float, ...]:
    """The largest of each value that the processes bring, in each of them; one process waits for nothing."""
    if processes().num_processes == 1:
        return values
    held = torch.tensor(values, device=device)
    torch.distributed.all_reduce(held, torch.distributed.ReduceOp.MAX)
    return tuple(held.tolist())
