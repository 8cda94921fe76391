r"""f-divergences and monotone maps: one table, written on the logit.

Notation: p is the data, q the particles, ``d = log p/q`` the logit, ``r = p/q = exp(d)``, ``rho = q/p = exp(-d)``.
A particle moves along ``s(d) grad d`` with a positive rate ``s``. One scalar function fixes the rate, and there
are three equivalent ways to give it:

* ``F(q) = E_p f(q/p)``   (VGrow):     ``s = rho f''(rho)``
* ``F(q) = E_q g(p/q)``   (MonoFlow):  ``s = r^2 g''(r)``,  ``g(r) = r f(1/r)``
* ``h`` increasing        (MonoFlow):  ``s = h'(d)``,       ``h(log r) = r g'(r) - g(r) + const``

A generator that draws the flow minimises ``-E h(d(G(z)))``: every divergence GAN is one row of this table.

References:
    | Deep Generative Learning via Variational Gradient Flow (Gao et al., 2019), arXiv 1901.08469
    | MonoFlow: Rethinking Divergence GANs via the Perspective of Wasserstein Gradient Flows
      (Yi, Zhu & Liu, 2023), arXiv 2302.01075
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, log

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from wasserflow.errors import unknown

__all__ = ["CATALOGUE", "D_MAX", "NAMES", "Map", "named"]

Scalar = Callable[[Tensor], Tensor]

D_MAX = log(99)
"""Where an exponentially growing rate stops growing: Jeffreys' ``1 + e^d`` stays within [1, 100]."""


@dataclass(frozen=True)
class Map:
    r"""An increasing map ``h`` of the logit, and the f-divergence it comes from, where there is one.

    Outside ``bounds`` the rate keeps its value at the bound and ``h`` goes on linearly, so that ``h' = rate``
    holds everywhere and nothing overflows.

    Args:
        name: Its name in the table.
        formula_rate: ``s(d) = h'(d) > 0``, elementwise, within the bounds.
        formula_h: ``h(d)``, elementwise, within the bounds.
        f: ``f(rho)`` of the divergence ``E_p f(q/p)``; None where ``h`` has no closed-form divergence.
        estimate: The divergence's value from the logits of data and of particles, each ``(N,)``.
        bounds: The interval of ``d + shift`` on which the formulas are used as they are.
        shift: ``C`` in ``h(d + C)``.
        aliases: Other names of the same map.
    """

    name: str
    formula_rate: Scalar
    formula_h: Scalar
    f: Scalar | None = None
    estimate: Callable[[Tensor, Tensor], Tensor] | None = None
    bounds: tuple[float, float] = (-inf, inf)
    shift: float = 0.0
    aliases: tuple[str, ...] = ()

    def rate(self, d: Tensor) -> Tensor:
        """``s(d) = h'(d)``, positive and finite, with the shape and dtype of ``d``."""
        return self.formula_rate((d + self.shift).clamp(*self.bounds))

    def h(self, d: Tensor) -> Tensor:
        """``h(d)``, increasing, with the shape and dtype of ``d``."""
        d = d + self.shift
        inside = d.clamp(*self.bounds)
        return self.formula_h(inside) + self.formula_rate(inside) * (d - inside)

    def g(self, r: Tensor) -> Tensor:
        """The integrand over q, in ``r = p/q``, of the divergence that ``f`` integrates over p."""
        assert self.f is not None, f"{self.name} has no closed-form divergence"
        return r * self.f(1 / r)

    def shifted(self, shift: float) -> "Map":
        """The map ``h(d + C)``: no row's divergence any more (for ``js``: a skewed Jensen-Shannon)."""
        return replace(self, shift=shift, f=None, estimate=None) if shift else self


CATALOGUE = (
    Map(
        "kl",  # KL(q|p)
        torch.ones_like,
        lambda d: d,
        f=lambda rho: rho * rho.log(),
        estimate=lambda d_p, d_q: -d_q.mean(),
        aliases=("logit",),
    ),
    Map(
        "logd",  # KL(p+q|p) - 2 log 2
        lambda d: torch.sigmoid(-d),
        logsigmoid,
        f=lambda rho: (1 + rho) * torch.log1p(rho) - 2 * log(2),
        estimate=lambda d_p, d_q: softplus(-d_p).mean() + softplus(-d_q).mean() - 2 * log(2),
        aliases=("ns",),
    ),
    Map(
        "js",  # twice the Jensen-Shannon divergence, at most 2 log 2
        torch.sigmoid,
        softplus,
        f=lambda rho: rho * rho.log() - (1 + rho) * ((1 + rho) / 2).log(),
        estimate=lambda d_p, d_q: 2 * log(2) - softplus(-d_p).mean() - softplus(d_q).mean(),
        aliases=("vanilla",),
    ),
    Map(
        "jeffreys",  # KL(q|p) + KL(p|q)
        lambda d: 1 + d.exp(),
        lambda d: d + d.exp(),
        f=lambda rho: (rho - 1) * rho.log(),
        estimate=lambda d_p, d_q: d_p.mean() - d_q.mean(),
        bounds=(-inf, D_MAX),
    ),
    Map(
        "forward-kl",  # KL(p|q)
        torch.exp,
        torch.exp,
        f=lambda rho: -rho.log(),
        estimate=lambda d_p, d_q: d_p.mean(),
        bounds=(-inf, D_MAX),
        aliases=("mle",),
    ),
    Map(
        "chi2",  # E_q (p/q - 1)^2
        lambda d: 2 * (2 * d).exp(),
        lambda d: (2 * d).exp(),
        f=lambda rho: 1 / rho - 2 + rho,
        bounds=(-inf, D_MAX),
    ),
    Map(
        "pearson",  # E_p (q/p - 1)^2 / 2
        lambda d: (-d).exp(),
        lambda d: -(-d).exp(),
        f=lambda rho: (rho - 1).square() / 2,
        bounds=(-D_MAX, inf),
    ),
    Map(
        "hellinger",  # E_p (sqrt(q/p) - 1)^2
        lambda d: (d / 2).exp() / 2,
        lambda d: (d / 2).exp(),
        f=lambda rho: (rho.sqrt() - 1).square(),
        bounds=(-inf, D_MAX),
    ),
    Map("arcsinh", lambda d: (1 + d.square()).rsqrt(), torch.asinh),
    Map(
        "lsgan",  # least squares GAN, its output read as sigmoid(d)
        lambda d: 2 * torch.sigmoid(d) * torch.sigmoid(-d).square(),
        lambda d: -torch.sigmoid(-d).square(),
    ),
)

_BY_NAME = {name: row for row in CATALOGUE for name in (row.name, *row.aliases)}
NAMES = tuple(_BY_NAME)


def named(name: str) -> Map:
    """The row of the table with this name or alias.

    Raises:
        UserError: If there is none; it names the nearest ones.
    """
    if name not in _BY_NAME:
        raise unknown("divergence or map", name, NAMES)
    return _BY_NAME[name]
