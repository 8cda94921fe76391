r"""Learning ``psi``: objectives, and engines that differentiate them.

The field ``grad psi`` carries ``p_t`` along a path (see `wasserflow.path`) if ``div(p_t grad psi) = -d/dt p_t``. That
is the Euler-Lagrange equation of the Ritz functional

    ``J = E_t w(t) ( 1/2 E |grad psi|^2 - E[psi gamma] )``,  gamma the innovation ``d/dt log p(x|x1)``,

whose second part integrates by parts to ``E[grad psi . v]``, v the velocity given x1, or in time. So these have one
minimiser, and differ in what a sample of them tells:

================ ============================================ ======================================================
fm               ``w/2 |grad psi - v|^2``                     flow matching by a gradient field
vapo             ``w/2 |grad psi|^2 - w (psi - mean) gamma``  Variational Potential Flow, the Ritz form
action-matching  ``w/2 |grad psi|^2 + w psi_t + w' psi``,     Action Matching (Neklyudov et al., 2022), 2210.06662
                 and ``w psi`` at both ends
vapo-tmlr        see `vapo_tmlr`; another minimiser           Density Homotopy Matching (Loo et al., 2025), 2504.16262
================ ============================================ ======================================================

All are means over the batch and over the D dimensions.

Gradients of a loss of ``grad psi`` in the weights are second derivatives of psi. With ``u = dl/dg`` held fixed they are
those of ``sum_i u_i . grad psi(x_i)``, a directional derivative: an engine is a way to compute it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from wasserflow.path import Path, over, squared_norm

__all__ = [
    "ENGINES",
    "OBJECTIVES",
    "Draw",
    "Objective",
    "contrast",
    "draw",
    "ends",
    "gradient",
    "pair",
    "time_scored",
]


class Draw(NamedTuple):
    """Points of the path, and what objectives need to know of each.

    Args:
        x: Points (N, *).
        t: Times (N,), as all that follows but for v and eps.
        x1: Data (N, *).
        eps: Noise (N, *).
        v: Velocity given the data point, (N, *).
        gamma: The innovation.
        s: The path's noise level.
        w: Weight of the time.
        w_dot: Its derivative.
        level: ``1/b``, its derivative, and that of ``a / (2 b)``: (3, N).
        label: Labels, -1 for none.
    """

    x: Tensor
    t: Tensor
    x1: Tensor
    eps: Tensor
    v: Tensor
    gamma: Tensor
    s: Tensor
    w: Tensor
    w_dot: Tensor
    level: Tensor
    label: Tensor | None = None


def draw(
    path: Path,
    x1: Tensor,
    eps: Tensor,
    t: Tensor,
    *,
    weight: str = "one",
    literal: bool = False,
    label: Tensor | None = None,
) -> Draw:
    """The points of the path for data and noise (N, *) at times (N,) strictly between 0 and 1.

    Args:
        path: The path.
        x1: Data.
        eps: Noise.
        t: Times.
        weight: ``w(t)``: ``one``, or ``s`` for the path's noise level.
        literal: Take the published covariance: the innovation without its part for the mean of ``|eps|^2``, centred
            over the batch instead.
        label: Labels.
    """
    s = path.s(t)
    w, w_dot = (s, path.s_dot(t)) if weight == "s" else (torch.ones_like(t), torch.zeros_like(t))
    gamma = path.innovation(x1, eps, t)
    if literal:
        gamma = gamma + eps[0].numel() * path.s_dot(t) / s
        gamma = gamma - gamma.mean()
    x, v = path.at(x1, eps, t), path.velocity(x1, eps, t)
    return Draw(x, t, x1, eps, v, gamma, s, w, w_dot, _level(path, t), label)


def pair(x1: Tensor, eps: Tensor) -> Tensor:
    """The noise of a batch in the order in which it lies nearest to the data overall, in squared distance; (N, *) both.

    "Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal Transport" (Tong et al., 2023),
    arXiv 2302.00482. Given a data point the noise is no longer N(0, I): the path's innovation and densities fail.
    """
    from scipy.optimize import linear_sum_assignment

    distances = torch.cdist(x1.flatten(1), eps.flatten(1)).square()
    _, order = linear_sum_assignment(distances.cpu().numpy())
    return eps[torch.from_numpy(order).to(eps.device)]


def ends(
    potential: nn.Module,
    path: Path,
    x1: Tensor,
    eps: Tensor,
    *,
    margin: float,
    weight: str = "one",
    label: Tensor | None = None,
) -> Tensor:
    """The ends of `action_matching`: ``E w psi`` at the time margin less that at 1 - margin, over their distance."""
    total = x1.new_zeros(())
    for sign, end in ((1, margin), (-1, 1 - margin)):
        t = x1.new_full((len(x1),), end)
        w = path.s(t) if weight == "s" else torch.ones_like(t)
        total = total + sign * (w * potential(path.at(x1, eps, t), t, label)).mean()
    return total / ((1 - 2 * margin) * x1[0].numel())


def contrast(potential: nn.Module, x1: Tensor, x: Tensor, label: Tensor | None = None) -> Tensor:
    """Energy ``-psi`` of data less that of the ends of chains, (N, *) each, at t = 1: down where the chains gather.

    With chains of ``exp(psi / temperature)`` it is the slope of that density's negative log-likelihood, times the
    temperature.
    """
    t = x1.new_ones(len(x1))
    return potential(x.detach(), t, label).mean() - potential(x1, t, label).mean()


def _level(path: Path, t: Tensor) -> Tensor:
    with torch.enable_grad():
        t = t.detach().requires_grad_()
        b = path.b(t)
        r, q = 1 / b, path.a(t) / (2 * b)
        slopes = [torch.autograd.grad(value.sum(), t, retain_graph=True)[0] for value in (r, q)]
    return torch.stack([r.detach(), *slopes])


Loss = Callable[[Draw, Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Objective:
    """What is minimised.

    Args:
        name: Its name.
        loss: ``loss(draw, psi (N,), grad psi (N, *), d psi/dt (N,) or None)``, a scalar.
        rate: Whether it needs ``d psi/dt``.
        ends: Whether ``w psi`` at both ends of the times belongs to it.
        exact: Whether its minimiser is the potential of the path, from which densities can be read.
    """

    name: str
    loss: Loss
    rate: bool = False
    ends: bool = False
    exact: bool = True


def fm(d: Draw, psi: Tensor, g: Tensor, rate: Tensor | None) -> Tensor:
    """Flow matching, ``w/2 |grad psi - v|^2``: the least variance of the three."""
    return (d.w * _mean_square(g - d.v)).mean() / 2


def vapo(d: Draw, psi: Tensor, g: Tensor, rate: Tensor | None) -> Tensor:
    """The Ritz form ``w/2 |grad psi|^2 - w psi gamma``; psi is centred over the batch, at no bias."""
    n = len(psi)
    centred = (psi - psi.mean()) * (n / max(n - 1, 1))
    return (d.w * (_mean_square(g) / 2 - centred * d.gamma / g[0].numel())).mean()


def action_matching(d: Draw, psi: Tensor, g: Tensor, rate: Tensor | None) -> Tensor:
    """Action Matching without its ends: ``w/2 |grad psi|^2 + w psi_t + w' psi``."""
    assert rate is not None
    return (d.w * (_mean_square(g) / 2 + rate / g[0].numel()) + d.w_dot * psi / g[0].numel()).mean()


def vapo_tmlr(d: Draw, psi: Tensor, g: Tensor, rate: Tensor | None) -> Tensor:
    r"""What the code published with Density Homotopy Matching minimises; its minimiser is not the path's potential.

        ``corr(Gamma, psi) + 1/2 mean_d g^2 + 0.1 psi_t^2 - mean_d [ g v / (|g| |v| + 1e-8)^t ]``

    with ``Gamma = mean_d[s (eps^2 - x1 eps)]`` less its mean over the batch, whose times differ, and psi's deviation in
    the correlation held fixed. The last term is a dot product at t = 0 and a cosine over D at t = 1; the penalty of
    psi_t makes psi nearly independent of the time, and the correlation drives it.
    """
    assert rate is not None
    gamma = d.s * (d.eps.square() - d.x1 * d.eps).flatten(1).mean(1)
    gamma = gamma - gamma.mean()
    correlation = (gamma * psi).mean() / (gamma.std() * psi.detach().std() + 1e-8)
    lengths = _norm(g) * _norm(d.v) + 1e-8
    aligned = (g * d.v).flatten(1).mean(1) / lengths.pow(d.t)
    return correlation + _mean_square(g).mean() / 2 + 0.1 * rate.square().mean() - aligned.mean()


def _mean_square(x: Tensor) -> Tensor:
    return squared_norm(x) / x[0].numel()


def _norm(x: Tensor) -> Tensor:
    return (squared_norm(x) + 1e-24).sqrt()  # differentiable at 0


def time_scored(objective: Objective, weight: float) -> Objective:
    r"""The objective, and ``weight s^2/(2 D) (d/dt log p_t(x) - gamma)^2`` with the log-density read off psi.

    It fixes psi's constant per time, so that log p_t is known up to one constant, and with it how high one mode lies
    against another: dual score matching (Guth et al., 2025, arXiv 2506.05310), on a path from noise to data.
    """

    def loss(d: Draw, psi: Tensor, g: Tensor, rate: Tensor | None) -> Tensor:
        assert rate is not None
        r, r_dot, q_dot = d.level
        log_rate = r * rate + r_dot * psi - q_dot * squared_norm(d.x)
        missed = d.s.square() * (log_rate - d.gamma).square() / (2 * g[0].numel())
        return objective.loss(d, psi, g, rate) + weight * missed.mean()

    return replace(objective, name=f"{objective.name} + time score", loss=loss, rate=True)


OBJECTIVES = {
    "fm": Objective("fm", fm),
    "vapo": Objective("vapo", vapo),
    "action-matching": Objective("action-matching", action_matching, rate=True, ends=True),
    "vapo-tmlr": Objective("vapo-tmlr", vapo_tmlr, rate=True, exact=False),
}


def gradient(
    potential: Callable[..., Tensor], x: Tensor, t: Tensor, label: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``psi`` (N,) and ``grad psi`` (N, *) at points (N, *) and times (N,), without a graph."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        psi = potential(x, t, label)
        (g,) = torch.autograd.grad(psi.sum(), x)
    return psi.detach(), g


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
    length = _norm(g_bar)
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
