r"""Learning the log density ratio ``d = log p/q`` from samples of both.

A network gives a logit ``l(x)``, and every loss here is least at ``l = d``. The lemma behind all of them: maximising
``E_p phi(D) + E_q psi(D)`` over a critic D gives ``p/q = -psi'(D)/phi'(D)``, so a critic ``D = D(l)`` for which that is
``e^l`` has the logit as its own log ratio (MonoFlow, Yi, Zhu & Liu, 2023, arXiv 2302.01075).

Every divergence of `wasserflow.divergence` that has an f gives such a loss, ``E_q h(l) - E_p g'(e^l)``: the f-GAN's
(Nowozin, Cseke & Tomioka, 2016, arXiv 1606.00709), which in terms of the logit is the b-GAN's too (Uehara et al., 2016,
arXiv 1610.02920).

============== ================= ==================== ========= ====================================================
name           phi(D)            psi(D)               D(l)      source
============== ================= ==================== ========= ====================================================
logistic       log sigma(D)      log sigma(-D)        l         vanilla GAN; the f-GAN of Jensen-Shannon
lsgan          -(D - 1)^2        -D^2                 sigma(l)  Mao et al., 2016, arXiv 1611.04076
least-squares  -D^2 / 2          D                    e^-l      EPT, Gao et al., 2020, arXiv 2012.06094
b-gan          2 D               -D^2                 e^l       b-GAN of ``g = (r - 1)^2``, but for a constant
gebm           -D                -e^-D                -l        generalised EBM, Arbel et al., 2020, arXiv 2003.05033
f-gan:NAME     D                 -g*(D)               g'(e^l)   any divergence with an f
============== ================= ==================== ========= ====================================================
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import softplus

from wasserflow._core.autograd import value_and_gradient
from wasserflow._core.errors import UserError, unknown
from wasserflow.divergence import D_MAX, Map, Scalar, named

__all__ = [
    "LOSSES",
    "PENALTIES",
    "Penalty",
    "RatioLoss",
    "define_loss",
    "f_gan",
    "loss_named",
    "one_centred_penalty",
    "r1_penalty",
    "weighted_penalty",
]


@dataclass(frozen=True)
class RatioLoss:
    """``E_p data(l) + E_q particles(l)``, least at ``l = log p/q``.

    Args:
        name: Name of the loss.
        data: ``-phi(D(l))``, elementwise; falling.
        particles: ``-psi(D(l))``, elementwise, with ``particles' = -e^l data'``.
        equilibrium: Value of the loss at p = q and l = 0.
    """

    name: str
    data: Scalar
    particles: Scalar
    equilibrium: float

    def __call__(self, l_p: Tensor, l_q: Tensor) -> Tensor:
        """The loss, a scalar, from logits of data (N,) and of particles (M,)."""
        return self.data(l_p).mean() + self.particles(l_q).mean()


def f_gan(row: Map, name: str | None = None) -> RatioLoss:
    """The f-GAN's loss ``E_q h(l) - E_p g'(e^l)`` of a divergence.

    Ratios beyond 99 are not told apart: there both parts go on linearly, so that no exponential overflows.

    Raises:
        UserError: If the map comes from no divergence in closed form.
    """
    critic = row.critic
    if critic is None:
        raise UserError(f"{row.name} has no f-divergence in closed form, so no classifier can be trained by it")

    def inside(logit: Tensor) -> Tensor:
        return logit.clamp(-D_MAX, D_MAX)

    def data(logit: Tensor) -> Tensor:
        bound = inside(logit)
        slope = row.rate(bound) * (-bound).exp()
        return -critic(bound) - slope.detach() * (logit - bound)

    def particles(logit: Tensor) -> Tensor:
        bound = inside(logit)
        return row.h(bound) + row.rate(bound).detach() * (logit - bound)

    zero = torch.zeros((), dtype=torch.float64)
    return RatioLoss(name or f"f-gan:{row.name}", data, particles, (data(zero) + particles(zero)).item())


LOGISTIC = RatioLoss("logistic", lambda logit: softplus(-logit), softplus, 2 * log(2))
"""``E_p softplus(-l) + E_q softplus(l)``: twice the binary cross-entropy, 2 log 2 where p = q."""

LSGAN = RatioLoss(
    "lsgan", lambda logit: torch.sigmoid(-logit).square(), lambda logit: torch.sigmoid(logit).square(), 0.5
)

LOSSES = {
    "logistic": LOGISTIC,
    "vanilla": LOGISTIC,
    "lsgan": LSGAN,
    "least-squares": f_gan(named("pearson"), "least-squares"),
    "b-gan": f_gan(named("chi2"), "b-gan"),
    "gebm": f_gan(named("forward-kl"), "gebm"),
}
"""The losses that come with wasserflow, by name; `loss_named` also takes ``f-gan:NAME``."""

F_GAN = "f-gan:"
_DEFINED: dict[str, RatioLoss] = {}


def loss_named(name: str) -> RatioLoss:
    """The loss with this name: out of `LOSSES`, from `define_loss`, or ``f-gan:NAME`` of a divergence.

    Raises:
        UserError: If there is none; it names the nearest ones.
    """
    if name.startswith(F_GAN):
        return f_gan(named(name.removeprefix(F_GAN)))
    known = LOSSES | _DEFINED
    if name not in known:
        raise unknown("ratio loss", name, (*known, f"{F_GAN}NAME"))
    return known[name]


def define_loss(name: str, phi: Scalar, psi: Scalar, critic: Scalar) -> RatioLoss:
    """Add the loss of a custom pair (phi, psi) under a name that ``ratio_loss=`` and a run's record can hold.

    Args:
        name: Name of the loss; a loss defined earlier is replaced, one of `LOSSES` is not.
        phi: ``phi(D)``, elementwise and differentiable.
        psi: ``psi(D)``, elementwise and differentiable.
        critic: ``D(l)``, the critic that a logit stands for.

    Returns:
        The loss ``-E_p phi(D(l)) - E_q psi(D(l))``.

    Raises:
        UserError: If the name is taken, or the logit would not be log p/q: ``-psi'(D)/phi'(D) = e^l`` with
            ``phi(D(l))`` increasing is checked on [-10, 10] in float64.
    """
    if name in LOSSES or name.startswith(F_GAN):
        raise UserError(f"the name {name!r} is taken by a loss that comes with wasserflow: choose another")
    logit = torch.linspace(-10, 10, 401, dtype=torch.float64, requires_grad=True)
    try:
        reward = phi(critic(logit))
        (up,) = torch.autograd.grad(reward.sum(), logit)
        (down,) = torch.autograd.grad(psi(critic(logit)).sum(), logit)
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"the loss {name!r} cannot be used as differentiable functions of tensors: {error}") from error
    logit = logit.detach()
    wrong = ~(up > 0) | ~torch.isclose(-down, logit.exp() * up, rtol=1e-4, atol=0)
    if wrong.any():
        where, slope, ratio = (values[wrong][0].item() for values in (logit, up, -down / up))
        raise UserError(
            f"the loss {name!r} does not learn log p/q: at l = {where:g} phi(D(l)) has the slope {slope:g}, which "
            f"must be above 0, and -psi'(D)/phi'(D) is {ratio:g}, which must be e^l = {exp(where):g}"
        )

    def at_zero(function: Scalar) -> float:
        return -function(critic(torch.zeros((), dtype=torch.float64))).item()

    loss = RatioLoss(
        name, lambda logit: -phi(critic(logit)), lambda logit: -psi(critic(logit)), at_zero(phi) + at_zero(psi)
    )
    _DEFINED[name] = loss
    return loss


Penalty = Callable[[Module, Tensor, Tensor, RatioLoss, torch.Generator], Tensor]


def r1_penalty(logit: Module, p: Tensor, q: Tensor, loss: RatioLoss, rng: torch.Generator) -> Tensor:
    """``E_p |grad d|^2 / 2`` at data ``p``, (N, *); differentiable in the logit's parameters, as all of these are.

    "Which Training Methods for GANs do actually Converge?" (Mescheder, Geiger & Nowozin, 2018), arXiv 1801.04406.
    """
    _, gradient = value_and_gradient(logit, p, graph=True)
    return 0.5 * gradient.flatten(1).square().sum(1).mean()


def weighted_penalty(logit: Module, p: Tensor, q: Tensor, loss: RatioLoss, rng: torch.Generator) -> Tensor:
    """``E_p[w(d) |grad d|^2] / 2`` with the curvature ``w = -data'(d)`` of the loss at its optimum.

    For ``least-squares`` it is ``E_p |grad R|^2 / 2`` with ``R = q/p``, for ``logistic``
    ``E_p[sigma(-d) |grad d|^2] / 2``: the regulariser of "Deep Generative Learning via Euler Particle Transport"
    (Gao et al., 2020), arXiv 2012.06094.
    """
    d, gradient = value_and_gradient(logit, p, graph=True)
    (slope,) = torch.autograd.grad(loss.data(d).sum(), d, create_graph=True)
    return -0.5 * (slope * gradient.flatten(1).square().sum(1)).mean()


def one_centred_penalty(logit: Module, p: Tensor, q: Tensor, loss: RatioLoss, rng: torch.Generator) -> Tensor:
    """``E (|grad d(x)| - 1)^2 / 2`` at points x drawn uniformly between data ``p`` and particles ``q``, (N, *) each.

    "Improved Training of Wasserstein GANs" (Gulrajani et al., 2017), arXiv 1704.00028; on the logit, as the
    progressive-growing version of VGrow has it.
    """
    u = torch.rand(len(p), *[1] * (p.ndim - 1), generator=rng, device=p.device)
    _, gradient = value_and_gradient(logit, u * p + (1 - u) * q, graph=True)
    return 0.5 * (gradient.flatten(1).square().sum(1).add(1e-12).sqrt() - 1).square().mean()


PENALTIES: dict[str, Penalty] = {
    "r1": r1_penalty,
    "weighted": weighted_penalty,
    "one-centred": one_centred_penalty,
}
