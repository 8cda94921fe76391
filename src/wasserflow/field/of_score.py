r"""The fields that carry particles onto a target given by its score ``s = grad log p``, up to a factor of p.

* `SVGDField`, Stein variational gradient descent: ``v(z) = mean_j [k(x_j, z) s(x_j) + grad_{x_j} k(x_j, z)]``, the
  steepest descent of KL(q|p) among fields of the kernel's space; KL falls at the rate `ksd_squared`.
* `KSDField`, the flow of the kernel Stein discrepancy: ``v(z) = -2 mean_j grad_z k_p(z, x_j)``, the Wasserstein
  gradient flow of ``mean_ij k_p(x_i, x_j)``. It has an energy to watch, but can be caught between modes.

The target is a function of points (N, d): the score, with values (N, d), or the log-density up to a constant, with
values (N,), from which the score comes by autograd.
"""

from torch import Tensor

from wasserflow._core.points import flat
from wasserflow.discrepancy.stein import Density, SteinKernel, ksd_squared, radial_kernel, score_of, smooth_kernel
from wasserflow.field.base import Field, Velocity, gentle_step
from wasserflow.field.target import SKETCH
from wasserflow.kernel.base import Kernel
from wasserflow.kernel.radial import Gaussian, InverseMultiquadric, Radial

__all__ = ["KSDField", "SVGDField"]


class _ScoreField(Field):
    """What the two share: the target, the kernel, and steps that are short where the score is steep.

    Args:
        target: Score (N, d) or log density (N,) at points (N, d).
        kernel: A radial kernel.
    """

    def __init__(self, target: Density, kernel: Kernel) -> None:
        self.target, self.kernel = target, kernel

    def kernel_at(self, particles: Tensor) -> Radial:
        """The kernel with the bandwidth that it has for these particles (N, *), at time 0."""
        return radial_kernel(self.kernel, flat(particles), 0.0)

    def stable_step(self, particles: Tensor) -> float:
        """The fastest particle moves a tenth of the particles' spread; at most 0.1."""
        x = flat(particles)
        return gentle_step(x, self(x))


class SVGDField(_ScoreField):
    r"""``v(z) = mean_j [k(x_j, z) s(x_j) + grad_{x_j} k(x_j, z)]``: along the score, and away from each other.

    Args:
        target: Score (N, d) or log density (N,) at points (N, d).
        kernel: A radial kernel; by default the Gaussian of the published algorithm, with ``h = median^2 / log(N + 1)``
            for ``exp(-|x - y|^2 / h)`` chosen at each step.

    References:
        Stein Variational Gradient Descent: A General Purpose Bayesian Inference Algorithm (Liu and Wang, 2016),
        arXiv 1608.04471.
    """

    def __init__(self, target: Density, kernel: Kernel | None = None) -> None:
        super().__init__(target, kernel or Gaussian("median-log"))

    def at(self, particles: Tensor, t: float | None = None) -> Velocity:
        """The velocity that these particles (N, *) give, at any points (K, *)."""
        x = flat(particles)
        kernel, score = radial_kernel(self.kernel, x, t), score_of(self.target, x) / len(x)
        equal = x.new_full((len(x),), 1 / len(x))

        def velocity(points: Tensor) -> Tensor:
            z = flat(points)
            # For a radial kernel the gradient in the second argument is minus that in the first.
            return (kernel.combine(z, x, score) - kernel.gradient(z, x, equal)).view_as(points)

        return velocity


class KSDField(_ScoreField):
    r"""``v(z) = -2 mean_j grad_z k_p(z, x_j)``: the Wasserstein gradient flow of the squared kernel Stein discrepancy.

    Args:
        target: Score (N, d) or log density (N,) at points (N, d); differentiable, because its derivative is needed.
        kernel: A smooth radial kernel; by default ``(1 + |x - y|^2)^(-1/2)``.

    References:
        Kernel Stein Discrepancy Descent (Korba, Aubin-Frankowski, Majewski and Ablin, 2021), arXiv 2105.09994.
    """

    def __init__(self, target: Density, kernel: Kernel | None = None) -> None:
        super().__init__(target, kernel or InverseMultiquadric())

    def at(self, particles: Tensor, t: float | None = None) -> Velocity:
        """The velocity that these particles (N, *) give, at any points (K, *)."""
        x = flat(particles)
        stein = SteinKernel(self.target, smooth_kernel(self.kernel, x, t))
        weights = x.new_full((len(x),), -2 / len(x))
        return lambda points: stein.gradient(flat(points), x, weights).view_as(points)

    def energy(self, particles: Tensor, t: float | None = None) -> Tensor:
        """The squared kernel Stein discrepancy; of at most 10,000 particles, taken evenly."""
        x = flat(particles)[:: -(-len(particles) // SKETCH)]
        return ksd_squared(x, self.target, smooth_kernel(self.kernel, x, t)).detach()
