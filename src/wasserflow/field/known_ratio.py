"""The field of a known density ratio: ``s(d) grad d`` with ``d = log p/q`` given by a logit."""

from collections.abc import Callable
from functools import partial

from torch import Tensor
from torch.func import functional_call
from torch.nn import Module

from wasserflow._core.autograd import value_and_gradient
from wasserflow._core.points import P, as_points, in_kind
from wasserflow.divergence import Map, named
from wasserflow.field.base import Field, Velocity, gentle_step

__all__ = ["RatioField"]


class RatioField(Field):
    r"""``v(x) = s(d(x)) grad d(x) = grad h(d(x))`` with ``d = log p/q`` given by a logit.

    It is the velocity of the Wasserstein gradient flow of the divergence, and lowers KL(q|p) at the rate
    ``E_q[s(d) |grad d|^2]`` for every divergence (Gao et al., 2019, arXiv 1901.08469; Yi et al., 2023,
    arXiv 2302.01075).

    Args:
        logit: Gives ``d(x)``, shape (N,), for points (N, *), each independent of the others (no batch statistics);
            differentiable. `at` freezes the weights of a module; any other callable is used as it is.
        divergence: Row of `wasserflow.divergence`, or its name: it fixes ``s``.
    """

    def __init__(self, logit: Module | Callable[[Tensor], Tensor], divergence: Map | str) -> None:
        self.logit = logit
        self.divergence = named(divergence) if isinstance(divergence, str) else divergence

    def at(self, particles: Tensor, t: float | None = None) -> Velocity:
        """The velocity at any points (K, *) with the logit's present weights; the particles do not matter."""
        if not isinstance(self.logit, Module):
            return partial(_velocity, self.logit, self.divergence)
        logit = self.logit
        weights = {name: value.detach().clone() for name, value in (*logit.named_parameters(), *logit.named_buffers())}
        return partial(_velocity, lambda x: functional_call(logit, weights, (x,)), self.divergence)

    def __call__(self, x: P, t: float | None = None) -> P:
        """The velocity of the particles ``x``, with their shape (N, *); without a copy of the weights."""
        return in_kind(_velocity(self.logit, self.divergence, as_points(x, "the array of particles")), x)

    def stable_step(self, particles: Tensor) -> float:
        """The fastest particle moves a tenth of the particles' spread; at most 0.1."""
        particles = as_points(particles, "the array of particles")
        return gentle_step(particles, self(particles))


def _velocity(logit: Callable[[Tensor], Tensor], divergence: Map, points: Tensor) -> Tensor:
    d, gradient = value_and_gradient(logit, points)
    return divergence.rate(d).view(-1, *[1] * (points.ndim - 1)) * gradient
