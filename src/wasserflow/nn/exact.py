"""The output layer of every network: as exact as its weights, whatever precision the rest computes in."""

import torch
from torch import Tensor, nn

__all__ = ["Exact"]


class Exact(nn.Module):
    """A layer that autocast leaves alone: logits and samples keep the digits of float32."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """What the layer makes of ``x``."""
        with torch.autocast(x.device.type, enabled=False):
            return self.layer(x.to(next(self.layer.parameters()).dtype))
