"""Double precision, where the device has it."""

from torch import Tensor

__all__ = ["wide"]


def wide(x: Tensor) -> Tensor:
    """``x`` as float64; as float32 on Apple's GPUs, which have nothing wider."""
    return x.float() if x.device.type == "mps" else x.double()
