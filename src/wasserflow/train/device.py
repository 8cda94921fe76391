"""Where a run computes, in which precision, and among how many processes."""

from typing import Literal, cast

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor

from wasserflow.errors import UserError

__all__ = [
    "Precision",
    "max_over_processes",
    "mean_over_processes",
    "processes",
    "resolve_device",
    "resolve_training_device",
]

Precision = Literal["fp32", "bf16"]


def processes() -> PartialState:
    """The process group: one process, or those that ``accelerate launch`` or ``torchrun`` started."""
    return PartialState(cpu=not torch.accelerator.is_available())


def resolve_device(name: str | torch.device | None) -> torch.device:
    """The device called ``name``, or the best one here.

    Raises:
        UserError: If the name is no device, or the device is absent.
    """
    if name is None:
        return torch.device(processes().device or "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps", "xpu"):  # torch also knows devices that hold no numbers
            raise RuntimeError(device.type)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        here += ["mps"] * torch.backends.mps.is_available()
        raise UserError(f"there is no device {str(name)!r} here; devices: {', '.join(here)}") from error
    return device


def resolve_training_device(name: str | torch.device | None) -> torch.device:
    """As `resolve_device`, for a training, whose processes have a device each.

    Raises:
        UserError: If one is named for several processes, or it is absent.
    """
    if name is not None and processes().num_processes > 1:
        raise UserError(f"leave out the device {str(name)!r}: the launcher gives each process its own")
    return resolve_device(name)


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes, in each of them; one process asks nobody and waits for nothing."""
    return value if processes().num_processes == 1 else cast(Tensor, reduce(value, "mean"))


def max_over_processes(value: float, device: torch.device) -> float:
    """The largest of the values that the processes bring, in each of them; one process waits for nothing."""
    if processes().num_processes == 1:
        return value
    held = torch.tensor(value, device=device)
    torch.distributed.all_reduce(held, torch.distributed.ReduceOp.MAX)
    return held.item()
