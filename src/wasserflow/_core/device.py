"""Which device computes."""

from typing import Literal

import torch

from wasserflow._core.errors import UserError

__all__ = ["Precision", "resolve_device"]

Precision = Literal["fp32", "bf16"]
"""Of the networks."""


def resolve_device(name: str | torch.device | None) -> torch.device:
    """The device called ``name``, or the best one here.

    Raises:
        UserError: If the name is no device, or the device is absent.
    """
    if name is None:
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
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
