"""Adam that bounds every gradient by what it has seen of it."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["ClippedAdam"]


class ClippedAdam(torch.optim.Adam):
    r"""Adam on gradients within ``3 sqrt(v_hat) + 0.1``, with v_hat the bias-corrected second moment of each.

    As in "VAEBM" (Xiao et al., 2021, arXiv 2010.00654).
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Tensor | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Clip, then step."""
        for group in self.param_groups:
            decay = group["betas"][1]
            for p in group["params"]:
                if p.grad is not None and self.state.get(p):
                    state = self.state[p]
                    bound = (state["exp_avg_sq"] / (1 - decay ** state["step"])).sqrt_().mul_(3).add_(0.1)
                    p.grad.clamp_(-bound, bound)
        return super().step(closure)
