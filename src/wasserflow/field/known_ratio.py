"""The field of a known density ratio: ``s(d) grad d`` with ``d = log p/q`` given by a logit."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import Module

from wasserflow._core.autograd import value_and_gradient
from wasserflow.divergence import Map, named
from wasserflow.field.base import Field

__all__ = ["RatioField"]


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
        d, gradient = value_and_gradient(self.logit, points)
        return self.map.rate(d).view(-1, *[1] * (points.ndim - 1)) * gradient
