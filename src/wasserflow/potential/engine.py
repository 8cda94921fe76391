r"""Engines: ways to differentiate an objective of ``grad psi`` in the weights.

These are second derivatives of psi. With ``u = dl/dg`` held fixed they are those of ``sum_i u_i . grad psi(x_i)``, a
directional derivative: an engine is a way to compute it.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from wasserflow.path import over
from wasserflow.potential.objective import Draw, Loss, Objective, norm

__all__ = ["ENGINES", "Engine"]


# An engine gives the loss's value, and losses (each with a graph of its own) whose gradients in the weights sum to its.
Engine = Callable[[nn.Module, Draw, Objective], tuple[Tensor, Iterator[Tensor]]]


class Slopes(NamedTuple):
    """At each point: psi (N,), grad psi (N, *) and d psi/dt (N,), or derivatives of the loss in them."""

    psi: Tensor
    g: Tensor
    rate: Tensor


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
    loss, bar, _ = _sensitivities(potential, d, objective)

    def surrogate() -> Iterator[Tensor]:
        plain = torch.contiguous_format  # norms have no forward derivative for others
        weights = {name: p.clone(memory_format=plain) for name, p in potential.named_parameters()}

        def at(x: Tensor, t: Tensor) -> Tensor:
            return functional_call(potential, weights, (x, t, d.label))

        psi, slope = cast(tuple[Tensor, Tensor], torch.func.jvp(at, (d.x, d.t), (bar.g, bar.rate)))
        yield slope.sum() + (bar.psi * psi).sum()

    return loss, surrogate()


TRIAL_X, TRIAL_T = 0.01, 1e-4


def finite_difference(potential: nn.Module, d: Draw, objective: Objective) -> tuple[Tensor, Iterator[Tensor]]:
    """Central differences of the directional derivative: first-order passes, each freed before the next.

    The length of a step, along the normalised direction in x of each point and along t, is chosen for every batch: two
    evaluations without gradient at a trial step, 0.01 in x and 1e-4 in t, are compared with the slope, which is known,
    and tell how fast the error grows with the step; the step then balances that error against rounding. In float32 the
    gradients in the weights had relative errors of 1e-4 to 2e-3 for MLPs and encoders, fresh or trained, and below 1e-2
    for trained U-Nets, also with their weights doubled, where a fixed step of 0.03 had 0.9. Autocast is off, because a
    difference loses the digits that bfloat16 does not have.
    """

    def psi_at(x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return potential(x, t, label)

    loss, bar, at = _sensitivities(psi_at, d, objective)
    length, still = norm(bar.g), torch.zeros_like(d.t)
    unit = over(1 / length, bar.g) * bar.g
    h_x = _step(psi_at, d, unit, still, length, at.psi, (unit * at.g).flatten(1).sum(1), TRIAL_X)
    h_t = _step(psi_at, d, 0 * unit, still + 1, bar.rate, at.psi, at.rate, TRIAL_T) if objective.rate else h_x

    def passes() -> Iterator[Tensor]:
        for sign in (1, -1):
            psi = psi_at(d.x + sign * h_x * unit, d.t, d.label)
            yield ((sign * length / (2 * h_x) + bar.psi / 2) * psi).sum()
        for sign in (1, -1) if objective.rate else ():
            yield (sign * bar.rate / (2 * h_t) * psi_at(d.x, d.t + sign * h_t, d.label)).sum()

    return loss, passes()


@torch.no_grad()
def _step(
    potential: Callable[..., Tensor],
    d: Draw,
    along_x: Tensor,
    along_t: Tensor,
    weight: Tensor,
    psi: Tensor,
    slope: Tensor,
    trial: float,
) -> Tensor:
    """The step h whose error ``c h^2 + r / h`` is least: c measured at a trial step, r by the digits of psi."""
    up, down = (potential(d.x + sign * trial * along_x, d.t + sign * trial * along_t, d.label) for sign in (1, -1))
    missed = (weight * ((up - down) / (2 * trial) - slope)).norm()
    rounding = torch.finfo(psi.dtype).eps * (weight * psi).norm()
    least, most = trial / 1000, 3 * trial
    return (rounding * trial**2 / (2 * missed + 1e-30)).pow(1 / 3).clamp(least, most)


def _sensitivities(potential: Callable[..., Tensor], d: Draw, objective: Objective) -> tuple[Tensor, Slopes, Slopes]:
    """The loss, its derivatives in psi, grad psi and d psi/dt at each point, and these; first-order passes alone."""
    x, t = d.x.detach().requires_grad_(), d.t.detach().requires_grad_(objective.rate)
    psi = potential(x, t, d.label)
    slopes = torch.autograd.grad(psi.sum(), (x, t) if objective.rate else (x,))
    leaves = [value.detach().requires_grad_() for value in (*slopes, psi)]
    g, *rate = leaves[:-1]
    loss = objective.loss(d, leaves[-1], g, rate[0] if rate else None)
    bars = torch.autograd.grad(loss, leaves, allow_unused=True)
    found = [torch.zeros_like(leaf) if bar is None else bar for leaf, bar in zip(leaves, bars, strict=True)]
    still = torch.zeros_like(d.t)
    bars, values = (Slopes(all_[-1], all_[0], all_[1] if objective.rate else still) for all_ in (found, leaves))
    return loss.detach(), bars, Slopes(*(value.detach() for value in values))


ENGINES: dict[str, Engine] = {
    "double-backward": double_backward,
    "func": functional,
    "compiled": compiled,
    "jvp": directional,
    "finite-difference": finite_difference,
}
