"""The output layer of every network: as exact as its weights, whatever precision the rest computes in."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["Exact", "exactly"]


class Exact(nn.Module):
    """A layer that autocast leaves alone: logits and samples keep the digits of float32."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """What the layer makes of ``x``."""
        return exactly(self.layer, next(self.layer.parameters()).dtype, x)


def exactly(function: Callable[..., Tensor], dtype: torch.dtype, *inputs: Tensor) -> Tensor:
    """``function(*inputs)`` in this precision, where autocast would take another."""
    with torch.autocast(inputs[0].device.type, enabled=False):
        return function(*(x.to(dtype) for x in inputs))
