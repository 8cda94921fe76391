"""What moves a particle: ``field(x, t) -> v`` with the shape of ``x``.

A field that depends on the whole set of particles is bound first and evaluated after: ``v = field.at(particles, t)``
freezes what it depends on, ``v(points)`` evaluates anywhere, and ``field(x, t)`` is ``field.at(x, t)(x)``.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import Module

from wasserflow.divergence import Map, named

__all__ = ["Field", "RatioField", "logit_and_gradient"]


def logit_and_gradient(logit: Module | Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """``d(x)`` with shape (N,), and ``grad_x d(x)`` with the shape of ``x``; no parameter gradients are filled."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        d = logit(x)
        (gradient,) = torch.autograd.grad(d.sum(), x)
    return d.detach(), gradient


class Field:
    """A velocity that particles give themselves; a subclass gives ``at``."""

    def at(self, particles: Tensor, t: float | None = None) -> Callable[[Tensor], Tensor]:
        """The velocity that these particles (N, *) give, at any points (K, *); what changes later does not move it."""
        raise NotImplementedError

    def __call__(self, x: Tensor, t: float | None = None) -> Tensor:
        """The velocity of the particles ``x``, with their shape (N, *)."""
        return self.at(x, t)(x)


class RatioField(Field):
    r"""``v(x) = s(d(x)) grad d(x) = grad h(d(x))`` with ``d = log p/q`` given by a logit.

    It is the velocity of the Wasserstein gradient flow of the divergence behind ``map``, and lowers KL(q|p) at the
    rate ``E_q[s(d) |grad d|^2]`` for every map (Gao et al., 2019, arXiv 1901.08469; Yi et al., 2023, arXiv 2302.01075).

    Args:
        logit: Gives ``d(x)``, shape (N,), for points (N, *), each on its own (no batch statistics); differentiable.
        map: Row of `wasserflow.divergence`, or its name.
    """

    def __init__(self, logit: Module | Callable[[Tensor], Tensor], map: Map | str) -> None:
        self.logit = logit
        self.map = named(map) if isinstance(map, str) else map

    def at(self, particles: Tensor, t: float | None = None) -> Callable[[Tensor], Tensor]:
        """The velocity anywhere; it depends on the particles through the logit alone."""
        return self._velocity

    def _velocity(self, points: Tensor) -> Tensor:
        d, gradient = logit_and_gradient(self.logit, points)
        return self.map.rate(d).view(-1, *[1] * (points.ndim - 1)) * gradient
