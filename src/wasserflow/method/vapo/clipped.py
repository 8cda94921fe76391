"""Adam on clipped gradients: in norm, and entry by entry."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["ClippedAdam"]


class ClippedAdam(torch.optim.Adam):
    r"""Adam that clips gradients before its step.

    Args:
        weights: What is trained.
        lr: Learning rate.
        betas: Decay rates of the first and second moments.
        norm: Largest norm of the gradient of all weights together; 0: no limit.
        entries: Keep every entry within ``3 sqrt(v_hat) + 0.1``, with v_hat its bias-corrected second moment, as in
            "VAEBM" (Xiao et al., 2021, arXiv 2010.00654).
    """

    def __init__(
        self, weights: Iterable[nn.Parameter], lr: float, betas: tuple[float, float], norm: float, entries: bool
    ) -> None:
        super().__init__(weights, lr, betas, fused=True)
        self.norm, self.entries = norm, entries

    @torch.no_grad()
    def step(self, closure: Any = None) -> Tensor | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Clip, then step."""
        for group in self.param_groups:
            if self.norm:
                nn.utils.clip_grad_norm_(group["params"], self.norm)
            for p in group["params"] if self.entries else ():
                if p.grad is not None and self.state.get(p):
                    bound = self._bound(p, group["betas"][1])
                    p.grad.clamp_(-bound, bound)
        return super().step(closure)

    def _bound(self, p: nn.Parameter, decay: float) -> Tensor:
        state = self.state[p]
        return (state["exp_avg_sq"] / (1 - decay ** state["step"])).sqrt_().mul_(3).add_(0.1)
