"""Learning the log density ratio ``d = log p/q`` from samples of both."""

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import softplus

__all__ = ["gradient_penalty", "logistic_loss"]


def logistic_loss(d_p: Tensor, d_q: Tensor) -> Tensor:
    """``E_p softplus(-d) + E_q softplus(d)``: least at ``d = log p/q``, and 2 log 2 where p = q.

    Args:
        d_p: Logits of data, with shape (N,).
        d_q: Logits of particles, with shape (M,).

    Returns:
        A scalar.
    """
    return softplus(-d_p).mean() + softplus(d_q).mean()


def gradient_penalty(logit: Module, x: Tensor) -> Tensor:
    """``E |grad_x d(x)|^2 / 2``, differentiable in the logit's parameters; ``x`` has shape (N, *).

    On data it is the R1 penalty of "Which Training Methods for GANs do actually Converge?" (Mescheder, Geiger &
    Nowozin, 2018), arXiv 1801.04406.
    """
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(logit(x).sum(), x, create_graph=True)
    return 0.5 * gradient.square().flatten(1).sum(1).mean()
