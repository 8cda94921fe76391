"""The gradient of a scalar function of each point."""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["value_and_gradient"]


def value_and_gradient(
    function: Callable[..., Tensor], x: Tensor, *others: Tensor | None, graph: bool = False
) -> tuple[Tensor, Tensor]:
    """``f(x, *others)`` with shape (N,), and ``grad_x f`` with the shape of the points ``x`` (N, *).

    Each value must depend on its own point alone. No gradients of parameters are filled.

    Args:
        function: ``f``, differentiable in x.
        x: Points, with shape (N, *).
        others: What else it takes.
        graph: Whether both keep a graph, so that they can be differentiated again.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        value = function(x, *others)
        (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=graph)
    return (value if graph else value.detach()), gradient
