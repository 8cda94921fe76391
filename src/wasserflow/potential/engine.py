r"""Engines: ways to differentiate an objective of ``grad psi`` in the weights.

These are second derivatives of psi. With ``u = dl/dg`` held fixed they are those of ``sum_i u_i . grad psi(x_i)``, a
directional derivative: an engine is a way to compute it.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from wasserflow.path import over
from wasserflow.potential.objective import Draw, Loss, Objective, norm

__all__ = ["ENGINES", "Engine"]


# An engine gives the loss's value, and losses (each with a graph of its own) whose gradients in the weights sum to its.
Engine = Callable[[nn.Module, Draw, Objective], tuple[Tensor, Iterator[Tensor]]]


def double_backward(potential: nn.Module, d: Draw, objective: Objective) -> tuple[Tensor, Iterator[Tensor]]:
    """Backward through the backward pass."""
    x, t = d.x.detach().requires_grad_(), d.t.detach().requires_grad_(objective.rate)
    psi = potential(x, t, d.label)
    g, *rate = torch.autograd.grad(psi.sum(), (x, t) if objective.rate else (x,), create_graph=True)
    loss = objective.loss(d, psi, g, rate[0] if rate else None)
    return loss.detach(), iter([loss])


def functional(
    potential: nn.Module, d: Draw, objective: Objective, compiled: bool = False
) -> tuple[Tensor, Iterator[Tensor]]:
    """``torch.func.grad`` inside the loss, the one form of a second derivative that torch compiles."""
    total = _compiled() if compiled else _total
    loss = total(dict(potential.named_parameters()), potential, d, objective.loss, objective.rate)
    return loss.detach(), iter([loss])


def compiled(potential: nn.Module, d: Draw, objective: Objective) -> tuple[Tensor, Iterator[Tensor]]:
    """The same, compiled: needs a C++ compiler on the CPU, Triton on a GPU."""
    return functional(potential, d, objective, compiled=True)


@lru_cache(1)
def _compiled() -> Any:
    return torch.compile(_total, fullgraph=True, dynamic=False)


def _total(weights: dict[str, Tensor], potential: nn.Module, d: Draw, loss: Loss, timed: bool) -> Tensor:
    def summed(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        psi = functional_call(potential, weights, (x, t, d.label))
        return psi.sum(), psi

    slopes, psi = cast(Any, torch.func.grad(summed, (0, 1) if timed else (0,), has_aux=True)(d.x, d.t))
    return loss(d, psi, slopes[0], slopes[1] if timed else None)


def directional(potential: nn.Module, d: Draw, objective: Objective) -> tuple[Tensor, Iterator[Tensor]]:
    """The directional derivative in forward mode, then an ordinary backward pass."""
    loss, (g_bar, psi_bar, rate_bar) = _sensitivities(potential, d, objective)

    def surrogate() -> Iterator[Tensor]:
        plain = torch.contiguous_format  # norms have no forward derivative for others
        weights = {name: p.clone(memory_format=plain) for name, p in potential.named_parameters()}

        def at(x: Tensor, t: Tensor) -> Tensor:
            return functional_call(potential, weights, (x, t, d.label))

        psi, slope = cast(tuple[Tensor, Tensor], torch.func.jvp(at, (d.x, d.t), (g_bar, rate_bar)))
        yield slope.sum() + (psi_bar * psi).sum()

    return loss, surrogate()


H_X, H_T = 0.03, 1e-4


def finite_difference(potential: nn.Module, d: Draw, objective: Objective) -> tuple[Tensor, Iterator[Tensor]]:
    """Central differences of the directional derivative: first-order passes, each freed before the next.

    Steps are 0.03 along the normalised direction in x of each point, and 1e-4 in t: less is lost in float32's rounding,
    more in higher derivatives.
    """
    loss, (g_bar, psi_bar, rate_bar) = _sensitivities(potential, d, objective)
    length = norm(g_bar)
    step = over(H_X / length, g_bar) * g_bar

    def passes() -> Iterator[Tensor]:
        for sign in (1, -1):
            psi = potential(d.x + sign * step, d.t, d.label)
            yield ((sign * length / (2 * H_X) + psi_bar / 2) * psi).sum()
        for sign in (1, -1) if objective.rate else ():
            yield (sign * rate_bar / (2 * H_T) * potential(d.x, d.t + sign * H_T, d.label)).sum()

    return loss, passes()


def _sensitivities(potential: nn.Module, d: Draw, objective: Objective) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """The loss, and its derivatives by grad psi, psi and d psi/dt at each point; first-order passes alone."""
    x, t = d.x.detach().requires_grad_(), d.t.detach().requires_grad_(objective.rate)
    psi = potential(x, t, d.label)
    slopes = torch.autograd.grad(psi.sum(), (x, t) if objective.rate else (x,))
    leaves = [value.detach().requires_grad_() for value in (*slopes, psi)]
    g, *rate = leaves[:-1]
    loss = objective.loss(d, leaves[-1], g, rate[0] if rate else None)
    bars = torch.autograd.grad(loss, leaves, allow_unused=True)
    found = [torch.zeros_like(leaf) if bar is None else bar for leaf, bar in zip(leaves, bars, strict=True)]
    return loss.detach(), (found[0], found[-1], found[1] if objective.rate else torch.zeros_like(d.t))


ENGINES: dict[str, Engine] = {
    "double-backward": double_backward,
    "func": functional,
    "compiled": compiled,
    "jvp": directional,
    "finite-difference": finite_difference,
}
