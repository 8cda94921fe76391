r"""Objectives whose minimiser is ``psi``: the energy functional, in several estimators, and one other loss.

The field ``grad psi`` carries ``p_t`` along a path (see `wasserflow.path`) if ``div(p_t grad psi) = -d/dt p_t``. That
is the Euler-Lagrange equation of the energy functional of Variational Potential Flow, a Ritz functional,

    ``J = E_t w(t) ( 1/2 E |grad psi|^2 - E[psi gamma] )``,  gamma the innovation ``d/dt log p(x|x1)``.

Given the data point, x is Gaussian, and integration by parts in x gives ``E[psi gamma | x1] = E[grad psi . v | x1]``
with v the velocity given x1, on every path. So ``fm`` and ``vapo`` are two Monte Carlo estimators of the gradient of
one functional: ``vapo`` with its innovation term as published, ``fm`` with that term integrated by parts, which is the
same loss with the control variate ``grad psi . v - psi gamma`` of mean 0 given x1, plus a constant that completes the
square. ``action-matching`` integrates by parts in time instead.

================ ============================================ ======================================================
fm               ``w/2 |grad psi - v|^2``                     J, its innovation term integrated by parts in x; flow
                                                              matching by a gradient field
vapo             ``w/2 |grad psi|^2 - w (psi - mean) gamma``  J as it stands: Variational Potential Flow
action-matching  ``w/2 |grad psi|^2 + w psi_t + w' psi``,     J, integrated by parts in time: Action Matching
                 and ``w psi`` at both ends                   (Neklyudov et al., 2022), arXiv 2210.06662
vapo-tmlr        see `vapo_tmlr`; another minimiser           Density Homotopy Matching (Loo et al., 2025),
                                                              arXiv 2504.16262
================ ============================================ ======================================================

All are means over the batch and over the D dimensions.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wasserflow.path import Path, squared_norm

__all__ = ["OBJECTIVES", "Draw", "Objective", "contrast", "draw", "ends", "pair", "time_scored"]


class Draw(NamedTuple):
    """Points of the path, and what objectives need of each.

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
    """The energy functional with its innovation term integrated by parts, ``w/2 |grad psi - v|^2``: least variance."""
    return (d.w * _mean_square(g - d.v)).mean() / 2


def vapo(d: Draw, psi: Tensor, g: Tensor, rate: Tensor | None) -> Tensor:
    """The energy functional as it stands, ``w/2 |grad psi|^2 - w psi gamma``; psi is centred over the batch."""
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
    lengths = norm(g) * norm(d.v) + 1e-8
    aligned = (g * d.v).flatten(1).mean(1) / lengths.pow(d.t)
    return correlation + _mean_square(g).mean() / 2 + 0.1 * rate.square().mean() - aligned.mean()


def _mean_square(x: Tensor) -> Tensor:
    return squared_norm(x) / x[0].numel()


def norm(x: Tensor) -> Tensor:
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
