"""What moves a particle: ``field(x, t) -> v`` with the shape of ``x``.

A field that depends on the whole set of particles is bound first and evaluated after: ``v = field.at(particles, t)``
freezes what it depends on, ``v(points)`` evaluates anywhere, and ``field(x, t)`` is ``field.at(x, t)(x)``.
"""

from collections.abc import Callable

from torch import Tensor

__all__ = ["Field"]


class Field:
    """A velocity that particles give themselves; a subclass gives ``at``."""

    def at(self, particles: Tensor, t: float | None = None) -> Callable[[Tensor], Tensor]:
        """The velocity that these particles (N, *) give, at any points (K, *); what changes later does not move it."""
        raise NotImplementedError

    def __call__(self, x: Tensor, t: float | None = None) -> Tensor:
        """The velocity of the particles ``x``, with their shape (N, *)."""
        return self.at(x, t)(x)
