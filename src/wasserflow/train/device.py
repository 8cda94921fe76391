"""Where a run computes, in which precision, and among how many processes."""

import functools
from collections.abc import Callable
from typing import Literal, cast

import torch
from accelerate import PartialState
from accelerate.utils import convert_outputs_to_fp32, reduce
from torch import Tensor, nn

from wasserflow.errors import UserError

__all__ = ["Precision", "mean_over_processes", "processes", "resolve_device", "use_precision"]

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


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes, in each of them; one process asks nobody and waits for nothing."""
    return value if processes().num_processes == 1 else cast(Tensor, reduce(value, "mean"))


def use_precision(network: nn.Module, precision: Precision, device: torch.device) -> None:
    """Let a network compute in bfloat16 where that is safe; what it takes and gives stays float32."""
    if precision == "bf16":
        forward: Callable = network.forward
        autocast = torch.autocast(device.type, torch.bfloat16)
        network.forward = functools.wraps(forward)(convert_outputs_to_fp32(autocast(forward)))
