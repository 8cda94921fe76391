"""What moves a particle: ``field(x, t) -> v`` with the shape of ``x``.

A field that depends on the whole set of particles is bound first and evaluated after: ``v = field.at(particles, t)``
freezes everything it depends on, ``v(points)`` evaluates anywhere, and ``field(x, t)`` is ``field.at(x, t)(x)``.
"""

from collections.abc import Callable

from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow._core.points import P, as_points, in_kind
from wasserflow.kernel.base import Kernel

__all__ = ["Field", "Velocity", "gentle_step"]

Velocity = Callable[[Tensor], Tensor]
"""A bound field: points (K, *) to velocities (K, *)."""


class Field:
    """A velocity of every particle; a subclass gives ``at``, and more if it has it.

    A field that pulls every particle to the nearest of some centres:

    .. code-block:: python

        class Nearest(wf.Field):
            def __init__(self, centres: Tensor) -> None:  # (K, d)
                self.centres = centres

            def at(self, particles: Tensor, t: float | None = None) -> Callable[[Tensor], Tensor]:
                return lambda points: self.centres[torch.cdist(points, self.centres).argmin(1)] - points

            def energy(self, particles: Tensor, t: float | None = None) -> Tensor:
                return torch.cdist(particles, self.centres).amin(1).square().mean() / 2

            def stable_step(self, particles: Tensor) -> float:
                return 0.5


        moved = wf.flow(x, Nearest(centres), steps=20)
    """

    adaptive: bool = False
    """Whether the stable step changes along a flow, which then asks for it at every step."""

    def at(self, particles: Tensor, t: float | None = None) -> Velocity:
        """The velocity that these particles (N, *) give, at any points (K, *); later changes do not affect it."""
        raise NotImplementedError

    def __call__(self, x: P, t: float | None = None) -> P:
        """The velocity of the particles ``x`` (a tensor, an array or a DataFrame), with their shape (N, *)."""
        points = as_points(x, "the array of particles")
        return in_kind(self.at(points, t)(points), x)

    def energy(self, particles: Tensor, t: float | None = None) -> Tensor | None:
        """What the field descends, a 0-dimensional tensor; None for a field without such a functional."""
        return None

    def stable_step(self, particles: Tensor) -> float:
        """A step size within the field's stable range for these particles (N, *), which `wasserflow.flow` takes."""
        raise UserError(f"{type(self).__name__} does not say its stable step: give `step_size`")

    def kernel_at(self, particles: Tensor) -> Kernel | None:
        """The field's kernel with the bandwidth that it has for these particles; None for a field without a kernel."""
        return None


def gentle_step(x: Tensor, velocity: Tensor) -> float:
    """The step size at which the fastest particle moves a tenth of the spread of the particles (N, *); at most 0.1."""
    fastest = velocity.flatten(1).norm(dim=1).max().item()
    return min(0.1, 0.1 * x.std(0).mean().item() / max(fastest, 1e-9))
